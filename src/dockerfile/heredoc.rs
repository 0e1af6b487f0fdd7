//! Which heredocs a line opens.
//!
//! A heredoc is a word of its own: `<<NAME`, `<<-NAME` or `3<<NAME`, blanks
//! after `<<` allowed, any part of the name quoted. `<<` in quotes, inside a
//! word, or as part of `<<<` is ordinary text.

use super::arguments::{JsonArray, json_array};
use super::flags::split_flags;
use super::line::Fragment;
use super::span::Span;
use super::word::Lexer;

/// `<<NAME`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// Without quotes.
    pub(super) name: String,
    /// No part of the name was quoted.
    pub(super) expand: bool,
    /// `<<-`.
    pub(super) strip_tabs: bool,
}

/// The heredocs that an instruction opens, with their places. Only RUN, COPY
/// and ADD can, also behind ONBUILD, and not in the JSON form.
pub(super) fn openings(line: Fragment<'_>) -> Vec<(Opening, Span)> {
    if !line.text().contains("<<") || !can_open(line.trim(), true) {
        return Vec::new();
    }
    // The whole line is read, flags included, and always with a backslash as
    // escape character: this is how BuildKit looks for them. A line that
    // cannot be read (an open quote) has none.
    let lexer =
        Lexer { keep_quotes: true, keep_escapes: true, keep_unset: true, heredocs: true, ..Lexer::new('\\') };
    let words = lexer.run(line.text(), &mut |_| None).map(|expanded| expanded.words).unwrap_or_default();
    let mut searched = 0;
    let mut found = Vec::new();
    for word in words {
        let Some(opening) = parse_word(&word) else { continue };
        let at = line.text()[searched..].find(&word).map(|at| searched + at);
        let place = at.map_or(line, |at| line.slice(at..at + word.len()));
        searched = at.map_or(searched, |at| at + word.len());
        found.push((opening, place.span()));
    }
    found
}

fn can_open(instruction: Fragment<'_>, onbuild: bool) -> bool {
    let (keyword, rest) = instruction.split_word();
    let (_, arguments) = split_flags(rest);
    match keyword.text().to_ascii_uppercase().as_str() {
        "ONBUILD" if onbuild => can_open(arguments, false),
        "RUN" | "COPY" | "ADD" => !matches!(json_array(arguments), JsonArray::Strings(_)),
        _ => false,
    }
}

/// Takes a word apart, if it is a heredoc.
pub(super) fn parse_word(word: &str) -> Option<Opening> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let plain = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let quoted = Lexer { keep_quotes: true, ..plain };
    let [name] = <[String; 1]>::try_from(plain.run(rest, &mut |_| None).ok()?.words).ok()?;
    let with_quotes = quoted.run(rest, &mut |_| None).ok()?.text;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Opening { expand: quotes(&name) == quotes(&with_quotes), name, strip_tabs })
}

/// Leading tabs of every line taken off, for `<<-`.
pub(super) fn without_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::super::span::Position;
    use super::*;

    fn check(text: &str, expected: &[(&str, bool, bool)]) {
        let mut line = Line::default();
        line.push(text, Position { line: 1, column: 1 });
        let found = openings(line.whole());
        let found: Vec<_> = found.iter().map(|(o, _)| (o.name.as_str(), o.expand, o.strip_tabs)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn heredocs_are_words() {
        check("RUN <<EOF", &[("EOF", true, false)]);
        check("run <<-EOF", &[("EOF", true, true)]);
        check("RUN <<'EOF'", &[("EOF", false, false)]);
        check("RUN <<\"EOF\"", &[("EOF", false, false)]);
        check("RUN <<EO'F'", &[("EOF", false, false)]);
        check("RUN 3<<EOF", &[("EOF", true, false)]);
        check("RUN cat <<A <<-'B' > /x", &[("A", true, false), ("B", false, true)]);
        check("RUN << EOF cat", &[("EOF", true, false)]);
        check("RUN <<- EOF", &[("EOF", true, true)]);
        check("RUN << -EOF", &[("-EOF", true, false)]);
        check("RUN <<$X", &[("$X", true, false)]);
        check("RUN <<'one two'", &[("one two", false, false)]);
        check("RUN <<eo\\'f", &[("eo'f", true, false)]);
        check("RUN <<'e'o\\'f", &[("eo'f", false, false)]);
        check("COPY <<file.txt /dest", &[("file.txt", true, false)]);
        check("ADD --chmod=755 <<x /dest", &[("x", true, false)]);
        check("ONBUILD RUN <<EOF", &[("EOF", true, false)]);
        check("onbuild copy <<EOF /x", &[("EOF", true, false)]);
    }

    #[test]
    fn other_uses_of_angles_are_text() {
        check("RUN \"<<EOF\"", &[]);
        check("RUN '<<EOF'", &[]);
        check("RUN cat <<<EOF", &[]);
        check("RUN cat<<EOF", &[]);
        check("RUN echo $((1<<2))", &[]);
        check("RUN <<", &[]);
        check("RUN <<-", &[]);
        check("RUN \\<<EOF", &[]);
        check("RUN [\"<<EOF\"]", &[]);
        check("USER <<EOF", &[]);
        check("CMD <<EOF", &[]);
        check("ONBUILD CMD <<EOF", &[]);
        check("ONBUILD ONBUILD RUN <<EOF", &[]);
        check("RUN echo don't <<EOF", &[]);
    }
}
