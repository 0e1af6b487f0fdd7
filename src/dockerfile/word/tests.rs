use super::*;

/// The variables of every row.
fn value(name: &str) -> Option<String> {
    let value = match name {
        "A" => "apple",
        "EMPTY" => "",
        "PATH" => "/usr/bin:/bin",
        "FILE" => "archive.tar.gz",
        "URL" => "https://example.com/a/b",
        "SPACES" => "one  two",
        "QUOTES" => "a'b\"c",
        "STARS" => "a*b?c\\d",
        "LINES" => "first\nsecond",
        "KOREAN" => "한국어",
        "DOLLAR" => "$A",
        "V" => "1.2.3",
        "SLASH" => "/",
        "_x1" => "underscore",
        "é" => "accent",
        "1" => "one",
        "12" => "twelve",
        "?" => "status",
        _ => return None,
    };
    Some(value.to_owned())
}

fn check(text: &str, expected: &str) {
    check_with('\\', text, expected);
}

fn check_with(escape: char, text: &str, expected: &str) {
    assert_eq!(expand(text, escape, &mut value).as_deref(), Ok(expected), "{text}");
}

fn check_error(text: &str, expected: &str) {
    match expand(text, '\\', &mut value) {
        Ok(result) => panic!("{text} became `{result}`"),
        Err(error) => assert_eq!(error.to_string(), expected, "{text}"),
    }
}

fn check_words(text: &str, expected: &[&str]) {
    let words = expand_words(text, '\\', &mut value).unwrap();
    assert_eq!(words, expected, "{text}");
}

fn check_heredoc(text: &str, expected: &str) {
    assert_eq!(expand_heredoc(text, '\\', &mut value).as_deref(), Ok(expected), "{text}");
}

#[test]
fn plain_text_stays() {
    check("", "");
    check("hello", "hello");
    check(" a  b\t", " a  b\t");
    check("a#b", "a#b");
    check("{A}", "{A}");
    check("a}b", "a}b");
    check("a<<b", "a<<b");
    check("naïve 한", "naïve 한");
}

#[test]
fn variables_are_replaced() {
    check("$A", "apple");
    check("${A}", "apple");
    check("x$A.y", "xapple.y");
    check("x${A}y", "xappley");
    check("$A$A", "appleapple");
    check("$UNSET", "");
    check("a${UNSET}b", "ab");
    check("$EMPTY", "");
    check("$_x1", "underscore");
    check("$é", "accent");
    check("$Ax", "");
    check("$DOLLAR", "$A");
    check("$KOREAN!", "한국어!");
    check("$A/$V", "apple/1.2.3");
    check("$SPACES", "one  two");
}

#[test]
fn a_dollar_without_a_name_is_a_dollar() {
    check("$", "$");
    check("a$", "a$");
    check("$ A", "$ A");
    check("$.A", "$.A");
    check("$(A)", "$(A)");
    check("$/", "$/");
    check("$\"A\"", "$A");
}

#[test]
fn positional_and_special_parameters_are_names() {
    check("$1", "one");
    check("$12", "twelve");
    check("$123", "");
    check("${12}", "twelve");
    check("$1a", "onea");
    check("$?", "status");
    check("${?}", "status");
    check("$$A", "A");
    check("$@x", "x");
    check("$*x", "x");
    check("$#x", "x");
    check("$-x", "x");
    check("$!x", "x");
}

#[test]
fn single_quotes_keep_everything() {
    check("'a b'", "a b");
    check("'$A'", "$A");
    check("'\\'", "\\");
    check("'a\\'b", "a\\b");
    check("'\"'", "\"");
    check("x'y'z", "xyz");
    check("''", "");
}

#[test]
fn double_quotes_expand() {
    check("\"a b\"", "a b");
    check("\"$A\"", "apple");
    check("\"${A}x\"", "applex");
    check("\"'$A'\"", "'apple'");
    check("\"\\$A\"", "$A");
    check("\"\\\"\"", "\"");
    check("\"\\\\\"", "\\");
    check("\"a\\nb\"", "a\\nb");
    check("\"a\\'b\"", "a\\'b");
    check("\"\"", "");
    check("$QUOTES", "a'b\"c");
    check("\"$QUOTES\"", "a'b\"c");
}

#[test]
fn the_escape_character_hides_what_follows() {
    check("\\$A", "$A");
    check("\\\\$A", "\\apple");
    check("\\\\\\$A", "\\$A");
    check("\\a", "a");
    check("a\\ b", "a b");
    check("\\'A\\'", "'A'");
    check("\\\"$A\\\"", "\"apple\"");
    check("$\\A", "$A");
    check("a\\", "a");
    check("\\${A}", "${A}");
    check("C:\\dir", "C:dir");
}

#[test]
fn the_escape_character_can_be_a_backtick() {
    check_with('`', "`$A", "$A");
    check_with('`', "C:\\dir", "C:\\dir");
    check_with('`', "\\$A", "\\apple");
    check_with('`', "\"`$A`\"\"", "$A\"");
    check_with('`', "\"\\$A\"", "\\apple");
    check_with('`', "``", "`");
    check_with('`', "${UNSET:-a`}b}", "a}b");
}

