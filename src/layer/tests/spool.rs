//! Bytes taken out of layers and archives while they stream by.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use super::*;

/// `name body` for each file that was asked for and found.
fn taken(tar: &[u8], wanted: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let blob = directory.path().join("blob");
    fs::write(&blob, tar).unwrap();
    let mut spool = Spool::create(directory.path()).unwrap();
    let wanted: BTreeSet<PathBuf> = wanted.iter().map(PathBuf::from).collect();
    let open = || fs::File::open(&blob);
    let (bodies, diff_id) = spool.take_layer(&open, media_type::LAYER, &wanted).unwrap();
    assert_eq!(diff_id, crate::image::Digest::of(tar));
    wanted.iter().filter_map(|name| Some(shown(&spool, name, bodies.get(name)?))).collect()
}

fn shown(spool: &Spool, name: &Path, body: &Body) -> String {
    let mut text = String::new();
    spool.open(body).read_to_string(&mut text).unwrap();
    assert_eq!(body.digest, crate::image::Digest::of(&text));
    format!("{} {text}", name.display())
}

#[test]
fn files_come_in_any_order_and_the_last_of_a_name_counts() {
    let tar = RawTar::default().file("b", "1").file("a", "2").file("b", "3").file("c", "").done();
    assert_eq!(taken(&tar, &["a", "b", "c", "d"]), ["a 2", "b 3", "c "]);
    let tar = RawTar::default().symlink("l", "d").file("l/f", "x").file("g", "y").directory("g").done();
    assert_eq!(taken(&tar, &["d/f", "l/f", "g"]), ["d/f x"]);
}

/// The link was the file's other name, and is the file when the first name gets
/// another one; its bytes have passed by then.
#[test]
fn a_hard_link_keeps_bytes_that_its_target_lost() {
    let tar = RawTar::default().file("a", "1").hardlink("b", "a").file("a", "2").done();
    assert_eq!(taken(&tar, &["b"]), ["b 1"]);
    assert_eq!(taken(&tar, &["a", "b"]), ["a 2", "b 1"]);
    let tar = RawTar::default()
        .file("a", "1")
        .hardlink("b", "a")
        .hardlink("c", "a")
        .symlink("a", "x")
        .file("b", "2")
        .done();
    assert_eq!(taken(&tar, &["c"]), ["c 1"]);
    assert_eq!(taken(&tar, &["b", "c"]), ["b 2", "c 1"]);
}

/// A layer may say `lib/f` where `lib` is a link of a layer below.
#[test]
fn a_stack_knows_what_the_tar_calls_a_file() {
    let one = RawTar::default().directory("usr").symlink("lib", "usr/lib").symlink("alias", "lib").done();
    let two = RawTar::default().file("lib/f", "1").file("alias/g", "2").hardlink("alias/h", "lib/f").done();
    let layers = [&one, &two].map(|tar| Arc::new(index(&tar[..], media_type::LAYER).unwrap().0));
    let stack = Stack::new(layers.to_vec());
    for (path, name, body) in
        [("usr/lib/f", "lib/f", "1"), ("usr/lib/g", "alias/g", "2"), ("usr/lib/h", "lib/f", "1")]
    {
        let found = stack.get(Path::new(path)).unwrap();
        let tar_name = stack.tar_name(found.source_layer, &found.source_path);
        assert_eq!(tar_name, Path::new(name), "{path}");
        assert_eq!(taken(&two, &[name]), [format!("{name} {body}")]);
    }
}

#[test]
fn an_archive_is_taken_whole() {
    let directory = tempfile::tempdir().unwrap();
    let take = |tar: &[u8]| {
        let mut spool = Spool::create(directory.path()).unwrap();
        spool.take_archive(tar).map(|(index, bodies)| {
            let shown = bodies.iter().map(|(name, body)| shown(&spool, name, body)).collect::<BTreeSet<_>>();
            (index.len(), shown.into_iter().collect::<Vec<_>>())
        })
    };
    let tar = RawTar::default().directory("d").file("d/.wh.a", "1").hardlink("h", "d/.wh.a").done();
    assert_eq!(take(&tar).unwrap(), (3, vec!["d/.wh.a 1".to_owned()]));
    let early = RawTar::default().hardlink("h", "f").file("f", "1").done();
    assert!(matches!(take(&early), Err(Error::LinkTarget { reason: "which does not exist", .. })));
    let short = RawTar::default().file("f", &"x".repeat(600)).done();
    assert!(matches!(take(&short[..700]), Err(Error::Truncated { .. })));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "spools go when they are dropped");
}

#[test]
fn what_cannot_be_kept_is_said_with_its_place() {
    let error = Spool::create(Path::new("/nonexistent")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}
