//! Draws a diagnostic as plain text, for a terminal or a CI log.
//!
//! ```text
//! Dockerfile:3:6: error: unknown instruction `RUNN`
//!   |
//! 3 | RUNN make
//!   | ^^^^
//!   = hint: did you mean `RUN`?
//! ```
//!
//! Whatever the file holds, the drawing stays legible: long lines are cut to a
//! window around the place, tabs become blanks, control characters (which
//! could rewrite a terminal) become `\u{fffd}`, wide characters count double.

use std::fmt::Write as _;
use std::ops::Range;

use super::span::{Diagnostic, Severity, Source};

/// Columns of the source that are shown at most.
const WINDOW: usize = 100;
/// Columns shown before the place when the line is cut.
const LEAD: usize = 30;
/// Columns that a tab takes.
const TAB: usize = 4;

impl Diagnostic {
    /// Place and message, the line with the place underlined, the hint; each
    /// line ended by a newline.
    pub fn render(&self, source: &Source) -> String {
        let mut out = self.headline(&source.name);
        let lines: Vec<&str> = source.text.split('\n').collect();
        let (first, last) = (self.span.start.line, self.span.end.line.max(self.span.start.line));
        let gutter = last.to_string().len();
        if let Some(line) = number(&lines, first) {
            draw(&mut out, gutter, "", "|", "");
            let end = if last == first { self.span.end.column } else { u32::MAX };
            draw_line(&mut out, gutter, first, line, self.span.start.column..end);
            if let Some(line) = number(&lines, last).filter(|_| last > first) {
                if last > first + 1 {
                    draw(&mut out, gutter, "", ":", "");
                }
                let indent = line.chars().take_while(|c| c.is_whitespace()).count() as u32;
                draw_line(&mut out, gutter, last, line, indent + 1..self.span.end.column);
            }
        }
        if let Some(hint) = &self.hint {
            draw(&mut out, gutter, "", "=", &format!("hint: {}", harmless(hint)));
        }
        out
    }

    fn headline(&self, name: &str) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let place = self.span.start;
        let mut line = format!("{}:{}:{}: {severity}: ", harmless(name), place.line, place.column);
        line.push_str(&harmless(&self.message));
        if let Some(check) = self.check {
            // Writing to a String cannot fail.
            let _ = write!(line, " ({check})");
        }
        line + "\n"
    }
}

/// A line by its number, counted from one.
fn number<'a>(lines: &[&'a str], number: u32) -> Option<&'a str> {
    let line = lines.get((number as usize).checked_sub(1)?)?;
    Some(line.trim_end_matches('\r'))
}

/// One line of the drawing: gutter, mark, text.
fn draw(out: &mut String, gutter: usize, number: &str, mark: &str, text: &str) {
    let line = format!("{number:>gutter$} {mark} {text}");
    out.push_str(line.trim_end());
    out.push('\n');
}

/// A source line and what underlines it. Columns count from one; the end of
/// the range is just past the last character.
fn draw_line(out: &mut String, gutter: usize, number: u32, line: &str, columns: Range<u32>) {
    let cells: Vec<String> = line.chars().map(cell).collect();
    let start = (columns.start.saturating_sub(1) as usize).min(cells.len());
    let end = (columns.end.saturating_sub(1) as usize).clamp(start, cells.len());
    let shown = window(&cells, start..end);
    let (before, after) = (cut(shown.start > 0), cut(shown.end < cells.len()));
    let text = format!("{before}{}{after}", cells[shown.clone()].concat());
    draw(out, gutter, &number.to_string(), "|", &text);
    let blank =
        columns_of(before) + cells[shown.start..start].iter().map(|cell| columns_of(cell)).sum::<usize>();
    let marked: usize = cells[start..end.min(shown.end).max(start)].iter().map(|cell| columns_of(cell)).sum();
    draw(out, gutter, "", "|", &format!("{}{}", " ".repeat(blank), "^".repeat(marked.max(1))));
}

fn cut(yes: bool) -> &'static str {
    if yes { "…" } else { "" }
}

/// Which characters are shown: all, or as many as fit around the place.
fn window(cells: &[String], place: Range<usize>) -> Range<usize> {
    let total: usize = cells.iter().map(|cell| columns_of(cell)).sum();
    if total <= WINDOW {
        return 0..cells.len();
    }
    let mut start = place.start;
    let mut lead = 0;
    while start > 0 && lead < LEAD {
        start -= 1;
        lead += columns_of(&cells[start]);
    }
    let mut end = start;
    let mut width = 0;
    while end < cells.len() && width < WINDOW {
        width += columns_of(&cells[end]);
        end += 1;
    }
    // A place at the far end: fill the window from the left.
    while end == cells.len() && start > 0 && width < WINDOW {
        start -= 1;
        width += columns_of(&cells[start]);
    }
    start..end
}

