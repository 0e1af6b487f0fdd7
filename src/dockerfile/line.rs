//! Logical lines: joined text that still knows where each character stands.

use std::ops::Range;

use super::ast::Word;
use super::span::{Position, Span};

/// What separates words of an instruction, as BuildKit has it: a no-break
/// space, for example, does not.
pub(super) const BLANKS: [char; 5] = [' ', '\t', '\r', '\x0b', '\x0c'];

/// One instruction's lines, continuations joined, comments dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    text: String,
    /// Where each physical line begins: offset in `text`, place in the file.
    pieces: Vec<(usize, Position)>,
}

impl Line {
    /// Appends (a part of) a physical line that stands at `place`.
    pub(super) fn push(&mut self, text: &str, place: Position) {
        self.pieces.push((self.text.len(), place));
        self.text.push_str(text);
    }

    /// All of it.
    pub(super) fn whole(&self) -> Fragment<'_> {
        Fragment { line: self, start: 0, end: self.text.len() }
    }

    /// Where the character at an offset stands.
    fn position(&self, offset: usize) -> Position {
        let index = self.pieces.partition_point(|(start, _)| *start <= offset);
        let Some((start, place)) = index.checked_sub(1).and_then(|index| self.pieces.get(index)) else {
            return Position::default();
        };
        let columns = self.text[*start..offset].chars().count();
        Position { line: place.line, column: place.column.saturating_add(columns as u32) }
    }

    /// Just past the character before an offset, on that character's line.
    fn position_after(&self, offset: usize) -> Position {
        match self.text[..offset].chars().next_back() {
            None => self.position(0),
            Some(last) => {
                let place = self.position(offset - last.len_utf8());
                Position { column: place.column + 1, ..place }
            }
        }
    }
}

/// A part of a logical line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    line: &'a Line,
    start: usize,
    end: usize,
}

impl<'a> Fragment<'a> {
    /// Its characters.
    pub(super) fn text(self) -> &'a str {
        &self.line.text[self.start..self.end]
    }

    /// Its place.
    pub(super) fn span(self) -> Span {
        let end = self.line.position_after(self.end);
        Span { start: if self.start == self.end { end } else { self.line.position(self.start) }, end }
    }

    /// Both, for the syntax tree.
    pub(super) fn word(self) -> Word {
        Word { text: self.text().to_owned(), span: self.span() }
    }

    /// A part of it, by byte offsets on character boundaries.
    pub(super) fn slice(self, range: Range<usize>) -> Self {
        Self { line: self.line, start: self.start + range.start, end: self.start + range.end }
    }

    /// What follows a byte offset.
    pub(super) fn from(self, offset: usize) -> Self {
        Self { start: self.start + offset, ..self }
    }

    /// From the start of this one to the end of a later one.
    pub(super) fn up_to(self, later: Self) -> Self {
        Self { end: later.end, ..self }
    }

    /// White space of any kind taken off the start.
    pub(super) fn trim_start(self) -> Self {
        self.from(self.text().len() - self.text().trim_start().len())
    }

    /// White space of any kind taken off both ends.
    pub(super) fn trim(self) -> Self {
        let start = self.trim_start();
        start.slice(0..start.text().trim_end().len())
    }

    /// The first word, and what follows the blanks behind it.
    pub(super) fn split_word(self) -> (Self, Self) {
        let end = self.text().find(BLANKS).unwrap_or(self.text().len());
        let rest = self.from(end);
        let blanks = rest.text().len() - rest.text().trim_start_matches(BLANKS).len();
        (self.slice(0..end), rest.from(blanks))
    }

    /// Its words.
    pub(super) fn words(self) -> Vec<Self> {
        let mut words = Vec::new();
        let mut rest = self;
        while !rest.text().is_empty() {
            let (word, next) = rest.split_word();
            if !word.text().is_empty() {
                words.push(word);
            }
            rest = next;
        }
        words
    }

    /// The two sides of the first `=`.
    pub(super) fn split_equals(self) -> Option<(Self, Self)> {
        let at = self.text().find('=')?;
        Some((self.slice(0..at), self.from(at + 1)))
    }
}