#[test]
fn defaults_and_alternatives() {
    check("${A:-x}", "apple");
    check("${A-x}", "apple");
    check("${EMPTY:-x}", "x");
    check("${EMPTY-x}", "");
    check("${UNSET:-x}", "x");
    check("${UNSET-x}", "x");
    check("${UNSET:-}", "");
    check("${UNSET-}", "");
    check("${A:+x}", "x");
    check("${A+x}", "x");
    check("${EMPTY:+x}", "");
    check("${EMPTY+x}", "x");
    check("${UNSET:+x}", "");
    check("${UNSET+x}", "");
    check("${UNSET:-a b}", "a b");
    check("${UNSET:--}", "-");
    check("${UNSET:-'$A'}", "$A");
    check("${UNSET:-\"$A\"}", "apple");
    check("${UNSET:-a\\}b}", "a}b");
    check("${UNSET:-{x}}", "{x}");
    check("\"${UNSET:-a b}\"", "a b");
}

#[test]
fn modifiers_nest() {
    check("${UNSET:-$A}", "apple");
    check("${UNSET:-${A}}", "apple");
    check("${UNSET:-${NONE:-${V}}}", "1.2.3");
    check("${A:+${V:+both}}", "both");
    check("${UNSET:-${A#a}}", "pple");
    check("v${V}${UNSET:+-$UNSET}.tgz", "v1.2.3.tgz");
    check("${A#${UNSET:-a}}", "pple");
    check("${A/${UNSET:-p}/${V}}", "a1.2.3ple");
}

#[test]
fn required_variables() {
    check("${A:?needed}", "apple");
    check("${A?needed}", "apple");
    check("${EMPTY?needed}", "");
    check_error("${EMPTY:?needed}", "variable `EMPTY` is required: needed");
    check_error("${EMPTY:?}", "variable `EMPTY` must not be empty");
    check_error("${UNSET?no $A}", "variable `UNSET` is required: no apple");
    check_error("${UNSET:?}", "variable `UNSET` must be set");
    check_error("x${UNSET?}", "variable `UNSET` must be set");
}

#[test]
fn prefixes_are_removed() {
    check("${A#a}", "pple");
    check("${A#b}", "apple");
    check("${A#}", "apple");
    check("${A##}", "apple");
    check("${A#*p}", "ple");
    check("${A##*p}", "le");
    check("${A#*}", "apple");
    check("${A##*}", "");
    check("${A#?}", "pple");
    check("${A#??p}", "le");
    check("${PATH#*/}", "usr/bin:/bin");
    check("${PATH##*/}", "bin");
    check("${PATH##*[/]}", "/usr/bin:/bin");
    check("${URL#http*://}", "example.com/a/b");
    check("${UNSET#x}", "");
    check("${KOREAN#?}", "국어");
    check("${STARS#a\\*}", "b?c\\d");
    check("${STARS##*\\?}", "c\\d");
    check("${STARS##*\\\\}", "d");
    check("${LINES#*t}", "\nsecond");
    check("${LINES##*d}", "first\nsecond");
    check("${A#'a'}", "pple");
    check("${V#$V}", "");
}

#[test]
fn suffixes_are_removed() {
    check("${A%e}", "appl");
    check("${A%x}", "apple");
    check("${A%}", "apple");
    check("${A%%}", "apple");
    check("${FILE%.*}", "archive.tar");
    check("${FILE%%.*}", "archive");
    check("${FILE%.tar*}", "archive");
    check("${FILE%??}", "archive.tar.");
    check("${PATH%:*}", "/usr/bin");
    check("${KOREAN%어}", "한국");
    check("${STARS%\\?*}", "a*b");
    check("${V%.*}", "1.2");
    check("${V%%.*}", "1");
}

#[test]
fn matches_are_replaced() {
    check("${A/p/P}", "aPple");
    check("${A//p/P}", "aPPle");
    check("${A/p/}", "aple");
    check("${A//p/}", "ale");
    check("${A/x/y}", "apple");
    check("${A/p*/y}", "ay");
    check("${A/p?/y}", "ayle");
    check("${A//?/x}", "xxxxx");
    check("${A//*/x}", "x");
    check("${A//$EMPTY/-}", "-a-p-p-l-e-");
    check("${A/$EMPTY/-}", "-apple");
    check("${PATH//\\//_}", "_usr_bin:_bin");
    check("${PATH//$SLASH/_}", "_usr_bin:_bin");
    check("${PATH//:/ }", "/usr/bin /bin");
    check("${V//./-}", "1-2-3");
    check("${A///}", "apple");
    check("${UNSET/a/b}", "");
    check("${UNSET//$EMPTY/b}", "b");
    check("${A/p/$V}", "a1.2.3ple");
    check("${A/p/$1}", "aoneple");
    check("${A//p/\\/}", "a\\/\\/le");
    check("${LINES/t*/T}", "firsT\nsecond");
    check("${URL/example.com/host}", "https://host/a/b");
    check("${KOREAN//국/g}", "한g어");
}

