use super::*;

/// `file` is a whole ignore file, `\n` between lines.
fn check(file: &str, path: &str, expected: bool) {
    let ignore = Ignore::parse(file.as_bytes()).unwrap();
    assert_eq!(ignore.excluded(Path::new(path)), expected, "`{path}` by {file:?}");
}

/// The cases of Docker's own matcher: a pattern that matches a parent counts.
#[test]
fn single_patterns() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**/", "file", true),
        ("**", "dir/file", true),
        ("**/", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/afile", true),
        ("**/file", "dir/afile", false),
        ("**/file", "dir/dir/file", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("abc?def", "abc/def", false),
        ("a\\\\", "a\\", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("a^b*", "a^bc", true),
        ("dist/*.whl", "dist/proxy-2.4.0+g08-none-any.whl", true),
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*", "ab/c", true),
        ("a*", "ab/c", true),
        ("a*/b", "a/c/b", false),
        ("a?b", "a☺b", true),
        ("[a-ζ]*", "α", true),
        ("[\\]a]", "]", true),
        ("docs", "docs/a/b", true),
        ("docs", "docs2/a", false),
        ("docs/a", "docs", false),
        ("ocs", "docs", false),
    ] {
        check(pattern, path, expected);
    }
}

#[test]
fn how_lines_are_read() {
    for (file, path, expected) in [
        ("", "a", false),
        ("\n\n  \n", "a", false),
        ("# a\na", "a", true),
        ("#a", "#a", false),
        (" #a", "#a", true),
        ("\\#a", "#a", true),
        ("\u{feff}a", "a", true),
        ("\u{feff}# a", "# a", false),
        ("x\n\u{feff}a", "a", false),
        ("a\r\nb\r\n", "a", true),
        ("a\r\nb\r\n", "b", true),
        ("  a  ", "a", true),
        ("\ta\t", "a", true),
        ("/a", "a", true),
        ("./a", "a", true),
        ("a/", "a", true),
        ("a//b/./c", "a/b/c", true),
        ("a/../b", "b", true),
        ("../a", "a", false),
        ("/../a", "a", true),
        (".", "a", false),
        ("/", "a", false),
        ("a b", "a b", true),
        ("! a\na", "a", true),
        ("a\n! a", "a", false),
        ("a\n!/a", "a", false),
        ("a\n!./a", "a", false),
        ("a\n  !a  ", "a", false),
        ("a\n\\!a", "!a", true),
    ] {
        check(file, path, expected);
    }
}

#[test]
fn the_last_match_decides() {
    for (file, path, expected) in [
        ("!fileutils.go\n*.go", "fileutils.go", true),
        ("*.go\n!fileutils.go", "fileutils.go", false),
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs\n!docs/README.md", "docs/other", true),
        ("docs\n!docs/README.md", "docs", true),
        ("docs/\n!docs/README.md", "docs/README.md", false),
        ("docs/*\n!docs/README.md", "docs/README.md", false),
        ("**\n!util/docker/web", "util/docker/web/foo", false),
        ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
        ("**\n!dist/*.whl", "dist/a.whl", false),
        ("*\n!a/b/c", "a/b/c/d", false),
        ("*\n!a/b/c", "a/b", true),
        ("*.md\n!README*.md\nREADME-secret.md", "README.md", false),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
        ("**/node_modules\n!keep/node_modules", "keep/node_modules/x", false),
        ("**/node_modules\n!keep/node_modules", "other/node_modules/x", true),
        ("*\n!**/*.go\n**/*_test.go", "a/b.go", false),
        ("*\n!**/*.go\n**/*_test.go", "a/b_test.go", true),
        // What BuildKit's walk makes of an exception for a directory that was
        // never excluded itself: nothing.
        ("foo/*\n!foo", "foo/x", true),
        ("foo\n!foo", "foo/x", false),
        ("foo\nfoo/x\n!foo/x", "foo/x", false),
    ] {
        check(file, path, expected);
    }
}

#[test]
fn a_bad_line_is_named() {
    for (file, line, pattern, source) in [
        ("[", 1, "[", PatternError::Class),
        ("a\n\n# x\n  b[]  \nc", 4, "b[]", PatternError::Class),
        ("a\n[a-b-c]", 2, "[a-b-c]", PatternError::Class),
        ("a\\", 1, "a\\", PatternError::TrailingEscape),
        ("!", 1, "!", PatternError::EmptyException),
        ("a\n!  ", 2, "!", PatternError::EmptyException),
        ("!/", 1, "!/", PatternError::EmptyException),
        ("![", 1, "![", PatternError::Class),
    ] {
        match Ignore::parse(file.as_bytes()) {
            Err(Error::IgnorePattern { line: found, pattern: text, source: cause }) => {
                assert_eq!((found, text.as_str(), cause), (line, pattern, source), "{file:?}");
            }
            other => panic!("{file:?}: {other:?}"),
        }
    }
}

#[test]
fn says_which_line_it_was() {
    let ignore = Ignore::parse(b"# secrets\n*.key\n\nvendor\n!vendor/kept\n").unwrap();
    let line = |path: &str| ignore.excluded_by(Path::new(path)).map(|found| (found.line, found.pattern));
    assert_eq!(line("a.key"), Some((2, "*.key".to_owned())));
    assert_eq!(line("vendor/x/y"), Some((4, "vendor".to_owned())));
    assert_eq!(line("vendor/kept/x"), None);
    assert_eq!(line("src"), None);
}

#[test]
fn the_file_beside_the_dockerfile_wins() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let excluded = |dockerfile: &str, path: &str| {
        ignore_file(directory.path(), Some(&at(dockerfile))).unwrap().excluded(Path::new(path))
    };
    assert!(!excluded("Dockerfile", "a"));
    std::fs::write(at(".dockerignore"), "a").unwrap();
    assert!(excluded("Dockerfile", "a"));
    std::fs::write(at("Dockerfile.dockerignore"), "b").unwrap();
    assert!(!excluded("Dockerfile", "a") && excluded("Dockerfile", "b"));
    assert!(excluded("Other", "a"));
    assert!(ignore_file(directory.path(), None).unwrap().excluded(Path::new("a")));
}

