//! `.dockerignore`, and the patterns of `--exclude`: the rules of Docker's
//! matcher as BuildKit applies them while it walks.
//!
//! The last pattern that matches decides; a pattern that matches a directory
//! matches everything below it; `!` makes an exception. A pattern is looked at
//! only where it could change the answer so far, and what it said of a directory
//! is handed down: this is where the order of lines shows.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Error, Pattern, PatternError, read_inside};

/// The patterns of an ignore file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
    exceptions: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    exception: bool,
    /// In the file, counted from 1.
    line: usize,
    /// As written.
    text: String,
}

/// Which line of the ignore file hides something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Counted from 1.
    pub line: usize,
    /// As written.
    pub pattern: String,
}

/// What each pattern said of a directory, for its children. Empty at the root.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited(Vec<bool>);

/// What the patterns say of one path.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) excluded: bool,
    /// For the children, if it is a directory.
    pub(super) inherited: Inherited,
    decided_by: Option<usize>,
}

impl Ignore {
    /// Reads an ignore file. Lines that begin with `#` are comments; blanks
    /// around a pattern, a byte order mark, CRLF, and a leading `/` or `./` do
    /// not matter.
    ///
    /// # Errors
    /// When a line is not a pattern; the error names the line.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
        let mut ignore = Self::default();
        for (index, line) in text.split('\n').enumerate() {
            if line.starts_with('#') {
                continue;
            }
            ignore.add(line.trim(), index + 1).map_err(|source| Error::IgnorePattern {
                line: index + 1,
                pattern: line.trim().to_owned(),
                source,
            })?;
        }
        Ok(ignore)
    }

    /// The patterns of `--exclude`, by the same rules, but that a leading slash
    /// counts: paths have none, and so it matches nothing.
    ///
    /// # Errors
    /// When one is not a pattern.
    pub fn from_patterns(patterns: &[String]) -> Result<Self, Error> {
        let mut ignore = Self::default();
        for (index, pattern) in patterns.iter().enumerate() {
            ignore
                .add_clean(pattern.trim(), index + 1, clean_all)
                .map_err(|source| Error::SourcePattern { pattern: pattern.clone(), source })?;
        }
        Ok(ignore)
    }

    /// Whether `path` (relative, clean) is excluded.
    pub fn excluded(&self, path: &Path) -> bool {
        self.judge(path).excluded
    }

    /// The line that excludes `path`, if it is excluded.
    pub fn excluded_by(&self, path: &Path) -> Option<Ignored> {
        let verdict = self.judge(path);
        let rule = &self.rules[verdict.decided_by.filter(|_| verdict.excluded)?];
        Some(Ignored { line: rule.line, pattern: rule.text.clone() })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether there are exceptions, `!pattern`.
    pub fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// Whether an exception could bring back something below `directory`,
    /// which is excluded itself.
    pub(super) fn may_include_below(&self, directory: &Path) -> bool {
        let directory = directory.as_os_str().as_bytes();
        self.exceptions
            && self.rules.iter().any(|rule| rule.exception && rule.pattern.may_match_below(directory))
    }

    /// What the patterns say of `path`, given what they said of its parent.
    pub(super) fn step(&self, path: &Path, parent: &Inherited) -> Verdict {
        let bytes = path.as_os_str().as_bytes();
        let mut verdict = Verdict {
            excluded: false,
            inherited: Inherited(vec![false; self.rules.len()]),
            decided_by: None,
        };
        for (index, rule) in self.rules.iter().enumerate() {
            let inherited = parent.0.get(index).copied().unwrap_or(false);
            let decides = rule.exception == verdict.excluded;
            if inherited || (decides && rule.pattern.matches(bytes)) {
                verdict.inherited.0[index] = true;
                verdict.excluded = !rule.exception;
                verdict.decided_by = Some(index);
            }
        }
        verdict
    }

    fn judge(&self, path: &Path) -> Verdict {
        let mut verdict = Verdict { excluded: false, inherited: Inherited::default(), decided_by: None };
        let mut prefix = PathBuf::new();
        for component in path.components() {
            prefix.push(component);
            verdict = self.step(&prefix, &verdict.inherited);
        }
        verdict
    }

    /// `line` is trimmed.
    fn add(&mut self, line: &str, number: usize) -> Result<(), PatternError> {
        self.add_clean(line, number, normalise)
    }

    fn add_clean(
        &mut self,
        line: &str,
        number: usize,
        normalise: fn(&str) -> String,
    ) -> Result<(), PatternError> {
        if line.is_empty() {
            return Ok(());
        }
        let exception = line.starts_with('!');
        let pattern = normalise(line.strip_prefix('!').unwrap_or(line).trim());
        // Docker cleans `!/` to `!`, and a lone `!` has nothing to except.
        if exception && (pattern.is_empty() || pattern == "/") {
            return Err(PatternError::EmptyException);
        }
        self.exceptions |= exception;
        self.rules.push(Rule {
            pattern: Pattern::path(&pattern)?,
            exception,
            line: number,
            text: line.to_owned(),
        });
        Ok(())
    }
}

fn clean_all(pattern: &str) -> String {
    if pattern.is_empty() { String::new() } else { clean(pattern) }
}

/// Cleans as Go's `filepath.Clean` does, then drops the leading slash.
fn normalise(pattern: &str) -> String {
    if pattern.is_empty() {
        return String::new();
    }
    let clean = clean(pattern);
    match clean.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => clean,
    }
}

/// Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The ignore file of a build: `<dockerfile>.dockerignore` beside the
/// Dockerfile, else `.dockerignore` at the root of the context, else nothing.
/// A link counts only where it stays inside the context (or, for a Dockerfile
/// elsewhere, inside its directory): lines of another file must not end up in
/// an error message.
///
/// # Errors
/// When the file cannot be read, or a line of it is not a pattern.
pub fn ignore_file(context: &Path, dockerfile: Option<&Path>) -> Result<Ignore, Error> {
    if let Some(dockerfile) = dockerfile {
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        let beside = Path::new(&beside);
        let (root, inside) = match beside.strip_prefix(context) {
            Ok(inside) => (context, inside),
            Err(_) => (beside.parent().unwrap_or(context), Path::new(beside.file_name().unwrap_or_default())),
        };
        if let Some(text) = read_inside(root, inside)? {
            return Ignore::parse(&text);
        }
    }
    match read_inside(context, Path::new(".dockerignore"))? {
        Some(text) => Ignore::parse(&text),
        None => Ok(Ignore::default()),
    }
}

#[cfg(test)]
mod tests;
