//! Places in a Dockerfile, and what is to be said about them.

/// A place: 1-based line and column (column in characters, not bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
}

/// From the first character to just past the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First character.
    pub start: Position,
    /// Just past the last character.
    pub end: Position,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The build goes on.
    Warning,
    /// The build is refused.
    Error,
}

/// One thing to say about one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The name of the build check, for warnings that have one (`StageNameCasing`).
    pub check: Option<&'static str>,
    /// Lower case, no full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Something the build is refused for.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, check: None, message: message.into(), span, hint: None }
    }

    /// Something the build goes on after. `check` is the name of BuildKit's
    /// build check; `""` for a warning that has none.
    pub fn warning(check: &'static str, span: Span, message: impl Into<String>) -> Self {
        let check = (!check.is_empty()).then_some(check);
        Self { severity: Severity::Warning, check, message: message.into(), span, hint: None }
    }

    /// Adds what to do about it: lower case, no full stop.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A Dockerfile's name and text, for drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// Decoded text, without byte order mark.
    pub text: String,
}

/// User text for use in a message: long ones are cut.
pub(super) fn shown(text: &str) -> String {
    const LIMIT: usize = 60;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
