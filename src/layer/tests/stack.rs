//! The effective view of chains, as tables.
//!
//! A layer is written as words: `a/` directory, `a/!` opaque directory, `a`
//! file, `a@b` symbolic link, `a=b` hard link, `-a` deletion, `!a` opaque mark
//! without an entry for the directory.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::index_builder::IndexBuilder;
use super::super::tar_stream::Item;
use super::*;

fn layer(words: &str, number: usize) -> Arc<EntryIndex> {
    let mut builder = IndexBuilder::default();
    for word in words.split_whitespace() {
        builder.apply(item(word, number)).unwrap();
    }
    Arc::new(builder.finish().unwrap())
}

/// The owner tells which layer an entry came from.
fn item(word: &str, number: usize) -> Item {
    let made = if let Some(path) = word.strip_prefix('!') {
        return Item::Opaque(path.into());
    } else if let Some(path) = word.strip_prefix('-') {
        entry(path, Kind::Whiteout)
    } else if let Some(path) = word.strip_suffix("/!") {
        entry(path, Kind::Directory { opaque: true })
    } else if let Some((path, target)) = word.split_once('@') {
        symlink(path, target)
    } else if let Some((path, target)) = word.split_once('=') {
        hardlink(path, target)
    } else if let Some(path) = word.strip_suffix('/') {
        directory(path)
    } else {
        file(word, 1)
    };
    Item::Entry(Entry { uid: number as u32, ..made })
}

fn stack(layers: &[&str]) -> Stack {
    Stack::new(layers.iter().enumerate().map(|(number, words)| layer(words, number)).collect())
}

fn show(found: Option<Found>) -> String {
    let Some(found) = found else { return "-".to_owned() };
    let kind = match found.entry.kind {
        Kind::File { .. } => "file",
        Kind::Directory { .. } => "dir",
        Kind::Symlink { .. } => "link",
        Kind::Hardlink { .. } => "dangling",
        Kind::Whiteout => "whiteout",
        _ => "other",
    };
    format!("{kind} {}/{}", found.layer, found.entry.uid)
}

/// `expected`: kind, the layer of the name / the layer of the metadata.
#[track_caller]
fn get(layers: &[&str], path: &str, expected: &str) {
    assert_eq!(show(stack(layers).get(Path::new(path))), expected, "{path} in {layers:?}");
}

#[test]
fn get_sees_through_layers() {
    get(&[], "", "dir 0/0");
    get(&[], "a", "-");
    get(&["a"], "a", "file 0/0");
    get(&["a", ""], "a", "file 0/0");
    get(&["a", "a"], "a", "file 1/1");
    get(&["a", "-a"], "a", "-");
    get(&["a", "-a", "a"], "a", "file 2/2");
    get(&["a/ a/b", "-a"], "a/b", "-");
    get(&["a/ a/b", "-a", "a/"], "a/b", "-");
    get(&["a/ a/b", "-a", "a/"], "a", "dir 2/2");
    get(&["a/ a/b a/c", "-a/b"], "a/c", "file 0/0");
    get(&["a/ a/b", "-a/b"], "a", "dir 0/0");
    get(&["a/ a/b", "a/!"], "a/b", "-");
    get(&["a/ a/b", "a/! a/c"], "a/c", "file 1/1");
    get(&["a/ a/b", "!a"], "a/b", "-");
    get(&["a/ a/b", "!a"], "a", "dir 0/0");
    get(&["a/ a/b", "a/ a/c"], "a/b", "file 0/0");
    get(&["a/ a/b", "a/ a/c"], "a", "dir 1/1");
    get(&["a/ a/b/ a/b/c", "a"], "a/b/c", "-");
    get(&["a/ a/b", "a"], "a", "file 1/1");
    get(&["a", "a/ a/b"], "a/b", "file 1/1");
    get(&["a", "a/ a/b"], "a", "dir 1/1");
    get(&["a/ a/b", "a", "a/"], "a/b", "-");
    get(&["x y/ y/z", "!"], "y/z", "-");
    get(&["x", "! n"], "n", "file 1/1");
    get(&["a/ a.x a/b", "-a"], "a.x", "file 0/0");
    get(&["a-b a/ a/b", "-a"], "a-b", "file 0/0");
    get(&["a/ a/b", "a@c"], "a/b", "-");
}

#[test]
fn directories_nobody_described() {
    get(&["a/b"], "a", "dir 0/0");
    get(&["a/", "a/b"], "a", "dir 0/0");
    get(&["x", "a/b/c"], "a/b", "dir 1/0");
    get(&["a/ a/b", "-a a/c"], "a", "dir 1/0");
    get(&["a/ a/b", "-a a/c"], "a/b", "-");
    get(&["a/ a/b", "a/c -a"], "a/b", "-");
    get(&["a/ a/b", "a/c -a"], "a/c", "file 1/1");
    get(&["a", "a/c"], "a", "dir 1/0");
    let found = stack(&["x", "a/b"]).get(Path::new("a")).unwrap().entry;
    assert_eq!((found.mode, found.uid, found.gid), (0o755, 0, 0));
}

