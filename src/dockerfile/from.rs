//! FROM: an image, perhaps a platform, perhaps a name.

use super::ast::From;
use super::instruction::{Head, Reader};
use super::span::{Diagnostic, shown};

impl Reader<'_> {
    /// Reads `FROM`.
    pub(super) fn from(&mut self, head: &Head<'_>) -> Option<From> {
        let flags = self.flags(head);
        let words = head.arguments.words();
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, keyword, name] if keyword.text().eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => {
                let place = words.get(1).map_or(head.keyword, |second| second.up_to(head.arguments));
                self.report(
                    Diagnostic::error(place.span(), "`FROM` takes one argument or three")
                        .with_hint("write `FROM image` or `FROM image AS name`"),
                );
                return None;
            }
        };
        if let Some(name) = name.filter(|name| !is_stage_name(name.text())) {
            let message = format!("`{}` is not a name for a stage", shown(name.text()));
            let hint = "a stage's name starts with a letter; letters, digits, `-`, `_` and `.` follow";
            self.report(Diagnostic::error(name.span(), message).with_hint(hint));
            return None;
        }
        Some(From {
            span: head.span(),
            text: head.text(),
            platform: flags.value("platform"),
            image: image.word(),
            name: name.map(|name| name.word()),
            comment: head.statement.comment.clone(),
        })
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
