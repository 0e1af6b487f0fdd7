//! The lexer behind [`super::expand`]: one pass over the characters,
//! recursive where `${…}` nests.

use std::iter::Peekable;
use std::str::Chars;

use super::pattern::Pattern;
use super::{Lookup, WordError};

/// `${a:-${b:-…}}`: how many may stand inside one another.
pub(super) const DEPTH_LIMIT: usize = 100;
/// How much one word may expand to. Doubling variables (`ENV a=$a$a`) would
/// otherwise fill the memory in a few dozen lines.
pub(super) const SIZE_LIMIT: usize = 16 << 20;

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub(in crate::dockerfile) struct Lexer {
    /// Hides the meaning of the next character.
    pub(in crate::dockerfile) escape: char,
    /// Quotes mean nothing.
    pub(in crate::dockerfile) plain_quotes: bool,
    /// Quotes mean what they mean, and stay in the result.
    pub(in crate::dockerfile) keep_quotes: bool,
    /// Escape characters stay in the result.
    pub(in crate::dockerfile) keep_escapes: bool,
    /// Variables without a value stay as written.
    pub(in crate::dockerfile) keep_unset: bool,
    /// Blanks after `<<` belong to the word.
    pub(in crate::dockerfile) heredocs: bool,
}

/// The result in both shapes.
#[derive(Debug, Default)]
pub(in crate::dockerfile) struct Expanded {
    /// Unsplit.
    pub(in crate::dockerfile) text: String,
    /// Split at blanks.
    pub(in crate::dockerfile) words: Vec<String>,
}

impl Lexer {
    /// Quotes and escapes removed, unset variables empty.
    pub(in crate::dockerfile) fn new(escape: char) -> Self {
        Self {
            escape,
            plain_quotes: false,
            keep_quotes: false,
            keep_escapes: false,
            keep_unset: false,
            heredocs: false,
        }
    }

    /// Reads a whole text.
    pub(in crate::dockerfile) fn run(self, text: &str, lookup: Lookup<'_>) -> Result<Expanded, WordError> {
        let mut reader = Reader { lexer: self, input: text.chars().peekable(), lookup, depth: 0 };
        let output = reader.until(None, self.keep_escapes)?;
        Ok(output.finish())
    }
}

/// Collects the result, unsplit and split at once.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    /// A character that separates words if it is a blank.
    fn push(&mut self, character: char) {
        self.text.push(character);
        if !character.is_whitespace() {
            self.word.push(character);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// A character that belongs to the word whatever it is.
    fn push_quoted(&mut self, character: char) {
        self.text.push(character);
        self.word.push(character);
    }

    fn push_all(&mut self, text: &str) {
        text.chars().for_each(|character| self.push(character));
    }

    fn push_all_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn finish(mut self) -> Expanded {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        Expanded { text: self.text, words: self.words }
    }
}

struct Reader<'a> {
    lexer: Lexer,
    input: Peekable<Chars<'a>>,
    lookup: Lookup<'a>,
    depth: usize,
}