#[test]
fn an_ignore_file_that_is_a_link_stays_inside() {
    let directory = tempfile::tempdir().unwrap();
    let context = directory.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(directory.path().join("secret"), "[token").unwrap();
    std::os::unix::fs::symlink("../secret", context.join(".dockerignore")).unwrap();
    assert_eq!(ignore_file(&context, None).unwrap(), Ignore::default());
    std::fs::write(context.join("secret"), "a").unwrap();
    assert!(ignore_file(&context, None).unwrap().excluded(Path::new("a")));

    // A Dockerfile elsewhere brings its own.
    let elsewhere = directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("D.dockerignore"), "b").unwrap();
    assert!(ignore_file(&context, Some(&elsewhere.join("D"))).unwrap().excluded(Path::new("b")));
}

/// Leaving directories out early must never lose what an exception brings back.
#[test]
fn walking_finds_exactly_what_is_not_excluded() {
    use crate::context::{MemoryTree, SelectOptions, SourceTree as _, select, walk};
    let paths = ["a", "b", "d/a", "d/b", "d/e/a", "d/e/f/a", "d/e/f/b", "x/a", "x/y/b"];
    let tree = paths.iter().fold(MemoryTree::default(), |tree, path| tree.file(path, ""));
    let mut everything = Vec::new();
    walk(&tree, Path::new(""), &mut |path, _| {
        everything.push(path.to_owned());
        Ok(())
    })
    .unwrap();
    let patterns = [
        "*",
        "**",
        "d",
        "!d",
        "d/*",
        "!d/e",
        "**/a",
        "!**/a",
        "!d/e/f/b",
        "d/**",
        "!*/y",
        "![dx]/**/b",
        "x/y",
    ];
    let mut excluded_some = 0;
    for first in patterns {
        for second in patterns {
            for third in patterns {
                let exclude = [first, second, third].map(str::to_owned).to_vec();
                let ignore = Ignore::from_patterns(&exclude).unwrap();
                let mut expected: Vec<_> =
                    everything.iter().filter(|path| !ignore.excluded(path)).cloned().collect();
                let above: Vec<_> =
                    expected.iter().flat_map(|path| path.ancestors()).map(Path::to_owned).collect();
                expected.extend(above);
                expected.push(PathBuf::new());
                expected.sort();
                expected.dedup();
                let options = SelectOptions { exclude: exclude.clone(), parents: false };
                let mut found = Vec::new();
                let selection = select(&tree, &["."], &options).unwrap();
                selection
                    .walk(&tree, &mut |visit| {
                        assert!(tree.node(visit.path).unwrap().is_some());
                        found.push(visit.path.to_owned());
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(found, expected, "{exclude:?}");
                excluded_some += usize::from(found.len() < everything.len());
            }
        }
    }
    assert!(excluded_some > 1000, "{excluded_some}");
}
