//! Names that are not stages: images and `--build-context`.

use super::graph::Source;
use super::options::{NamedContext, Options};
use crate::dockerfile::{Diagnostic, Span, Stage};
use crate::image::Reference;

/// The context that stands in for a stage because it has its name.
pub(super) fn replacement<'a>(options: &'a Options, stage: &Stage) -> Option<(&'a str, &'a NamedContext)> {
    let name = &stage.from.name.as_ref()?.text;
    if is_reserved(name) {
        return None;
    }
    let found = options.named_contexts.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some((found.0.as_str(), found.1))
}

/// The context that stands in for an image: `debian`, `debian:latest` and
/// `docker.io/library/debian` are one name, `debian:12` is another.
pub(super) fn for_image<'a>(
    options: &'a Options,
    reference: &Reference,
) -> Option<(&'a str, &'a NamedContext)> {
    let found = options.named_contexts.iter().find(|(known, _)| {
        !is_reserved(known) && known.parse::<Reference>().is_ok_and(|known| known == *reference)
    })?;
    Some((found.0.as_str(), found.1))
}

/// What a name that is no stage means.
pub(super) fn outside(options: &Options, name: &str, span: Span) -> Result<Source, Box<Diagnostic>> {
    if name == "scratch" {
        return Ok(Source::Empty);
    }
    if options.named_contexts.contains_key(name) && !is_reserved(name) {
        return context(options, name, span);
    }
    let reference: Reference = name.parse().map_err(|error| Box::new(no_source(span, name, &error)))?;
    match for_image(options, &reference) {
        Some((name, _)) => context(options, name, span),
        None => Ok(Source::Image(reference)),
    }
}

fn no_source(span: Span, name: &str, error: &crate::image::ReferenceError) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` is neither a stage nor an image: {error}"))
}

/// What a `--build-context` means to somebody who reads from it.
pub(super) fn context(options: &Options, name: &str, span: Span) -> Result<Source, Box<Diagnostic>> {
    let unsupported = |what: &str, text: &str| {
        let message = format!("build context `{name}` is {what}, `{text}`: not supported yet");
        Err(Box::new(
            Diagnostic::error(span, message).with_hint("use a local directory or `docker-image://…`"),
        ))
    };
    match options.named_contexts.get(name) {
        Some(NamedContext::Image(reference)) => Ok(Source::Image(reference.clone())),
        Some(NamedContext::OciLayout(text)) => unsupported("an OCI layout", text),
        Some(NamedContext::Other(text)) => unsupported("neither a directory nor an image", text),
        Some(NamedContext::Directory(_)) | None => Ok(Source::Named(name.to_owned())),
    }
}

/// Only images can stand after FROM so far.
pub(super) fn not_a_base(name: &str) -> String {
    format!("build context `{name}` stands for this base and is not an image: not supported yet")
}

fn is_reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context")
}
