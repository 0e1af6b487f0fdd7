//! `coracle check`: a Dockerfile's diagnostics, drawn. Reads one file, opens
//! nothing else, needs no sandbox and no state directory.

use std::io::Write;

use super::arguments::CheckArguments;
use super::context::read_dockerfile;
use super::failure::Failure;
use crate::dockerfile::{self, Severity};

/// Draws every diagnostic on `out`.
///
/// # Errors
/// When the file cannot be read or has errors.
pub(super) fn run(arguments: &CheckArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let (name, text) = read_dockerfile(&arguments.context, arguments.file.as_deref())?;
    let parsed = dockerfile::parse(&name, &text);
    for diagnostic in &parsed.diagnostics {
        let drawn = diagnostic.render(&parsed.dockerfile.source);
        writeln!(out, "{}", drawn.trim_end()).map_err(Failure::Print)?;
    }
    match parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::Dockerfile { errors }),
    }
}