#[test]
fn broken_words_are_refused() {
    check_error("'a", "no closing `'`");
    check_error("\"a", "no closing `\"`");
    check_error("\"a\\", "no closing `\"`");
    check_error("${", "`${` without a closing `}`");
    check_error("${A", "`${` without a closing `}`");
    check_error("${A:", "`${` without a closing `}`");
    check_error("${A:-x", "`${` without a closing `}`");
    check_error("${A#x", "`${` without a closing `}`");
    check_error("${A/x/y", "`${` without a closing `}`");
    check_error("${}", "`${` must be followed by the name of a variable");
    check_error("${{A}}", "`${` must be followed by the name of a variable");
    check_error("${:-x}", "`${` must be followed by the name of a variable");
    check_error("${A=x}", "`=` after `${A` is not a known modifier");
    check_error("${A:=x}", "`:=` after `${A` is not a known modifier");
    check_error("${A:#x}", "`:#` after `${A` is not a known modifier");
    check_error("${A:%x}", "`:%` after `${A` is not a known modifier");
    check_error("${A:1:2}", "`:1` after `${A` is not a known modifier");
    check_error("${A^^}", "`^` after `${A` is not a known modifier");
    check_error("${A,}", "`,` after `${A` is not a known modifier");
    check_error("${A@Q}", "`@` after `${A` is not a known modifier");
    check_error("${#A}", "`A` after `${#` is not a known modifier");
    check_error("${!A}", "`A` after `${!` is not a known modifier");
    check_error("${A B}", "` ` after `${A` is not a known modifier");
    check_error("${A/x}", "`${A/` needs a second `/` before the replacement");
    check_error("${A//x}", "`${A/` needs a second `/` before the replacement");
    check_error("${A#\\x}", "pattern `\\x`: `\\` may only stand before `*`, `?`, `\\`, `}` and `/`");
    check_error("${A:-${B}", "`${` without a closing `}`");
    check_error("${A:-'x}", "no closing `'`");
}

#[test]
fn words_are_split_at_blanks() {
    check_words("", &[]);
    check_words("  ", &[]);
    check_words("a b", &["a", "b"]);
    check_words(" a\t\tb ", &["a", "b"]);
    check_words("'a b' c", &["a b", "c"]);
    check_words("a\\ b c", &["a b", "c"]);
    check_words("\"$SPACES\" $SPACES", &["one  two", "one", "two"]);
    check_words("x$SPACES", &["xone", "two"]);
    check_words("'' a \"\"", &["a"]);
    check_words("$EMPTY a $UNSET", &["a"]);
    check_words("a'b c'd", &["ab cd"]);
    check_words("${UNSET:-p q} r", &["p", "q", "r"]);
    check_words("80 ${V%%.*}00/tcp", &["80", "100/tcp"]);
}

#[test]
fn heredocs_keep_their_quotes() {
    check_heredoc("say '$A' \"$A\"\n", "say 'apple' \"apple\"\n");
    check_heredoc("don't ${A}\n", "don't apple\n");
    check_heredoc("\\$A \\\\ \\n\n", "$A \\ n\n");
    check_heredoc("${UNSET:-it's}\n", "it's\n");
    assert_eq!(expand_heredoc("${A", '\\', &mut value), Err(WordError::OpenBrace));
}

#[test]
fn nesting_and_size_have_limits() {
    let deep = |levels: usize| format!("{}{}", "${UNSET:-".repeat(levels), "}".repeat(levels));
    check(&deep(100), "");
    assert_eq!(expand(&deep(101), '\\', &mut value), Err(WordError::TooDeep));
    assert_eq!(expand(&deep(100_000), '\\', &mut value), Err(WordError::TooDeep));
    let mut large = |_: &str| Some("x".repeat(1 << 20));
    assert_eq!(expand(&"$A".repeat(17), '\\', &mut large), Err(WordError::TooLong));
    assert_eq!(expand(&format!("\"{}\"", "$A".repeat(17)), '\\', &mut large), Err(WordError::TooLong));
    assert_eq!(expand("${A//x/$A}", '\\', &mut large), Err(WordError::TooLong));
}

/// Patterns that would take a backtracking matcher for ever.
#[test]
fn long_values_are_matched_quickly() {
    let mut long = |_: &str| Some("a".repeat(200_000));
    assert_eq!(expand("${A##*a*a*a*a*b}", '\\', &mut long).unwrap().len(), 200_000);
    assert_eq!(expand("${A//a*b/x}", '\\', &mut long).unwrap().len(), 200_000);
    assert_eq!(expand("${A//a*a*a*a/x}", '\\', &mut long).unwrap(), "x");
    let pattern = format!("${{A//{}/x}}", "a".repeat(5000));
    assert!(matches!(expand(&pattern, '\\', &mut long), Err(WordError::Pattern { .. })));
}
