//! From text to syntax tree.
use super::ast::{Dockerfile, Instruction};
use super::span::Diagnostic;

/// What [`parse`] understood, and everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What was understood: instructions that are wrong are missing.
    pub dockerfile: Dockerfile,
    /// Errors and warnings, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a Dockerfile; `# check=` decides about warnings.
pub fn parse(name: &str, text: &[u8]) -> Parsed {
    parse_checked(name, text, None)
}

/// The same with the value of `BUILDKIT_DOCKERFILE_CHECK` in place of `# check=`.
pub fn parse_checked(_name: &str, _text: &[u8], _checks: Option<&str>) -> Parsed {
    unimplemented!()
}

/// Parses one ONBUILD trigger of a base image.
///
/// # Errors
/// Everything that is wrong with it, with places in the trigger's text.
pub fn parse_trigger(_text: &str) -> Result<Instruction, Vec<Diagnostic>> {
    unimplemented!()
}

/// Whether a RUN's shell text is one heredoc and nothing else (`RUN <<EOF`):
/// then the body is the script. Otherwise a command reads the bodies, and the
/// shell wants the text followed by them.
pub fn is_sole_heredoc(_shell: &str) -> bool {
    unimplemented!()
}
