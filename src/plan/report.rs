//! Collects what is to be said, so that one mistake does not hide the next.

use crate::dockerfile::{Checks, Diagnostic, Dockerfile, Severity, Span};

use super::Options;

/// Diagnostics in the order of finding.
#[derive(Debug, Default)]
pub(super) struct Report {
    diagnostics: Vec<Diagnostic>,
    /// Where everything is said to be, for texts that are not in the Dockerfile.
    place: Option<Span>,
    /// What is being looked at reads a value that only a missing base config can tell.
    uncertain: bool,
}

impl Report {
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(span, message));
    }

    pub(super) fn warning(&mut self, check: &'static str, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::warning(check, span, message));
    }

    pub(super) fn push(&mut self, mut diagnostic: Diagnostic) {
        if let Some(place) = self.place {
            diagnostic.span = place;
        }
        self.diagnostics.push(diagnostic);
    }

    /// The value as it is, or its failure said at `span`.
    pub(super) fn take<T, E: std::fmt::Display>(&mut self, span: Span, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.error(span, error.to_string())).ok()
    }

    pub(super) fn doubt(&mut self) {
        self.uncertain = true;
    }

    /// Runs `look` with everything said at `place`, if there is one. What it said is
    /// dropped when it rested on an unknown value; then the answer is true.
    pub(super) fn looking_at(&mut self, place: Option<Span>, look: impl FnOnce(&mut Self)) -> bool {
        let before = self.diagnostics.len();
        self.place = place;
        self.uncertain = false;
        look(self);
        self.place = None;
        if self.uncertain {
            self.diagnostics.truncate(before);
        }
        self.uncertain
    }

    /// Sorted, without repetitions, with the wishes about checks applied.
    pub(super) fn finish(mut self, checks: &Checks) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        checks.apply(&mut self.diagnostics);
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.check));
        self.diagnostics.dedup();
        let failed = self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        if failed { Err(self.diagnostics) } else { Ok(self.diagnostics) }
    }
}

/// The build argument wins over the directive, as in BuildKit.
pub(super) fn checks(dockerfile: &Dockerfile, options: &Options, report: &mut Report) -> Checks {
    if let Some(text) = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
        return report.take(Span::default(), Checks::parse(text)).unwrap_or_default();
    }
    // A wrong directive is for the parser to say.
    let directive = dockerfile.directives.check.as_ref();
    directive.and_then(|(text, _)| Checks::parse(text).ok()).unwrap_or_default()
}