/// What is drawn for a character.
fn cell(character: char) -> String {
    match character {
        '\t' => " ".repeat(TAB),
        _ if is_harmful(character) => '\u{fffd}'.to_string(),
        _ => character.to_string(),
    }
}

/// Control characters, and those that reorder what a reader sees.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// Columns a text takes on a terminal, well enough to put a caret below it.
fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_character).sum()
}

fn columns_of_character(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Position, Span};

    fn span(start: (u32, u32), end: (u32, u32)) -> Span {
        let at = |(line, column)| Position { line, column };
        Span { start: at(start), end: at(end) }
    }

    fn source(text: &str) -> Source {
        Source { name: "Dockerfile".into(), text: text.into() }
    }

    fn check(text: &str, place: Span, expected: &str) {
        let drawn = Diagnostic::error(place, "wrong").render(&source(text));
        let expected =
            format!("Dockerfile:{}:{}: error: wrong\n{expected}", place.start.line, place.start.column);
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn a_place_is_underlined() {
        check("FROM x\nRUNN make\n", span((2, 1), (2, 5)), "  |\n2 | RUNN make\n  | ^^^^\n");
        check("FROM x\r\nRUNN\r\n", span((1, 6), (1, 7)), "  |\n1 | FROM x\n  |      ^\n");
    }

    #[test]
    fn an_empty_place_gets_one_caret() {
        check("RUN", span((1, 4), (1, 4)), "  |\n1 | RUN\n  |    ^\n");
    }

    #[test]
    fn tabs_and_wide_characters_keep_the_caret_in_place() {
        check("\tRUN", span((1, 2), (1, 5)), "  |\n1 |     RUN\n  |     ^^^\n");
        check("\u{ac00}\u{ac00} x", span((1, 4), (1, 5)), "  |\n1 | \u{ac00}\u{ac00} x\n  |      ^\n");
        check("é x", span((1, 3), (1, 4)), "  |\n1 | é x\n  |   ^\n");
    }

    #[test]
    fn control_characters_are_not_passed_on() {
        check("a\u{1b}[2Jb", span((1, 1), (1, 2)), "  |\n1 | a\u{fffd}[2Jb\n  | ^\n");
        let drawn = Diagnostic::error(span((1, 1), (1, 2)), "odd \u{1b}[31m").render(&source("x"));
        assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
    }

    #[test]
    fn several_lines_show_the_first_and_the_last() {
        let text = "RUN a \\\n  b \\\n  c\n";
        check(text, span((1, 1), (3, 4)), "  |\n1 | RUN a \\\n  | ^^^^^^^\n  :\n3 |   c\n  |   ^\n");
        check(text, span((1, 5), (2, 4)), "  |\n1 | RUN a \\\n  |     ^^^\n2 |   b \\\n  |   ^\n");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("RUN {}BAD{}", "x".repeat(500), "y".repeat(500));
        let drawn = Diagnostic::error(span((1, 505), (1, 508)), "wrong").render(&source(&text));
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines[2].chars().count() < 120, "{drawn}");
        assert!(lines[2].starts_with("1 | …xxx") && lines[2].ends_with("yyy…"), "{drawn}");
        let caret = lines[3].find('^').unwrap();
        let shown: String = lines[2].chars().skip(caret).take(3).collect();
        assert_eq!(shown, "BAD", "{drawn}");
        assert!(lines[3].ends_with("^^^"), "{drawn}");
    }

    #[test]
    fn the_end_of_a_long_line_is_shown_too() {
        let text = "x".repeat(70_000);
        let drawn = Diagnostic::error(span((1, 70_000), (1, 70_001)), "wrong").render(&source(&text));
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[2].chars().count(), 4 + 1 + WINDOW, "{drawn}");
        assert_eq!(lines[3].chars().count(), lines[2].chars().count(), "{drawn}");
    }

    #[test]
    fn places_outside_the_text_draw_no_line() {
        check("x", span((0, 0), (0, 0)), "");
        check("x", span((9, 1), (9, 2)), "");
        check("x", span((1, 50), (1, 60)), "  |\n1 | x\n  |  ^\n");
        check("", span((1, 1), (1, 2)), "  |\n1 |\n  | ^\n");
    }

    #[test]
    fn check_and_hint_are_shown() {
        let warning =
            Diagnostic::warning("StageNameCasing", span((1, 1), (1, 2)), "odd").with_hint("mend it");
        let expected =
            "Dockerfile:1:1: warning: odd (StageNameCasing)\n  |\n1 | x\n  | ^\n  = hint: mend it\n";
        assert_eq!(warning.render(&source("x")), expected);
    }
}