impl Reader<'_> {
    /// Reads up to a stop character (consumed, not part of the result) or,
    /// without one, to the end.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<Output, WordError> {
        let mut output = Output::default();
        while let Some(&next) = self.input.peek() {
            if Some(next) == stop {
                self.input.next();
                return Ok(output);
            }
            self.one(next, keep_escapes, &mut output)?;
            if output.text.len() > SIZE_LIMIT {
                return Err(WordError::TooLong);
            }
        }
        match stop {
            None => Ok(output),
            Some(_) => Err(WordError::OpenBrace),
        }
    }

    /// One character, quotation or variable outside quotes.
    fn one(&mut self, next: char, keep_escapes: bool, output: &mut Output) -> Result<(), WordError> {
        match next {
            '$' => output.push_all(&self.dollar()?),
            '\'' if !self.lexer.plain_quotes => output.push_all_quoted(&self.single_quoted()?),
            '"' if !self.lexer.plain_quotes => output.push_all_quoted(&self.double_quoted(keep_escapes)?),
            '<' if self.lexer.heredocs => output.push_all_quoted(&self.angles()),
            _ => self.plain(keep_escapes, output),
        }
        Ok(())
    }

    /// A character without a meaning of its own, or an escaped one.
    fn plain(&mut self, keep_escapes: bool, output: &mut Output) {
        let Some(character) = self.input.next() else { return };
        if character != self.lexer.escape {
            output.push(character);
            return;
        }
        if keep_escapes {
            output.push_quoted(character);
        }
        // An escape character at the very end hides nothing and vanishes.
        if let Some(hidden) = self.input.next() {
            output.push_quoted(hidden);
        }
    }

    /// `<`, `<<` or `<<-`, and the blanks after it, so that `<< EOF` is one word.
    fn angles(&mut self) -> String {
        let mut result = String::new();
        result.extend(self.input.next());
        if self.input.peek() == Some(&'<') {
            result.extend(self.input.next());
            result.extend(self.input.next_if_eq(&'-'));
            while let Some(blank) = self.input.next_if(|c| c.is_whitespace()) {
                result.push(blank);
            }
        }
        result
    }

    fn single_quoted(&mut self) -> Result<String, WordError> {
        let mut result = self.quote('\'');
        loop {
            match self.input.next() {
                None => return Err(WordError::OpenQuote('\'')),
                Some('\'') => break,
                Some(character) => result.push(character),
            }
        }
        if self.lexer.keep_quotes {
            result.push('\'');
        }
        Ok(result)
    }

    fn double_quoted(&mut self, keep_escapes: bool) -> Result<String, WordError> {
        let mut result = self.quote('"');
        loop {
            match self.input.peek() {
                None => return Err(WordError::OpenQuote('"')),
                Some('"') => break,
                Some('$') => result.push_str(&self.dollar()?),
                Some(_) => self.inside_double_quotes(keep_escapes, &mut result),
            }
            if result.len() > SIZE_LIMIT {
                return Err(WordError::TooLong);
            }
        }
        result.push_str(&self.quote('"'));
        Ok(result)
    }

    /// In double quotes the escape character hides only what has a meaning
    /// there; before anything else it stays.
    fn inside_double_quotes(&mut self, keep_escapes: bool, result: &mut String) {
        let Some(character) = self.input.next() else { return };
        if character != self.lexer.escape {
            result.push(character);
            return;
        }
        if keep_escapes {
            result.push(character);
        }
        let escape = self.lexer.escape;
        match self.input.next_if(|next| matches!(next, '"' | '$') || *next == escape) {
            Some(hidden) => result.push(hidden),
            None if self.input.peek().is_none() => {}
            None => result.push(character),
        }
    }

    /// Consumes a quote; gives it back as text if quotes are kept.
    fn quote(&mut self, quote: char) -> String {
        self.input.next();
        if self.lexer.keep_quotes { quote.to_string() } else { String::new() }
    }

    /// `$…`, whatever follows.
    fn dollar(&mut self) -> Result<String, WordError> {
        self.input.next();
        if self.input.next_if_eq(&'{').is_some() {
            if self.depth == DEPTH_LIMIT {
                return Err(WordError::TooDeep);
            }
            self.depth += 1;
            let result = self.braces();
            self.depth -= 1;
            return result;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match (self.lookup)(&name) {
            None if self.lexer.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// After `${`.
    fn braces(&mut self) -> Result<String, WordError> {
        match self.input.peek() {
            None => return Err(WordError::OpenBrace),
            Some('{' | '}' | ':') => return Err(WordError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mark) = self.input.next() else { return Err(WordError::OpenBrace) };
        match mark {
            '}' => match (self.lookup)(&name) {
                None if self.lexer.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            ':' => match self.input.next() {
                Some(mark @ ('-' | '+' | '?')) => self.alternative(name, mark, true),
                Some(mark) => Err(WordError::UnknownModifier { name, modifier: format!(":{mark}") }),
                None => Err(WordError::OpenBrace),
            },
            '-' | '+' | '?' => self.alternative(name, mark, false),
            '#' | '%' => self.trimmed(&name, mark),
            '/' => self.replaced(name),
            _ => Err(WordError::UnknownModifier { name, modifier: mark.to_string() }),
        }
    }

    /// `-`, `+` and `?`, with or without a colon before them.
    fn alternative(&mut self, name: String, mark: char, empty_counts: bool) -> Result<String, WordError> {
        let word = self.until(Some('}'), false)?.text;
        let value = (self.lookup)(&name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if empty_counts { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{mark}{word}}}"));
        }
        let present = value.as_ref().is_some_and(|value| !(empty_counts && value.is_empty()));
        match (mark, value) {
            ('+', _) => Ok(if present { word } else { String::new() }),
            (_, Some(value)) if present => Ok(value),
            ('-', _) => Ok(word),
            (_, value) => Err(required(name, word, value.is_some())),
        }
    }

    /// `#` and `%`, single or double.
    fn trimmed(&mut self, name: &str, mark: char) -> Result<String, WordError> {
        let word = self.until(Some('}'), true)?.text;
        let Some(value) = (self.lookup)(name) else {
            return Ok(if self.lexer.keep_unset {
                format!("${{{name}{mark}{word}}}")
            } else {
                String::new()
            });
        };
        let (longest, pattern) = match word.strip_prefix(mark) {
            Some(pattern) => (true, pattern),
            None => (false, word.as_str()),
        };
        let pattern = Pattern::parse(pattern)?;
        Ok(match mark {
            '#' => pattern.without_prefix(&value, longest),
            _ => pattern.without_suffix(&value, longest),
        })
    }

    /// `/` and `//`.
    fn replaced(&mut self, name: String) -> Result<String, WordError> {
        let every = self.input.next_if_eq(&'/').is_some();
        let pattern = match self.until(Some('/'), true) {
            Ok(output) => output.text,
            Err(WordError::OpenBrace) => return Err(WordError::OpenPattern(name)),
            Err(error) => return Err(error),
        };
        let replacement = self.until(Some('}'), true)?.text;
        let value = (self.lookup)(&name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let pattern = Pattern::parse(&pattern)?;
        pattern.replace(&value.unwrap_or_default(), &replacement, every, SIZE_LIMIT).ok_or(WordError::TooLong)
    }

    /// A variable's name; a number; or one special character, as in `$?`.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.input.peek() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.input.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.input.next()),
            _ => {
                while let Some(part) =
                    self.input.next_if(|c| c.is_alphabetic() || c.is_ascii_digit() || *c == '_')
                {
                    name.push(part);
                }
            }
        }
        name
    }
}

fn required(name: String, message: String, is_set: bool) -> WordError {
    let message = match (message.is_empty(), is_set) {
        (false, _) => format!("is required: {message}"),
        (true, true) => "must not be empty".to_owned(),
        (true, false) => "must be set".to_owned(),
    };
    WordError::Required { name, message }
}
