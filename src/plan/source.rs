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
        return Ok(context(options, name));
    }
    let reference: Reference = name.parse().map_err(|error| Box::new(no_source(span, name, &error)))?;
    match for_image(options, &reference) {
        Some((name, _)) => Ok(context(options, name)),
        None => Ok(Source::Image(reference)),
    }
}

fn no_source(span: Span, name: &str, error: &crate::image::ReferenceError) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` is neither a stage nor an image: {error}"))
}

/// What a `--build-context` means to somebody who reads from it.
pub(super) fn context(options: &Options, name: &str) -> Source {
    let image = options.named_contexts.get(name).and_then(|context| image_of(name, context));
    match image {
        Some(reference) if is_scratch(&reference) => Source::Empty,
        Some(reference) => Source::Image(reference),
        None => Source::Named(name.to_owned()),
    }
}

/// The name that stands for nothing, where an image was expected.
pub(super) fn is_scratch(reference: &Reference) -> bool {
    reference.repository() == "library/scratch"
        && reference.registry() == "docker.io"
        && reference.tag() == Some("latest")
}

/// The image that a context is; `None` for one that is files. A layout that nobody
/// has looked into yet goes by the context's name.
pub(super) fn image_of(name: &str, context: &NamedContext) -> Option<Reference> {
    match context {
        NamedContext::Image(reference) => Some(reference.clone()),
        NamedContext::OciLayout(_) => name.parse().ok(),
        NamedContext::Directory(_) | NamedContext::Other(_) => None,
    }
}

fn is_reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context")
}
