use super::*;
use crate::context::MemoryTree;

fn tree() -> MemoryTree {
    MemoryTree::default()
        .file("a.txt", "1")
        .file("b.txt", "2")
        .file("c.md", "3")
        .file(".hidden", "4")
        .file("star*name", "5")
        .file("[x]", "6")
        .file("back\\slash", "7")
        .file("dir/one.txt", "8")
        .file("dir/two.md", "9")
        .file("dir/sub/three.txt", "10")
        .file("dir/sub/deep/four.txt", "11")
        .directory("dir/empty")
        .file("dir2/one.txt", "12")
        .file("other/sub/five.txt", "13")
        .symlink("link", "a.txt")
        .symlink("linkdir", "dir/sub")
        .symlink("absolute", "/dir2")
        .symlink("out", "../../../dir2/one.txt")
        .symlink("dir/inner", "one.txt")
        .symlink("chain", "link")
        .symlink("bad/dangling", "nowhere")
        .symlink("bad2/loop", "loop")
}

/// Items as `name`, or `name=path` where links were followed.
fn shown(selection: &Selection) -> Vec<String> {
    let text = |item: &Selected| match item.name == item.path {
        true => item.name.display().to_string(),
        false => format!("{}={}", item.name.display(), item.path.display()),
    };
    selection.items.iter().map(text).collect()
}

fn check(sources: &[&str], expected: &[&str]) {
    let selection = select(&tree(), sources, &SelectOptions::default());
    assert_eq!(selection.map(|found| shown(&found)).unwrap(), expected, "{sources:?}");
}

fn check_parents(sources: &[&str], expected: &[&str]) {
    let options = SelectOptions { parents: true, ..SelectOptions::default() };
    let selection = select(&tree(), sources, &options);
    assert_eq!(selection.map(|found| shown(&found)).unwrap(), expected, "--parents {sources:?}");
}

fn check_error(sources: &[&str], parents: bool, expected: &str) {
    let options = SelectOptions { parents, ..SelectOptions::default() };
    let error = select(&tree(), sources, &options).unwrap_err();
    assert_eq!(error.to_string(), expected, "{sources:?}");
}

#[test]
fn plain_sources() {
    check(&["a.txt"], &["a.txt"]);
    check(&["./a.txt"], &["a.txt"]);
    check(&["/a.txt"], &["a.txt"]);
    check(&["dir/"], &["dir"]);
    check(&["dir/."], &["dir"]);
    check(&["dir//sub/../one.txt"], &["dir/one.txt"]);
    check(&["../../a.txt"], &["a.txt"]);
    check(&["/../dir/../../a.txt"], &["a.txt"]);
    check(&["."], &[""]);
    check(&["/"], &[""]);
    check(&[".."], &[""]);
    check(&[""], &[""]);
    check(&["b.txt", "a.txt", "b.txt"], &["b.txt", "a.txt", "b.txt"]);
    check(&["dir/empty"], &["dir/empty"]);
    check(&["back\\slash"], &["back\\slash"]);
    check(&["a\\.txt"], &["a.txt"]);
    check(&["star\\*name"], &["star*name"]);
}

#[test]
fn links_are_followed_inside() {
    check(&["link"], &["link=a.txt"]);
    check(&["chain"], &["chain=a.txt"]);
    check(&["linkdir"], &["linkdir=dir/sub"]);
    check(&["linkdir/three.txt"], &["linkdir/three.txt=dir/sub/three.txt"]);
    check(&["absolute/one.txt"], &["absolute/one.txt=dir2/one.txt"]);
    check(&["out"], &["out=dir2/one.txt"]);
    check(&["dir/inner"], &["dir/inner=dir/one.txt"]);
    check(&["linkdir/*"], &["linkdir/deep=dir/sub/deep", "linkdir/three.txt=dir/sub/three.txt"]);
    check(&["lin?"], &["link=a.txt"]);
}

