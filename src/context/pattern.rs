//! One pattern: what Go's `filepath.Match` accepts, and the `**` that Docker's
//! pattern matcher adds for ignore files.
//!
//! A pattern runs as a small automaton, one step per character, so that no
//! pattern is slow whatever it is matched against. Names are bytes: where they
//! are not UTF-8, each stray byte counts as one character.

use thiserror::Error;

/// Why a text is not a pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// `[` without a `]`, an empty class, or a `-` without its ends.
    #[error("`[` does not begin a complete character class")]
    Class,
    /// A backslash with nothing after it.
    #[error("it ends in a backslash")]
    TrailingEscape,
    /// `!` with nothing after it.
    #[error("`!` stands alone")]
    EmptyException,
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    shape: Shape,
}

/// Most patterns are plain text, perhaps with `**` at one end: those compare
/// bytes and need no automaton.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    /// `**text`: a path that ends in `text`. Docker's matcher takes `**foo` for
    /// any path that ends in `foo`, also within a name.
    Suffix(Vec<u8>),
    Automaton,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(u32),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**` before more: nothing, or any directories.
    Directories,
    /// `**` at the end: everything.
    Everything,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

const SLASH: u32 = '/' as u32;

impl Pattern {
    /// Compiles a pattern as Go's `filepath.Match` reads it: `**` is `*`.
    ///
    /// # Errors
    /// When the syntax is wrong; all of it is checked.
    pub fn element(text: &str) -> Result<Self, PatternError> {
        let tokens = tokens(text, false)?;
        let shape = literal(&tokens).map_or(Shape::Automaton, Shape::Exact);
        Ok(Self { tokens, shape })
    }

    /// Compiles a pattern as Docker's matcher reads it: `**` spans directories.
    /// `text` is clean: no trailing slash, no `.` elements.
    ///
    /// # Errors
    /// When the syntax is wrong.
    pub fn path(text: &str) -> Result<Self, PatternError> {
        let tokens = tokens(text, true)?;
        let shape = path_shape(text, &tokens);
        Ok(Self { tokens, shape })
    }

    /// Whether it was compiled from nothing, and matches nothing but the empty name.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether it matches the whole of `name`.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact(text) => name == text,
            Shape::Prefix(text) => name.starts_with(text),
            Shape::Suffix(text) => name.ends_with(text) || text.strip_prefix(b"/") == Some(name),
            Shape::Automaton => self.run(name).accepts(self.tokens.len()),
        }
    }

    /// Whether some path below `directory` could match.
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        match &self.shape {
            Shape::Suffix(_) => true,
            _ => {
                let mut prefix = directory.to_vec();
                prefix.push(b'/');
                let states = self.run(&prefix);
                states.alive(self.tokens.len())
            }
        }
    }

    fn run(&self, name: &[u8]) -> States {
        let mut states = States::start(&self.tokens);
        for unit in units(name) {
            states = states.step(&self.tokens, unit);
        }
        states
    }
}

/// `at[i]`: the tokens before `i` are done. `inside[i]`: within the directories
/// that token `i` spans, so that only a slash leads on.
struct States {
    at: Vec<bool>,
    inside: Vec<bool>,
}

impl States {
    fn start(tokens: &[Token]) -> Self {
        let mut states = Self::empty(tokens);
        states.enter(tokens, 0);
        states
    }

    fn empty(tokens: &[Token]) -> Self {
        Self { at: vec![false; tokens.len() + 1], inside: vec![false; tokens.len()] }
    }

    /// Marks `index`, and what can be reached from there without a character.
    fn enter(&mut self, tokens: &[Token], mut index: usize) {
        loop {
            self.at[index] = true;
            match tokens.get(index) {
                Some(Token::Star | Token::Directories | Token::Everything) => index += 1,
                _ => return,
            }
        }
    }

    fn step(&self, tokens: &[Token], unit: u32) -> Self {
        let mut next = Self::empty(tokens);
        for (index, token) in tokens.iter().enumerate() {
            let spans = matches!(token, Token::Directories) && (self.at[index] || self.inside[index]);
            if spans {
                next.inside[index] = true;
                if unit == SLASH {
                    next.enter(tokens, index + 1);
                }
            } else if self.at[index] {
                match token {
                    Token::Star if unit != SLASH => next.enter(tokens, index),
                    Token::Everything => next.enter(tokens, index),
                    other if other.takes(unit) => next.enter(tokens, index + 1),
                    _ => {}
                }
            }
        }
        next
    }

    fn accepts(&self, end: usize) -> bool {
        self.at[end]
    }

    /// Whether more characters could lead to a match: any state but the end.
    fn alive(&self, end: usize) -> bool {
        self.at[..end].contains(&true) || self.inside.contains(&true)
    }
}

impl Token {
    /// Whether this token is exactly `unit`.
    fn takes(&self, unit: u32) -> bool {
        match self {
            Self::Literal(own) => *own == unit,
            Self::One => unit != SLASH,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&unit)) != *negated
            }
            Self::Star | Self::Directories | Self::Everything => false,
        }
    }
}

/// Characters, with stray bytes as surrogates, which no character is.
fn units(text: &[u8]) -> impl Iterator<Item = u32> + '_ {
    text.utf8_chunks().flat_map(|chunk| {
        let stray = chunk.invalid().iter().map(|byte| 0xDC00 + u32::from(*byte));
        chunk.valid().chars().map(u32::from).chain(stray)
    })
}

fn literal(tokens: &[Token]) -> Option<Vec<u8>> {
    let mut text = String::new();
    for token in tokens {
        match token {
            Token::Literal(unit) => text.push(char::from_u32(*unit)?),
            _ => return None,
        }
    }
    Some(text.into_bytes())
}

fn path_shape(text: &str, tokens: &[Token]) -> Shape {
    if let Some(text) = literal(tokens) {
        return Shape::Exact(text);
    }
    if let Some(rest) = text.strip_prefix("**")
        && !rest.contains(['*', '?', '[', ']', '\\'])
    {
        return Shape::Suffix(rest.as_bytes().to_vec());
    }
    match tokens.split_last() {
        Some((Token::Everything, before)) => literal(before).map_or(Shape::Automaton, Shape::Prefix),
        _ => Shape::Automaton,
    }
}

fn tokens(text: &str, spanning: bool) -> Result<Vec<Token>, PatternError> {
    let mut rest = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(next) = rest.next() {
        tokens.push(match next {
            '*' => star(&mut rest, spanning),
            '?' => Token::One,
            '[' => class(&mut rest)?,
            '\\' => Token::Literal(rest.next().ok_or(PatternError::TrailingEscape)?.into()),
            other => Token::Literal(other.into()),
        });
    }
    Ok(tokens)
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn star(rest: &mut Rest<'_>, spanning: bool) -> Token {
    if !spanning || rest.next_if_eq(&'*').is_none() {
        return Token::Star;
    }
    rest.next_if_eq(&'/');
    match rest.peek() {
        Some(_) => Token::Directories,
        None => Token::Everything,
    }
}

/// The inside of `[…]`, by Go's rules: at least one range, no bare `-`, and a
/// `]` that belongs to the class is escaped.
fn class(rest: &mut Rest<'_>) -> Result<Token, PatternError> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_end(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_end(rest)? } else { low };
        ranges.push((low, high));
    }
}

fn class_end(rest: &mut Rest<'_>) -> Result<u32, PatternError> {
    match rest.next() {
        None | Some('-' | ']') => Err(PatternError::Class),
        Some('\\') => rest.next().map(u32::from).ok_or(PatternError::Class),
        Some(other) => Ok(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: Option<bool>) {
        let found = Pattern::element(pattern).ok().map(|pattern| pattern.matches(name.as_bytes()));
        assert_eq!(found, expected, "`{pattern}` on `{name}`");
    }

    /// Go's documentation of `filepath.Match`, case by case.
    #[test]
    fn matches_as_go_does() {
        let yes = Some(true);
        let no = Some(false);
        for (pattern, name, expected) in [
            ("abc", "abc", yes),
            ("", "", yes),
            ("", "a", no),
            ("*", "abc", yes),
            ("*", "", yes),
            ("*c", "abc", yes),
            ("a*", "a", yes),
            ("a*", "abc", yes),
            ("a*", "ab/c", no),
            ("a*/b", "abc/b", yes),
            ("a*/b", "a/c/b", no),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", yes),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", yes),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", no),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", no),
            ("a*b?c*x", "abxbbxdbxebxczzx", yes),
            ("a*b?c*x", "abxbbxdbxebxczzy", no),
            ("ab[c]", "abc", yes),
            ("ab[b-d]", "abc", yes),
            ("ab[e-g]", "abc", no),
            ("ab[^c]", "abc", no),
            ("ab[^b-d]", "abc", no),
            ("ab[^e-g]", "abc", yes),
            ("a\\*b", "a*b", yes),
            ("a\\*b", "ab", no),
            ("a?b", "a☺b", yes),
            ("a[^a]b", "a☺b", yes),
            ("a???b", "a☺b", no),
            ("a[^a][^a][^a]b", "a☺b", no),
            ("[a-ζ]*", "α", yes),
            ("*[a-ζ]", "A", no),
            ("a?b", "a/b", no),
            ("a*b", "a/b", no),
            ("[\\]a]", "]", yes),
            ("[\\-]", "-", yes),
            ("[x\\-]", "x", yes),
            ("[x\\-]", "-", yes),
            ("[x\\-]", "z", no),
            ("[\\-x]", "x", yes),
            ("[\\-x]", "a", no),
            ("[[]", "[", yes),
            ("[*]", "*", yes),
            ("[*]", "a", no),
            ("**", "ab", yes),
            ("**", "a/b", no),
            ("*x", "xxx", yes),
            ("]", "]", yes),
            ("[b-a]", "a", no),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[-x]", "x", None),
            ("\\", "a", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[^bc", "a", None),
            ("a[", "a", None),
            ("a[", "ab", None),
            ("x*[", "a", None),
        ] {
            check(pattern, name, expected);
        }
    }

    #[test]
    fn a_stray_byte_is_one_character() {
        let pattern = Pattern::element("a?b").unwrap();
        assert!(pattern.matches(b"a\xffb"));
        assert!(!pattern.matches(b"a\xff\xfeb"));
        assert!(!Pattern::element("[^a]").unwrap().matches(b"\xff\xfe"));
    }

    #[test]
    fn no_pattern_is_slow() {
        assert!(!Pattern::path(&"*a".repeat(100)).unwrap().matches(&b"ab".repeat(2_000)));
        assert!(!Pattern::path(&"**/a/".repeat(100)).unwrap().matches(&b"b/".repeat(2_000)));
    }

    #[test]
    fn tells_what_may_lie_below() {
        for (pattern, directory, expected) in [
            ("a/b", "a", true),
            ("a/b", "b", false),
            ("a/b", "a/b", false),
            ("a/*", "a", true),
            ("a/*", "a/b", false),
            ("**/x", "any/where", true),
            ("a/**/x", "a/b/c", true),
            ("a/**/x", "b", false),
            ("a*/x", "abc", true),
            ("a*/x", "bbc", false),
            ("a/**", "a/b", true),
            ("*.md", "docs", false),
            ("[ab]/x", "a", true),
        ] {
            let compiled = Pattern::path(pattern).unwrap();
            assert_eq!(
                compiled.may_match_below(directory.as_bytes()),
                expected,
                "`{pattern}` in `{directory}`"
            );
        }
    }
}