#[test]
fn hard_links_show_their_target() {
    get(&["a b=a"], "b", "file 0/0");
    get(&["a", "b=a"], "b", "file 1/0");
    get(&["a", "b=a", "a"], "b", "file 1/0");
    get(&["a", "b=a", "-a"], "b", "file 1/0");
    get(&["a", "b=a", "c=b"], "c", "file 2/0");
    get(&["a", "a b=a"], "b", "file 1/1");
    get(&["b=a"], "b", "dangling 0/0");
    get(&["a/", "b=a"], "b", "dangling 1/1");
    get(&["l@x", "b=l"], "b", "link 1/0");
    get(&["a b=a a"], "b", "file 0/0");
    let found = stack(&["d/ d/a", "b=d/a"]).get(Path::new("b")).unwrap();
    assert_eq!((found.source_layer, found.source_path), (0, "d/a".into()));
    assert_eq!(found.entry.path, Path::new("b"));
}

#[test]
fn names_through_lower_links_are_moved() {
    let usr = "usr/ usr/lib/ lib@usr/lib usr/lib/a";
    get(&[usr, "lib/b"], "usr/lib/b", "file 1/1");
    get(&[usr, "lib/b"], "lib/b", "-");
    get(&[usr, "lib/b"], "lib", "link 0/0");
    get(&[usr, "lib/b"], "usr/lib", "dir 0/0");
    get(&[usr, "lib/x/y"], "usr/lib/x/y", "file 1/1");
    get(&[usr, "-lib/a"], "usr/lib/a", "-");
    get(&[usr, "!lib"], "usr/lib/a", "-");
    get(&[usr, "!lib"], "usr/lib", "dir 0/0");
    get(&[usr, "!lib"], "lib", "link 0/0");
    get(&[usr, "c=lib/a"], "c", "file 1/0");
    get(&[usr, "usr/lib/b c=lib/b"], "c", "file 1/1");
    get(&[usr, "lib/ lib/b"], "lib/b", "file 1/1");
    get(&[usr, "lib/ lib/b"], "lib", "dir 1/1");
    get(&["lib@/nowhere", "lib/b"], "nowhere/b", "file 1/1");
    get(&["lib@lib", "lib/b"], "lib/b", "file 1/1");
    get(&["f lib@f", "lib/b"], "lib/b", "file 1/1");
}

/// `expected`: the path, `|` before what is missing of it.
#[track_caller]
fn resolve(layers: &[&str], path: &str, expected: &str) {
    let resolved = stack(layers).resolve(Path::new(path), true);
    let shown = match resolved {
        Err(Error::SymlinkLoop { .. }) => "loop".to_owned(),
        Err(Error::NotADirectory { path, .. }) => format!("not a directory: {}", path.display()),
        Err(other) => panic!("{other}"),
        Ok(Resolved { path, found, missing }) => {
            assert_eq!(found.is_none(), !missing.as_os_str().is_empty());
            assert!(found.is_none_or(|found| found.entry.path == path));
            let whole = path.to_string_lossy().into_owned();
            let kept = whole.len() - missing.as_os_str().len();
            if missing.as_os_str().is_empty() {
                whole
            } else {
                format!("{}|{}", &whole[..kept], &whole[kept..])
            }
        }
    };
    assert_eq!(shown, expected, "{path} in {layers:?}");
}

#[test]
fn resolve_stays_inside() {
    let base = &["usr/ usr/lib/ usr/lib/f lib@usr/lib abs@/usr/lib up@../../usr me@. f bad@f self@self"][..];
    resolve(base, "", "");
    resolve(base, "/", "");
    resolve(base, "usr/lib", "usr/lib");
    resolve(base, "lib", "usr/lib");
    resolve(base, "/lib/f", "usr/lib/f");
    resolve(base, "abs/f", "usr/lib/f");
    resolve(base, "up/lib/f", "usr/lib/f");
    resolve(base, "../../usr", "usr");
    resolve(base, "usr/../../lib/f", "usr/lib/f");
    resolve(base, "lib/..", "usr");
    resolve(base, "lib/../lib/./f", "usr/lib/f");
    resolve(base, "me/me/me/usr", "usr");
    resolve(base, "lib/new/x", "usr/lib/|new/x");
    resolve(base, "new", "|new");
    resolve(base, "new/../usr", "usr");
    resolve(base, "new/../new/x", "|new/x");
    resolve(base, "new/usr/../x", "|new/x");
    resolve(base, "f/x", "not a directory: f");
    resolve(base, "bad/x", "not a directory: f");
    resolve(base, "f/..", "not a directory: f");
    resolve(base, "bad", "f");
    resolve(base, "self", "loop");
    resolve(base, "self/x", "loop");
    resolve(&["a@b b@/c/d"], "a/x", "|c/d/x");
    resolve(&["a/ l@a", "-l"], "l", "|l");
    resolve(&["a/ l@a", "-a"], "l/x", "|a/x");
}

