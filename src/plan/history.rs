//! History entries in the words of BuildKit, so that tools that read them go on working.

use super::duration;
use crate::image::{Healthcheck, History};

/// An entry without a time.
pub(super) fn entry(created_by: String, makes_layer: bool) -> History {
    History {
        created_by,
        comment: "buildkit.dockerfile.v0".to_owned(),
        empty_layer: !makes_layer,
        ..History::default()
    }
}

/// `RUN |1 A=1 /bin/sh -c make # buildkit`.
pub(super) fn run(argv: &[String], args: &[(String, String)]) -> String {
    let mut words = Vec::new();
    if !args.is_empty() {
        words.push(format!("|{}", args.len()));
        words.extend(args.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend_from_slice(argv);
    format!("RUN {} # buildkit", words.join(" "))
}

/// `NAME [a b]`: a list without quotes.
pub(super) fn list(instruction: &str, values: &[String]) -> String {
    format!("{instruction} [{}]", values.join(" "))
}

/// `NAME ["a" "b"]`.
pub(super) fn quoted_list(instruction: &str, values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
    list(instruction, &quoted)
}

/// `NAME a=1 b=2`.
pub(super) fn pairs(instruction: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(instruction.to_owned(), |text, (name, value)| format!("{text} {name}={value}"))
}

/// `HEALTHCHECK {Test:[…] Interval:30s …}`.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let Healthcheck { test, interval, timeout, start_period, start_interval, retries } = check;
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{retries}}}",
        test.join(" "),
        duration::format(*interval),
        duration::format(*timeout),
        duration::format(*start_period),
        duration::format(*start_interval),
    )
}

/// A Go string literal.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            character if is_printable(character) => quoted.push(character),
            character => quoted.push_str(&escaped(u32::from(character))),
        }
    }
    quoted.push('"');
    quoted
}

/// What Rust prints as it is; it agrees with Go but for lone combining marks.
fn is_printable(character: char) -> bool {
    character.escape_debug().len() == 1 || character == '\''
}

fn escaped(code: u32) -> String {
    match code {
        0..0x80 => format!("\\x{code:02x}"),
        0x80..0x10000 => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        let check = |text: &str, expected: &str| assert_eq!(quote(text), expected);
        check("a b", r#""a b""#);
        check("say \"hi\" \\ 'x'", r#""say \"hi\" \\ 'x'""#);
        check("a\tb\n\u{1b}\u{7f}\0", r#""a\tb\n\x1b\x7f\x00""#);
        check("grüße 日本 🚀", r#""grüße 日本 🚀""#);
        check("\u{a0}\u{200b}", r#""\u00a0\u200b""#);
    }
}