#[test]
fn wildcards() {
    check(&["*.txt"], &["a.txt", "b.txt"]);
    check(&["?.txt"], &["a.txt", "b.txt"]);
    check(&["[ab].*"], &["a.txt", "b.txt"]);
    check(&["[^a].*"], &["b.txt", "c.md"]);
    check(&["[a-c].md"], &["c.md"]);
    check(&[".h*"], &[".hidden"]);
    check(&["*hidden"], &[".hidden"]);
    check(&["[[]x]"], &["[x]"]);
    check(&["star\\**"], &["star*name"]);
    check(&["dir*"], &["dir", "dir2"]);
    check(&["dir*/one.txt"], &["dir/one.txt", "dir2/one.txt"]);
    check(&["*/sub"], &["dir/sub", "other/sub"]);
    check(&["*/sub/*.txt"], &["dir/sub/three.txt", "other/sub/five.txt"]);
    check(&["dir/*.txt"], &["dir/one.txt"]);
    check(&["dir/sub*/deep/"], &["dir/sub/deep"]);
    check(&["../di[r]/../*.md"], &["c.md"]);
    check(&["*.none", "a.txt"], &["a.txt"]);
    check(&["*.md", "*.md"], &["c.md", "c.md"]);
    // Wildcards go through real directories only.
    check(&["l*/three.txt", "a.txt"], &["a.txt"]);
}

#[test]
fn double_stars() {
    check(
        &["**/*.txt"],
        &[
            "a.txt",
            "b.txt",
            "dir/one.txt",
            "dir/sub/deep/four.txt",
            "dir/sub/three.txt",
            "dir2/one.txt",
            "other/sub/five.txt",
        ],
    );
    check(&["dir/**/*.txt"], &["dir/one.txt", "dir/sub/deep/four.txt", "dir/sub/three.txt"]);
    check(&["**/sub"], &["dir/sub", "other/sub"]);
    check(&["**/deep/**/four.txt"], &["dir/sub/deep/four.txt"]);
    check(&["dir2/**"], &["dir2/one.txt"]);
    check(&["**/**/five.txt"], &["other/sub/five.txt"]);
}

#[test]
fn what_is_missing() {
    let here = "in the build context";
    check_error(&["nope"], false, &format!("`nope` does not exist {here}"));
    check_error(&["a.txt", "./nope/x"], false, &format!("`./nope/x` does not exist {here}"));
    check_error(&["a.txt/x"], false, &format!("`a.txt/x` does not exist {here}"));
    check(&["*.none"], &[]);
    check(&["*.none", "x*/y"], &[]);
    check_error(&["nope/*"], false, &format!("`nope/*` does not exist {here}"));
    check_error(&["a.txt/*"], false, &format!("`a.txt/*` does not exist {here}"));
    check_error(&["bad/*"], false, &format!("`bad/dangling` does not exist {here}"));
    check_error(&["bad/dangling"], false, &format!("`bad/dangling` does not exist {here}"));
    check_error(
        &["bad2/loop"],
        false,
        &format!("`bad2/loop` {here} goes through more than 40 symbolic links"),
    );
    check_error(&["a["], false, "`a[` is not a pattern");
    check_error(&["nope"], true, &format!("`nope` does not exist {here}"));
    check_error(&["dir/./nope"], true, &format!("`dir/./nope` does not exist {here}"));
    check_error(&["nope/./x"], true, &format!("`nope` does not exist {here}"));
}

/// The cases of BuildKit's own tests of `--parents`, and some more.
#[test]
fn parents() {
    check_parents(&["dir/sub/three.txt"], &["dir/sub/three.txt"]);
    check_parents(&["/dir/sub/."], &["dir/sub"]);
    check_parents(&["./dir/one.txt"], &["dir/one.txt"]);
    check_parents(&["dir/./sub/deep"], &["sub/deep=dir/sub/deep"]);
    check_parents(&["dir/./sub/./deep"], &["sub/deep=dir/sub/deep"]);
    check_parents(&["/dir/./*/deep"], &["sub/deep=dir/sub/deep"]);
    check_parents(&["*/./sub"], &["sub=dir/sub", "sub=other/sub"]);
    check_parents(&["dir*/./*.txt"], &["one.txt=dir/one.txt", "one.txt=dir2/one.txt"]);
    check_parents(&["**/five.txt"], &["other/sub/five.txt"]);
    check_parents(
        &["d*/**/*.txt"],
        &["dir/one.txt", "dir/sub/deep/four.txt", "dir/sub/three.txt", "dir2/one.txt"],
    );
    check_parents(&["dir/s*"], &["dir/sub"]);
    check_parents(&["*.none"], &[]);
    check_parents(&["dir/./none*"], &[]);
    // Below the pivot links are copied, and not gone through.
    check_parents(&["link"], &["link"]);
    check_parents(&["linkdir/three.txt"], &[]);
    check_parents(&["linkdir/./three.txt"], &["three.txt=dir/sub/three.txt"]);
    check_parents(&["../../dir2/one.txt"], &["dir2/one.txt"]);
}

