use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::{Span, word};
use super::*;

/// The messages of a text, each behind its place.
fn check(text: &[u8], expected: &[&str]) {
    let parsed = parse("Dockerfile", text);
    let found: Vec<String> = parsed
        .diagnostics
        .iter()
        .map(|d| format!("{}:{} {}", d.span.start.line, d.span.start.column, d.message))
        .collect();
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(&text[..text.len().min(200)]));
    assert_eq!(parsed.has_errors(), parsed.diagnostics.iter().any(|d| d.severity == Severity::Error));
}

#[test]
fn lines_may_be_65535_bytes_long() {
    let with = |length: usize| format!("FROM scratch\nRUN {}\n", "x".repeat(length - 4));
    check(with(65_535).as_bytes(), &[]);
    check(with(65_536).as_bytes(), &["2:1 the line has 65536 bytes; 65535 are allowed"]);
    let windows = with(65_536).replace('\n', "\r\n");
    check(windows.as_bytes(), &["2:1 the line has 65537 bytes; 65535 are allowed"]);
    let unended = with(65_535);
    check(unended.trim_end().as_bytes(), &[]);
    // Joined lines may be longer.
    let joined = format!("FROM scratch\nRUN {0} \\\n{0}\n", "x".repeat(60_000));
    check(joined.as_bytes(), &[]);
    // Lines of heredocs count as well, and so do comments.
    let body = format!("FROM scratch\nCOPY <<EOF /x\n{}\nEOF\n", "x".repeat(70_000));
    check(body.as_bytes(), &["3:1 the line has 70000 bytes; 65535 are allowed"]);
}

#[test]
fn the_check_argument_replaces_the_directive() {
    let text = b"# check=skip=all\nFROM a AS B\n";
    assert_eq!(parse("x", text).diagnostics, []);
    let findings = |checks| parse_checked("x", text, Some(checks)).diagnostics;
    assert_eq!(findings("").len(), 1);
    assert_eq!(findings("")[0].severity, Severity::Warning);
    assert_eq!(findings("error=true")[0].severity, Severity::Error);
    assert_eq!(findings("skip=StageNameCasing"), []);
    assert_eq!(findings("not readable").len(), 1);
}

#[test]
fn the_source_is_kept_for_drawing() {
    let parsed = parse("build/Dockerfile", b"\xef\xbb\xbfFROM a\n");
    assert_eq!(parsed.dockerfile.source.name, "build/Dockerfile");
    assert_eq!(parsed.dockerfile.source.text, "FROM a\n");
}

#[test]
fn json_headers_may_take_several_lines() {
    let text = b"{\n  \"syntax\": \"x\",\n  \"other\": 1\n}\nFROM scratch\nRUN\n";
    let parsed = parse("Dockerfile", text);
    assert_eq!(parsed.dockerfile.directives.syntax.map(|(value, _)| value).as_deref(), Some("x"));
    check(text, &["6:1 `RUN` needs at least one argument"]);
    // Not a header: no `syntax`, or something behind it.
    check(b"{\"a\": 1}\nFROM scratch\n", &["1:1 unknown instruction `{\"a\":`"]);
    check(b"{\"syntax\": \"x\"} y\nFROM scratch\n", &["1:1 unknown instruction `{\"syntax\":`"]);
}

#[test]
fn mistyped_instructions_are_recognised() {
    for (word, hint) in [
        ("FRO", Some("FROM")),
        ("RNU", Some("RUN")),
        ("COPPY", Some("COPY")),
        ("ENTRYPIONT", Some("ENTRYPOINT")),
        ("workdri", Some("WORKDIR")),
        ("HEALTCHECK", Some("HEALTHCHECK")),
        ("make", None),
    ] {
        let parsed = parse("Dockerfile", format!("FROM scratch\n{word} x\n").as_bytes());
        let [diagnostic] = parsed.diagnostics.as_slice() else { panic!("{word}: {:?}", parsed.diagnostics) };
        assert_eq!(diagnostic.message, format!("unknown instruction `{word}`"));
        let expected = match hint {
            Some(name) => format!("did you mean `{name}`?"),
            None => "if this belongs to the line above, that line must end with `\\`".to_owned(),
        };
        assert_eq!(diagnostic.hint.as_deref(), Some(expected.as_str()), "{word}");
    }
}

/// What a trigger is read as, or the messages.
fn check_trigger(text: &str, expected: Result<&str, &[&str]>) {
    let found = parse_trigger(text).map(|instruction| instruction.text);
    let messages =
        |wrong: Vec<Diagnostic>| wrong.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>();
    let expected = expected
        .map(str::to_owned)
        .map_err(|messages| messages.iter().map(|message| (*message).to_owned()).collect::<Vec<_>>());
    assert_eq!(found.map_err(messages), expected, "{text}");
}

#[test]
fn triggers_are_one_instruction() {
    check_trigger("RUN make", Ok("RUN make"));
    check_trigger("copy a b", Ok("COPY a b"));
    check_trigger("RUN <<EOF\nx\nEOF", Ok("RUN <<EOF"));
    check_trigger("FROM x", Err(&["`FROM` cannot be a trigger of `ONBUILD`"]));
    check_trigger("ONBUILD RUN x", Ok("ONBUILD RUN x"));
    check_trigger("", Err(&["the trigger holds 0 instructions instead of one"]));
    check_trigger("RUN a\nRUN b", Err(&["the trigger holds 2 instructions instead of one"]));
    check_trigger("RUN <<EOF\nx", Err(&["heredoc `EOF` has no end marker"]));
    check_trigger("COPY a", Err(&["`COPY` needs a source and a destination"]));
    check_trigger("RUNN a", Err(&["unknown instruction `RUNN`"]));
}

