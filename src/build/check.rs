//! The build check that needs the context: a COPY of what the ignore file hides.

use crate::context::Ignore;
use crate::dockerfile::{Checks, Diagnostic};
use crate::plan::ContextSource;

/// `CopyIgnoredFile`, where it is wanted: it is off unless the Dockerfile or
/// `BUILDKIT_DOCKERFILE_CHECK` asks for it.
pub fn ignored_sources(checks: &Checks, ignore: &Ignore, sources: &[ContextSource]) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = sources.iter().filter_map(|source| finding(ignore, source)).collect();
    checks.apply(&mut found);
    found.dedup();
    found
}

fn finding(ignore: &Ignore, source: &ContextSource) -> Option<Diagnostic> {
    let path: std::path::PathBuf = std::path::Path::new(&source.path)
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect();
    // As in BuildKit a pattern is looked at as a name, and exceptions make it too hard to say.
    if path.as_os_str().is_empty() || ignore.has_exceptions() {
        return None;
    }
    let hidden = ignore.excluded_by(&path)?;
    let message = format!("`{}` is hidden by line {} of the ignore file", source.path, hidden.line);
    let hint = format!("take `{}` out of it, or do not copy the file", hidden.pattern);
    Some(Diagnostic::warning("CopyIgnoredFile", source.span, message).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Severity, Span};

    #[test]
    fn hidden_sources_are_named_where_that_is_wanted() {
        let check_with = |ignore: &[u8], checks: &str, path: &str, expected: Option<Severity>| {
            let ignore = Ignore::parse(ignore).unwrap();
            let source = ContextSource { path: path.to_owned(), span: Span::default() };
            let found = ignored_sources(&Checks::parse(checks).unwrap(), &ignore, &[source]);
            assert_eq!(found.first().map(|found| found.severity), expected, "{checks} {path}");
        };
        let check = |checks: &str, path: &str, expected: Option<Severity>| {
            check_with(b"secret\n*.log\n", checks, path, expected);
        };
        let on = "experimental=all";
        check("", "secret", None);
        check(on, "secret", Some(Severity::Warning));
        check(on, "/secret/key", Some(Severity::Warning));
        check(on, "./a.log", Some(Severity::Warning));
        check(on, "keep.md", None);
        check(on, "*.log", Some(Severity::Warning));
        check_with(b"secret\n!secret/x\n", on, "secret", None);
        check(on, ".", None);
        check("experimental=CopyIgnoredFile;error=true", "secret", Some(Severity::Error));
    }
}