#[test]
fn parents_know_the_directories_above() {
    let options = SelectOptions { parents: true, ..SelectOptions::default() };
    let found = select(&tree(), &["dir/sub/**/four.txt", "dir/./one.txt"], &options).unwrap();
    let above = |number: usize| -> Vec<String> {
        found.items[number].parents.iter().map(|parent| parent.name.display().to_string()).collect()
    };
    assert_eq!(above(0), ["dir", "dir/sub", "dir/sub/deep"]);
    assert_eq!(above(1), Vec::<String>::new());
}

fn walked(sources: &[&str], exclude: &[&str], parents: bool) -> Vec<String> {
    let exclude = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
    let tree = tree();
    let selection = select(&tree, sources, &SelectOptions { exclude, parents }).unwrap();
    let mut visited = Vec::new();
    let mut visit = |visit: Visit<'_>| {
        let below: PathBuf = visit.item.name.join(visit.below).components().collect();
        assert_eq!(tree.node(visit.path).unwrap().as_ref(), Some(visit.node));
        visited.push(below.display().to_string());
        Ok(())
    };
    selection.walk(&tree, &mut visit).unwrap();
    visited
}

#[test]
fn a_walk_is_sorted_and_parents_come_first() {
    assert_eq!(
        walked(&["dir"], &[], false),
        [
            "dir",
            "dir/empty",
            "dir/inner",
            "dir/one.txt",
            "dir/sub",
            "dir/sub/deep",
            "dir/sub/deep/four.txt",
            "dir/sub/three.txt",
            "dir/two.md",
        ]
    );
    let all = walked(&["."], &[], false);
    let mut sorted: Vec<PathBuf> = all.iter().map(PathBuf::from).collect();
    sorted.sort();
    assert_eq!(all.iter().map(PathBuf::from).collect::<Vec<_>>(), sorted);
}

#[test]
fn excludes() {
    assert_eq!(
        walked(&["dir"], &["*.txt", "empty", "inner"], false),
        ["dir", "dir/sub", "dir/sub/deep", "dir/sub/deep/four.txt", "dir/sub/three.txt", "dir/two.md"]
    );
    assert_eq!(
        walked(&["dir"], &["**/*.txt", "sub/deep", "inner"], false),
        ["dir", "dir/empty", "dir/sub", "dir/two.md"]
    );
    // An exception brings back the directories above it, and only those.
    assert_eq!(
        walked(&["dir"], &["*", "!sub/deep/four.txt"], false),
        ["dir", "dir/sub", "dir/sub/deep", "dir/sub/deep/four.txt"]
    );
    assert_eq!(walked(&["dir"], &["*", "!sub/none"], false), ["dir"]);
    assert_eq!(walked(&["*.txt", "c.md"], &["a.*", "*.md"], false), ["a.txt", "b.txt", "c.md"]);
    assert_eq!(walked(&["dir*"], &["*.txt", "sub", "e*", "i*"], false), ["dir", "dir/two.md", "dir2"]);
    assert_eq!(walked(&["dir/one.txt"], &["*.txt"], false), ["dir/one.txt"]);
    assert_eq!(walked(&["dir/**/*.txt"], &["dir/sub/deep"], true), ["dir/one.txt", "dir/sub/three.txt"]);
    assert_eq!(walked(&["dir/./*"], &["sub", "inner", "empty"], true), ["one.txt", "two.md"]);
    assert_eq!(walked(&["dir/./sub"], &["sub", "!sub/deep"], true), ["sub", "sub/deep", "sub/deep/four.txt"]);
}

#[test]
fn a_bad_exclude_is_named() {
    let options = SelectOptions { exclude: vec!["ok".into(), "[".into()], parents: false };
    let error = select(&tree(), &["dir"], &options).unwrap_err();
    assert_eq!(error.to_string(), "`[` is not a pattern");
}

#[test]
fn wildcards_are_recognised() {
    for (text, expected) in [
        ("a", false),
        ("a*", true),
        ("a?", true),
        ("[a]", true),
        ("a\\*", false),
        ("a\\\\*", true),
        ("]", false),
    ] {
        assert_eq!(has_wildcard(text), expected, "{text}");
    }
}
