//! FROM lines: which image, stage or context, and for which platform.

use super::globals::Globals;
use super::graph::{Base, Node, same};
use super::options::Options;
use super::report::Report;
use super::scope::expand;
use super::{check, source};
use crate::dockerfile::{self, Diagnostic, Dockerfile};
use crate::image::{Platform, Reference, ReferenceError};

/// A FROM line and what it can see.
pub(super) struct FromLine<'a, 'b> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'b Options,
    pub(super) globals: &'b Globals,
    pub(super) earlier: &'b [Node<'a>],
}

impl<'a> FromLine<'a, '_> {
    /// The stage that the FROM line opens, without its commands. Mistakes are said.
    pub(super) fn node(&self, index: usize, ast: &'a dockerfile::Stage, report: &mut Report) -> Node<'a> {
        let name = ast.from.name.as_ref().map_or_else(|| format!("stage-{index}"), |name| name.text.clone());
        let image = self.image(ast, report);
        let asked = self.platform(ast, report);
        let base = match image {
            Some(image) => self.base(ast, &image, report),
            None => Base::Broken,
        };
        let platform = match &base {
            Base::Stage(base) => self.earlier[*base].platform.clone(),
            Base::Scratch => self.options.platform.clone(),
            _ => asked.unwrap_or_else(|| self.options.platform.clone()),
        };
        Node { ast, name, base, platform, commands: Vec::new() }
    }

    fn image(&self, ast: &dockerfile::Stage, report: &mut Report) -> Option<String> {
        let word = &ast.from.image;
        let expansion = expand(&word.text, self.dockerfile.directives.escape, &self.globals.values);
        let expansion = report.take(word.span, expansion)?;
        let Globals { values, declared } = self.globals;
        check::undefined_in_from(report, word, &expansion.unmatched, values, declared);
        if expansion.value.is_empty() {
            let hint = "declare the variable with `ARG name=default` before the first FROM";
            let message = format!("`{}` gives no image name", word.text);
            report.push(Diagnostic::error(word.span, message).with_hint(hint));
            return None;
        }
        Some(expansion.value)
    }

    fn platform(&self, ast: &dockerfile::Stage, report: &mut Report) -> Option<Platform> {
        let word = ast.from.platform.as_ref()?;
        let Globals { values, declared } = self.globals;
        let expansion = expand(&word.text, self.dockerfile.directives.escape, values);
        let expansion = report.take(word.span, expansion)?;
        let name = ast.from.name.as_ref().map_or("", |name| &name.text);
        check::undefined_in_from(report, word, &expansion.unmatched, values, declared);
        check::from_platform(report, word, &expansion, values.get("TARGETPLATFORM"), name);
        if expansion.value.is_empty() {
            report.error(word.span, format!("`--platform={}` gives no platform", word.text));
            return None;
        }
        report.take(word.span, expansion.value.parse())
    }

    fn not_an_image(&self, ast: &dockerfile::Stage, image: &str, error: &ReferenceError) -> Diagnostic {
        let wrong = Diagnostic::error(ast.from.image.span, error.to_string());
        let names = self.earlier.iter().filter_map(|node| node.ast.from.name.as_ref());
        match names.map(|name| name.text.to_lowercase()).find(|name| same(name, image)) {
            Some(name) => wrong.with_hint(format!("FROM finds a stage by its name in lower case: `{name}`")),
            None => wrong,
        }
    }

    fn base(&self, ast: &dockerfile::Stage, image: &str, report: &mut Report) -> Base {
        if let Some((name, context)) = source::replacement(self.options, ast) {
            let files = || Base::Replaced(name.to_owned());
            return source::image_of(name, context).map_or_else(files, on_image);
        }
        // Stages are kept in lower case, and here nothing else finds them.
        let earlier =
            |node: &Node| node.ast.from.name.as_ref().is_some_and(|name| name.text.to_lowercase() == image);
        if let Some(base) = self.earlier.iter().rposition(earlier) {
            return Base::Stage(base);
        }
        if image == "scratch" {
            return Base::Scratch;
        }
        let reference = match image.parse::<Reference>() {
            Ok(reference) => reference,
            Err(error) => {
                report.push(self.not_an_image(ast, image, &error));
                return Base::Broken;
            }
        };
        match source::for_image(self.options, &reference) {
            None => Base::Image(reference),
            Some((name, context)) => {
                let files = || Base::Context(name.to_owned());
                source::image_of(name, context).map_or_else(files, on_image)
            }
        }
    }
}

/// `docker-image://scratch` is no image.
fn on_image(reference: Reference) -> Base {
    if source::is_scratch(&reference) { Base::Scratch } else { Base::Image(reference) }
}
