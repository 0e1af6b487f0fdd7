//! Quotes, escapes and variables: the small shell language inside arguments.
//!
//! The rules are those of BuildKit's `shell` package, not of a POSIX shell:
//! `'…'` takes everything as it is, `"…"` expands variables and lets the
//! escape character hide `"`, `$` and itself, outside quotes the escape
//! character hides whatever follows. An unset variable expands to nothing.
//!
//! | written                  | result                                            |
//! |--------------------------|---------------------------------------------------|
//! | `$v` `${v}`              | the value                                         |
//! | `${v:-w}` `${v-w}`       | `w` when unset or empty / unset                   |
//! | `${v:+w}` `${v+w}`       | `w` when set and not empty / set                  |
//! | `${v:?m}` `${v?m}`       | an error saying `m` when unset or empty / unset   |
//! | `${v#p}` `${v##p}`       | without the shortest / longest matching prefix    |
//! | `${v%p}` `${v%%p}`       | without the shortest / longest matching suffix    |
//! | `${v/p/r}` `${v//p/r}`   | the first / every match replaced                  |
//!
//! `w`, `m`, `p` and `r` may hold variables themselves. Patterns know `*` and
//! `?` only, and neither matches a newline.

mod expand;
mod pattern;

pub(super) use expand::Lexer;

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote is never closed.
    #[error("no closing `{0}`")]
    OpenQuote(char),
    /// `${…` is never closed.
    #[error("`${{` without a closing `}}`")]
    OpenBrace,
    /// `${v/pattern` without the second slash.
    #[error("`${{{0}/` needs a second `/` before the replacement")]
    OpenPattern(String),
    /// `${}`, `${:…`, `${{…`.
    #[error("`${{` must be followed by the name of a variable")]
    NoName,
    /// A modifier that the language does not have.
    #[error("`{modifier}` after `${{{name}` is not a known modifier")]
    UnknownModifier {
        /// The variable.
        name: String,
        /// What follows it.
        modifier: String,
    },
    /// `${v?message}` and `${v:?message}`, and `v` has no value.
    #[error("variable `{name}` {message}")]
    Required {
        /// The variable.
        name: String,
        /// `is not set`, `is empty`, or what the Dockerfile says, after a colon.
        message: String,
    },
    /// A pattern that cannot be read.
    #[error("pattern `{pattern}`: {reason}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Modifiers inside modifiers, too many of them.
    #[error("more than {} `${{` inside one another", expand::DEPTH_LIMIT)]
    TooDeep,
    /// The result is larger than anything a Dockerfile may sensibly say.
    #[error("expands to more than {} bytes", expand::SIZE_LIMIT)]
    TooLong,
}

/// Where values come from: `None` means unset, `Some("")` set but empty.
pub type Lookup<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// Removes quotes and expands variables, for one value. Blanks are kept.
///
/// # Errors
/// See [`WordError`].
pub fn expand(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, WordError> {
    Ok(Lexer::new(escape).run(text, lookup)?.text)
}

/// The same, split at unquoted blanks; also at those that come out of an
/// unquoted variable. Words that end up empty are dropped, quoted or not.
///
/// # Errors
/// See [`WordError`].
pub fn expand_words(text: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>, WordError> {
    Ok(Lexer::new(escape).run(text, lookup)?.words)
}

/// For heredoc bodies of COPY and ADD: variables are expanded and escapes
/// processed, quotes are ordinary characters. BuildKit passes a backslash as
/// `escape` here whatever the `# escape=` directive says.
///
/// # Errors
/// See [`WordError`].
pub fn expand_heredoc(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, WordError> {
    Ok(Lexer { plain_quotes: true, ..Lexer::new(escape) }.run(text, lookup)?.text)
}

#[cfg(test)]
mod tests;
