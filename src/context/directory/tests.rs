use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;
use crate::context::{Owners, SelectOptions, digest, select, walk};

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.at("")).unwrap();
        bench
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join("context").join(path)
    }

    fn index(&self) -> PathBuf {
        self.directory.path().join("index")
    }

    fn file(&self, path: &str, content: &str) -> &Self {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
        self
    }

    fn open(&self, ignore: &str) -> DirectoryContext {
        let ignore = Ignore::parse(ignore.as_bytes()).unwrap();
        DirectoryContext::open(&self.at(""), ignore, Some(&self.index())).unwrap()
    }

    fn walked(&self, ignore: &str) -> Vec<String> {
        let mut paths = Vec::new();
        walk(&self.open(ignore), Path::new(""), &mut |path, _| {
            paths.push(path.display().to_string());
            Ok(())
        })
        .unwrap();
        paths.remove(0);
        paths
    }

    /// Digests a file with a fresh context, saves the index, and says whether
    /// the digest came from the index.
    fn digest(&self, path: &str) -> (Digest, bool) {
        let context = self.open("");
        let node = context.node(Path::new(path)).unwrap().unwrap();
        let digest = context.content_digest(Path::new(path), &node).unwrap();
        let read = context.seen().read.contains_key(Path::new(path));
        context.save_stat_index().unwrap();
        (digest, !read)
    }

    /// Lets a file come to rest: long before now, as in a checkout of yesterday.
    fn rest(&self) {
        std::thread::sleep(Duration::from_millis(60));
    }
}