#[test]
fn the_last_link_is_kept_on_request() {
    let stack = stack(&["d/ d/l@x l@d"]);
    let path = |path| stack.resolve(Path::new(path), false).unwrap().path;
    assert_eq!(path("l"), Path::new("l"));
    assert_eq!(path("l/l"), Path::new("d/l"));
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let chain = |length| {
        let words: Vec<String> = (0..length).map(|at| format!("l{at}@l{}", at + 1)).collect();
        let stack = stack(&[&words.join(" ")]);
        stack.resolve(Path::new("l0"), true).map(|resolved| resolved.path)
    };
    assert_eq!(chain(40).unwrap(), Path::new("l40"));
    assert!(matches!(chain(41), Err(Error::SymlinkLoop { .. })));
}

#[test]
fn children_are_merged_and_sorted() {
    let check = |layers: &[&str], path: &str, expected: &str| {
        let children = stack(layers).children(Path::new(path));
        let names: Vec<_> = children.iter().map(|(name, _)| name.to_string_lossy()).collect();
        assert_eq!(names.join(" "), expected, "{path} in {layers:?}");
    };
    check(&[], "", "");
    check(&["b a/ a/x", "c -b"], "", "a c");
    check(&["a/ a/x a/x.d/ a/x.d/y a/x-z", "a/w"], "a", "w x x-z x.d");
    check(&["a/ a/b/ a/b/c a/d", "-a/d a/b/e"], "a", "b");
    check(&["a/ a/b/ a/b/c", "a/b/e"], "a/b", "c e");
    check(&["a/ a/b", "a/! a/c"], "a", "c");
    check(&["a"], "a", "");
    check(&["a"], "missing", "");
    check(&["a/b/c"], "", "a");
}

#[test]
fn names_of_a_file() {
    let check = |layers: &[&str], path: &str, expected: &str| {
        let names = stack(layers).names(Path::new(path));
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        assert_eq!(names.join(" "), expected, "{path} in {layers:?}");
    };
    check(&["a b=a c"], "a", "a b");
    check(&["a b=a c"], "b", "a b");
    check(&["a b=a c"], "c", "c");
    check(&["a b=a", "a"], "b", "b");
    check(&["a b=a", "-a d=b"], "d", "b d");
    check(&["a"], "x", "");
}

/// What a path is, and which layer described it (0 for directories nobody did).
type Model = BTreeMap<PathBuf, (bool, u32)>;

/// A layer applied as the image spec says it: first what it deletes, then what
/// it adds.
fn apply_layer(model: &mut Model, layer: &EntryIndex) {
    for entry in layer.iter() {
        let keep_below = matches!(entry.kind, Kind::Directory { opaque: false });
        let keep = entry.kind.is_directory();
        model.retain(|path, (is_directory, _)| {
            let below = path != &entry.path && path.starts_with(&entry.path);
            let replaced = path == &entry.path && !(keep && *is_directory);
            !(replaced || (below && !keep_below))
        });
    }
    for entry in layer.iter() {
        // The directory of a deletion exists too, as in an overlay upper.
        for above in entry.path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let found = model.entry(above.to_owned()).or_insert((true, 0));
            if !found.0 {
                *found = (true, 0);
            }
        }
        if entry.kind != Kind::Whiteout {
            model.insert(entry.path.clone(), (entry.kind.is_directory(), entry.uid));
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_the_spec_word_by_word(
        layers in prop::collection::vec(prop::collection::vec("-?[abc](/[abc]){0,2}(/|/!)?", 0..8), 1..5)
    ) {
        let mut stack = Stack::default();
        let mut model = Model::new();
        for (number, words) in layers.iter().enumerate() {
            let mut builder = IndexBuilder::default();
            for word in words {
                let word = if word.starts_with('-') { word.trim_end_matches(['/', '!']) } else { word };
                // A file as a parent is an error, and no entry.
                drop(builder.apply(item(word, number + 1)));
            }
            let layer = Arc::new(builder.finish().unwrap());
            apply_layer(&mut model, &layer);
            stack.push(layer);
        }
        let found: Model = stack
            .iter()
            .map(|found| (found.entry.path, (found.entry.kind.is_directory(), found.entry.uid)))
            .collect();
        prop_assert_eq!(found, model, "{:?}", layers);
    }
}

#[test]
fn rooms_of_other_threads_can_use_them() {
    fn check<T: Send + Sync>() {}
    fn check_send<T: Send>() {}
    check::<Stack>();
    check::<EntryIndex>();
    check_send::<LayerWriter>();
    check::<Error>();
}

#[test]
fn a_fork_does_not_see_the_others_layers() {
    let base = stack(&["a"]);
    let (mut one, mut other) = (base.clone(), base.clone());
    one.push(layer("b", 1));
    other.push(layer("-a", 1));
    assert_eq!(show(one.get(Path::new("a"))), "file 0/0");
    assert_eq!(show(other.get(Path::new("a"))), "-");
    assert_eq!(show(other.get(Path::new("b"))), "-");
    assert_eq!((base.depth(), one.depth()), (1, 2));
}
