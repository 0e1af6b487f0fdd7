//! Making text fit for a log: what a step prints must not move the cursor, fake
//! a line of ours, or hide anything.

use std::time::Duration;

/// A line longer than this many bytes is cut.
pub(super) const LONGEST: usize = 4096;

/// One line without control characters. Of escape sequences only colours are
/// kept, if they are wanted. Of what carriage returns overwrite, the last stays:
/// what a terminal would show.
pub(super) fn line(text: &str, colour: bool) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    let shown = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or("");
    let clean = without_controls(shown, colour);
    cut(clean, colour)
}

/// The same for text of several lines.
pub(super) fn lines(text: &str, colour: bool) -> impl Iterator<Item = String> + '_ {
    text.trim_end_matches('\n').split('\n').map(move |part| line(part, colour))
}

fn without_controls(text: &str, colour: bool) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next == '\u{1b}' {
            let length = escape_length(rest);
            let sequence = &rest[..length];
            if colour && is_colour(sequence) {
                clean.push_str(sequence);
                coloured = true;
            }
            rest = &rest[length..];
            continue;
        }
        if next == '\t' || !is_unwanted(next) {
            clean.push(next);
        }
        rest = &rest[next.len_utf8()..];
    }
    if coloured {
        clean.push_str("\u{1b}[0m");
    }
    clean
}

/// Control characters, and those that turn the direction of writing, with which
/// a line can look like another.
fn is_unwanted(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many bytes belong to the escape sequence at the start (ECMA-48, 5.4 and 5.6).
fn escape_length(text: &str) -> usize {
    let mut after = text.char_indices().skip(1);
    let end = |found: Option<(usize, char)>| found.map_or(text.len(), |(at, last)| at + last.len_utf8());
    match after.next() {
        Some((_, '[')) => end(after.find(|(_, next)| ('@'..='~').contains(next))),
        // A string, up to BEL or ST (ESC \).
        Some((_, ']' | 'P' | 'X' | '^' | '_')) => {
            let bell = text.find('\u{7}').map(|at| at + 1);
            let terminator = text[1..].find("\u{1b}\\").map(|at| at + 3);
            bell.into_iter().chain(terminator).min().unwrap_or(text.len())
        }
        Some((_, ' '..='/')) => end(after.find(|(_, next)| !(' '..='/').contains(next))),
        other => end(other),
    }
}

fn is_colour(sequence: &str) -> bool {
    let inside = sequence.strip_prefix("\u{1b}[").and_then(|rest| rest.strip_suffix('m'));
    inside.is_some_and(|inside| {
        inside.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':')
    })
}

fn cut(mut text: String, colour: bool) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let mut end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if let Some(escape) = text[..end].rfind('\u{1b}')
        && !text[escape..end].contains('m')
    {
        end = escape;
    }
    let lost = text.len() - end;
    text.truncate(end);
    let reset = if colour && text.contains('\u{1b}') { "\u{1b}[0m" } else { "" };
    format!("{text}{reset} … ({lost} bytes cut)")
}

/// `[build 2/5]` of `[build 2/5] RUN make`.
pub(super) fn short(label: &str) -> String {
    match label.split_once(']') {
        Some((front, _)) if front.starts_with('[') => format!("{front}]"),
        _ => label.chars().take(24).collect(),
    }
}

/// `1.2s`, `2m05s`, `1h02m`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", (duration.as_millis() / 100) as f64 / 10.0),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `512 B`, `1.5 MB`: decimal units, as registries count.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_neutralised() {
        for (text, plain, coloured) in [
            ("plain é", "plain é", "plain é"),
            ("a\tb", "a\tb", "a\tb"),
            ("10%\r20%\r100%", "100%", "100%"),
            ("done\r", "done", "done"),
            ("done\r\n", "done", "done"),
            ("\u{1b}[31mred\u{1b}[0m", "red", "\u{1b}[31mred\u{1b}[0m\u{1b}[0m"),
            ("\u{1b}[1;38:5:4mx", "x", "\u{1b}[1;38:5:4mx\u{1b}[0m"),
            ("\u{1b}[2J\u{1b}[Hgone", "gone", "gone"),
            ("\u{1b}[?25lx", "x", "x"),
            ("\u{1b}]0;title\u{7}x", "x", "x"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link", "link"),
            ("\u{1b}(Bx", "x", "x"),
            ("\u{1b}7x\u{1b}8", "x", "x"),
            ("\u{1b}[31", "", ""),
            ("\u{1b}", "", ""),
            ("a\u{8}\u{7}\u{0}b\u{9b}c", "abc", "abc"),
            ("a\u{202e}b", "ab", "ab"),
            ("\u{1b}[0Ksection_start:1:x\r\u{1b}[0Kfake", "fake", "fake"),
        ] {
            assert_eq!(line(text, false), plain, "{text:?}");
            assert_eq!(line(text, true), coloured, "{text:?}");
        }
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let long = line(&"é".repeat(5000), false);
        assert!(long.ends_with("é … (5904 bytes cut)"), "{}", &long[long.len() - 40..]);
        let coloured = line(&format!("{}\u{1b}[31mred", "x".repeat(LONGEST - 2)), true);
        assert!(!coloured.contains("\u{1b}[3"), "no half sequence");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(duration(Duration::from_millis(1_290)), "1.2s");
        assert_eq!(duration(Duration::from_millis(59_990)), "59.9s");
        assert_eq!(duration(Duration::from_secs(125)), "2m05s");
        assert_eq!(duration(Duration::from_secs(3_725)), "1h02m");
        assert_eq!(
            [0, 999, 1_000, 1_500_000, 999_990_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "1.5 MB", "1.0 TB"]
        );
        assert_eq!(short("[build 2/5] RUN make"), "[build 2/5]");
        assert_eq!(short("exporting to image layout now"), "exporting to image layou");
    }
}