#[test]
fn triggers_hold_their_heredocs() {
    let parsed = parse("Dockerfile", b"FROM scratch\nONBUILD RUN <<-EOF cat\n\ta\n\tEOF\n");
    let InstructionKind::Onbuild(text, Some(trigger)) = &parsed.dockerfile.stages[0].instructions[0].kind
    else {
        panic!("{parsed:?}")
    };
    let again = parse_trigger(text).unwrap();
    let InstructionKind::Run(_, command, heredocs) = &trigger.kind else { panic!("{trigger:?}") };
    let InstructionKind::Run(_, command_again, heredocs_again) = &again.kind else { panic!("{again:?}") };
    assert_eq!(command, command_again);
    assert_eq!(heredocs[0].content, heredocs_again[0].content);
}

#[test]
fn a_heredoc_alone_is_a_script() {
    for (text, expected) in [
        ("<<EOF", true),
        (" <<-'EOF' ", true),
        ("<< EOF", true),
        ("3<<EOF", true),
        ("cat <<EOF", false),
        ("<<EOF cat", false),
        ("<<A <<B", false),
        ("make", false),
    ] {
        assert_eq!(is_sole_heredoc(text), expected, "{text}");
    }
}

/// Every place lies in the text, and none is turned round.
fn check_places(text: &[u8]) {
    let parsed = parse("Dockerfile", text);
    let lines: Vec<&str> = parsed.dockerfile.source.text.split('\n').collect();
    let inside = |span: Span| {
        assert!(span.start <= span.end, "{span:?} is turned round");
        for place in [span.start, span.end] {
            let line = lines.get(place.line as usize - 1);
            let columns = line.map(|line| line.chars().count() as u32 + 2);
            assert!(columns.is_some_and(|columns| place.column <= columns), "{place:?} is outside");
        }
    };
    for stage in &parsed.dockerfile.stages {
        inside(stage.from.span);
        inside(stage.from.image.span);
        stage.instructions.iter().for_each(|instruction| inside(instruction.span));
    }
    for diagnostic in &parsed.diagnostics {
        inside(diagnostic.span);
        let drawn = diagnostic.render(&parsed.dockerfile.source);
        assert!(drawn.lines().count() <= 8, "{drawn}");
        assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
    }
}

/// Pieces that mean something, put together at random.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "FROM ",
            "RUN ",
            "COPY ",
            "ADD ",
            "ENV ",
            "LABEL ",
            "ARG ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "CMD ",
            "SHELL ",
            "VOLUME ",
            "EXPOSE ",
            "from ",
            "scratch",
            " AS ",
            "x",
            "=",
            "\"",
            "'",
            "\\",
            "`",
            "\n",
            "\r\n",
            " ",
            "\t",
            "#",
            "# escape=`\n",
            "# check=error=true\n",
            "// syntax=x\n",
            "<<",
            "<<-",
            "EOF",
            "<<EOF",
            "EOF\n",
            "--",
            "--from=",
            "--link",
            "[",
            "]",
            ",",
            "[\"a\"]",
            "{",
            "}",
            "$",
            "${",
            ":-",
            "%%",
            "//",
            "\u{feff}",
            "é",
            "한",
            "\u{a0}",
            "\u{0}",
            "\u{1b}",
            "\\\n",
            "`\n",
            "a=b",
            "NONE",
            "CMD",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_pieces_are_read(text in pieces()) {
        check_places(text.as_bytes());
        check_places(format!("FROM scratch\n{text}").as_bytes());
        let _either_way = parse_trigger(&text);
    }

    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..200)) {
        check_places(&text);
    }

    #[test]
    fn any_word_is_expanded(text in pieces(), escape in prop::sample::select(vec!['\\', '`'])) {
        let mut lookup = |name: &str| name.len().is_multiple_of(2).then(|| format!("{name}*?\\ "));
        // Whether it is a word or not: it must come back.
        let words = word::expand_words(&text, escape, &mut lookup);
        let whole = word::expand(&text, escape, &mut lookup);
        prop_assert_eq!(words.is_ok(), whole.is_ok());
        let _either_way = word::expand_heredoc(&text, escape, &mut lookup);
    }

    #[test]
    fn quoted_text_expands_to_itself(text in "[^']*") {
        let expanded = word::expand(&format!("'{text}'"), '\\', &mut |_| None);
        prop_assert_eq!(expanded.as_deref(), Ok(text.as_str()));
    }
}

/// Texts made to be slow; a parser that looked at anything twice per character
/// would take hours.
#[test]
fn large_texts_are_read_in_time() {
    let started = Instant::now();
    for text in [
        format!("FROM scratch\nENV {}", "é=é ".repeat(13_000)),
        format!("FROM scratch\nRUN {}", "<<A ".repeat(16_000)),
        format!("FROM scratch\nCOPY {}", "<<A ".repeat(10_000)),
        format!("FROM scratch\nCOPY {}", "a \\\n".repeat(100_000)),
        format!("FROM scratch\nRUN {}", "--mount=x ".repeat(6_000)),
        format!("FROM scratch\n{}", "ONBUILD ".repeat(8_000)),
        format!("FROM scratch\nVOLUME [{}\"\"]", "\"x\",".repeat(16_000)),
        format!("FROM scratch\nCMD {}", "[".repeat(65_000)),
        format!("FROM scratch\n{}", "#\n".repeat(100_000)),
        format!("FROM scratch\nRUN <<{}", "${a:-".repeat(10_000)),
        "FROM a AS b\n".repeat(2_000),
    ] {
        drop(parse("Dockerfile", text.as_bytes()));
    }
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
}