#[test]
fn shows_what_is_there() {
    let bench = Bench::new();
    bench.file("dir/file", "content").file("dir/tool", "");
    fs::set_permissions(bench.at("dir/tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(bench.at("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(bench.at("dir/file"), bench.at("dir/same")).unwrap();
    symlink("../elsewhere", bench.at("dir/link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.at("dir/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(fs::symlink_metadata(bench.at("dir/pipe")).unwrap().file_type().is_fifo());
    let context = bench.open("");
    let node = |path: &str| context.node(Path::new(path)).unwrap().unwrap();

    assert_eq!((node("").kind, node("dir").kind), (NodeKind::Directory, NodeKind::Directory));
    assert_eq!(node("dir").mode, 0o1777);
    assert_eq!((node("dir/tool").mode, node("dir/tool").uid, node("dir/tool").gid), (0o6755, 0, 0));
    assert_eq!(node("dir/link").kind, NodeKind::Symlink("../elsewhere".into()));
    assert_eq!(node("dir/pipe").kind, NodeKind::Fifo);
    assert_eq!(node("dir/file").kind, NodeKind::File { size: 7 });
    assert_eq!(node("dir/file").mtime, fs::metadata(bench.at("dir/file")).unwrap().mtime());
    assert!(node("dir/file").link_group.is_some());
    assert_eq!(node("dir/file").link_group, node("dir/same").link_group);
    assert_eq!(node("dir/tool").link_group, None);
    assert_eq!(context.node(Path::new("dir/none")).unwrap(), None);
    assert_eq!(context.node(Path::new("none/none")).unwrap(), None);
    assert_eq!(context.node(Path::new("dir/file/x")).unwrap(), None);
    let mut content = String::new();
    context.open(Path::new("dir/file")).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
}

#[test]
fn never_follows_a_link_out() {
    let bench = Bench::new();
    fs::create_dir(bench.directory.path().join("outside")).unwrap();
    fs::write(bench.directory.path().join("outside/secret"), "secret").unwrap();
    symlink("../outside", bench.at("out")).unwrap();
    symlink("../outside/secret", bench.at("file")).unwrap();
    bench.file("dir/x", "x");
    let context = bench.open("");
    assert_eq!(context.node(Path::new("out/secret")).unwrap(), None);
    assert!(context.open(Path::new("out/secret")).is_err());
    assert!(context.open(Path::new("file")).is_err());
    assert!(context.children(Path::new("out")).is_err());
    for source in ["out/secret", "out", "file"] {
        assert!(select(&context, &[source], &SelectOptions::default()).is_err(), "{source}");
    }
    // A directory that becomes a link after it was listed.
    assert_eq!(context.children(Path::new("dir")).unwrap(), ["x"]);
    fs::rename(bench.at("dir"), bench.at("moved")).unwrap();
    symlink("../outside", bench.at("dir")).unwrap();
    assert!(bench.open("").open(Path::new("dir/secret")).is_err());
}

#[test]
fn ignored_files_are_not_there() {
    let bench = Bench::new();
    for path in ["a/b/c", "a/b/d", "a/x", "keep/one", "gone/deep/two", "top", "none/x"] {
        bench.file(path, path);
    }
    for (ignore, expected) in [
        ("a\ngone\nnone", vec!["keep", "keep/one", "top"]),
        ("*\n!keep", vec!["keep", "keep/one"]),
        ("*\n!a/b/c", vec!["a", "a/b", "a/b/c"]),
        ("*\n!a/nothing", vec![]),
        ("**\n!**/two", vec!["gone", "gone/deep", "gone/deep/two"]),
        ("*\n!a/b\na/b/d", vec!["a", "a/b", "a/b/c"]),
        ("a/*\n!a/b\n*o*\nn*\nk*", vec!["a", "a/b", "a/b/c", "a/b/d"]),
    ] {
        assert_eq!(bench.walked(ignore), expected, "{ignore:?}");
    }
    let context = bench.open("*\n!a/b/c");
    for (path, there) in
        [("a", true), ("a/b", true), ("a/b/c", true), ("a/b/d", false), ("keep", false), ("gone/deep", false)]
    {
        assert_eq!(context.node(Path::new(path)).unwrap().is_some(), there, "{path}");
    }
}

#[test]
fn errors_name_the_line_that_hides_a_source() {
    let bench = Bench::new();
    bench.file("vendor/x.go", "").file("secret.key", "").file("sub/other.key", "");
    let context = bench.open("# keys\n**/*.key\nvendor\n");
    let message =
        |source: &str| select(&context, &[source], &SelectOptions::default()).unwrap_err().to_string();
    let rule = |line: usize, text: &str| format!(": excluded by .dockerignore line {line} (`{text}`)");
    for (source, what, ending) in [
        ("secret.key", "does not exist", rule(2, "**/*.key")),
        ("vendor/x.go", "does not exist", rule(3, "vendor")),
        ("vendor", "does not exist", rule(3, "vendor")),
        ("vendor/*", "does not exist", rule(3, "vendor")),
        ("none.key", "does not exist", String::new()),
    ] {
        assert_eq!(message(source), format!("`{source}` {what} in the build context{ending}"));
    }
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let bench = Bench::new();
    bench.file("a", "one");
    bench.rest();
    assert_eq!(bench.digest("a"), (Digest::of("one"), false));
    bench.rest();
    assert_eq!(bench.digest("a"), (Digest::of("one"), true));
    bench.file("a", "two");
    assert_eq!(bench.digest("a"), (Digest::of("two"), false));
}

/// The edit that fools a cache of sizes and times: same size, same mtime.
#[test]
fn an_edit_with_the_old_time_is_seen() {
    let bench = Bench::new();
    bench.file("a", "one");
    for round in 0..50 {
        let content = if round % 2 == 0 { "two" } else { "one" };
        let before = fs::metadata(bench.at("a")).unwrap();
        bench.digest("a");
        fs::write(bench.at("a"), content).unwrap();
        let file = fs::File::options().write(true).open(bench.at("a")).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        let after = fs::metadata(bench.at("a")).unwrap();
        assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
        assert_eq!(bench.digest("a").0, Digest::of(content), "round {round}");
    }
}

#[test]
fn a_file_that_was_just_written_is_not_remembered() {
    let bench = Bench::new();
    bench.file("a", "one");
    let future = SystemTime::now() + Duration::from_secs(3600);
    fs::File::options().write(true).open(bench.at("a")).unwrap().set_modified(future).unwrap();
    bench.rest();
    assert!(!bench.digest("a").1);
    bench.rest();
    assert!(!bench.digest("a").1, "its time is not past yet");
}

#[test]
fn a_file_that_changes_after_the_look_is_digested_as_read() {
    let bench = Bench::new();
    bench.file("a", "one");
    bench.rest();
    bench.digest("a");
    bench.rest();
    let context = bench.open("");
    let node = context.node(Path::new("a")).unwrap().unwrap();
    bench.file("a", "changed");
    // Known by what it was when it was looked at, until something reads it.
    assert_eq!(context.content_digest(Path::new("a"), &node).unwrap(), Digest::of("one"));
    fs::remove_file(bench.index()).unwrap();
    let context = bench.open("");
    let node = context.node(Path::new("a")).unwrap().unwrap();
    bench.file("a", "again");
    assert_eq!(context.content_digest(Path::new("a"), &node).unwrap(), Digest::of("again"));
}

#[test]
fn the_index_keeps_what_this_build_did_not_ask_for() {
    let bench = Bench::new();
    for path in ["a/x", "b/y", "c/z"] {
        bench.file(path, path);
    }
    bench.rest();
    for path in ["a/x", "b/y", "c/z"] {
        bench.digest(path);
        bench.rest();
    }
    assert_eq!(stat_index::load(&bench.index()).len(), 3);
    fs::remove_dir_all(bench.at("b")).unwrap();
    bench.file("d", "new");
    bench.rest();
    bench.digest("d");
    let mut left: Vec<_> = stat_index::load(&bench.index()).into_keys().collect();
    left.sort();
    assert_eq!(left, ["a/x", "c/z", "d"].map(PathBuf::from));
}

#[test]
fn a_damaged_index_is_as_good_as_none() {
    let bench = Bench::new();
    bench.file("a", "one");
    fs::write(bench.index(), "garbage").unwrap();
    assert_eq!(bench.digest("a").0, Digest::of("one"));
    fs::remove_file(bench.index()).unwrap();
    fs::create_dir(bench.index()).unwrap();
    let context = bench.open("");
    assert!(context.save_stat_index().is_ok(), "nothing was learnt, so nothing is written");
}

#[test]
fn a_deep_context_is_walked() {
    let bench = Bench::new();
    let path = vec!["d"; 120].join("/");
    bench.file(&format!("{path}/end"), "x");
    assert_eq!(bench.walked("").len(), 121);
    assert_eq!(bench.walked(&format!("*\n!{path}/end")).len(), 121);
    let context = bench.open("");
    let selection = select(&context, &["."], &SelectOptions::default()).unwrap();
    digest(&context, &selection, Owners::Ignore).unwrap();
}

#[test]
fn what_is_no_directory_is_no_context() {
    let bench = Bench::new();
    bench.file("a", "");
    for path in ["a", "none"] {
        let error = DirectoryContext::open(&bench.at(path), Ignore::default(), None).err().unwrap();
        assert!(matches!(error, Error::Open { .. }), "{path}");
    }
}
