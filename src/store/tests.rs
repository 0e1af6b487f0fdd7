use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Barrier;

use super::*;
use crate::image::{ImageBuilder, ImageConfig, Layer, Platform, Reference, media_type};

fn bench() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("deep/state");
    (directory, root)
}

fn open(root: &Path) -> Store {
    Store::open(root, "root-0-65536").unwrap()
}

/// A lock may outlive its holder by moments: a process that another test is just
/// starting has copies of all open files until it executes its program.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what}");
}

#[test]
fn makes_a_private_layout() {
    let (_directory, root) = bench();
    drop(open(&root));
    drop(open(&root));
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), VERSION);
    assert_eq!(fs::read_to_string(root.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    for directory in DIRECTORIES.into_iter().chain(["", "blobs", "trees/root-0-65536"]) {
        assert_eq!(fs::metadata(root.join(directory)).unwrap().mode() & 0o7777, 0o700, "{directory}");
    }
}

#[test]
fn refuses_what_it_cannot_use() {
    let (directory, root) = bench();
    let refused = |root: &Path| Store::open(root, "m").unwrap_err();
    drop(open(&root));
    fs::write(root.join("version"), "coracle state 99\n").unwrap();
    let message = refused(&root).to_string();
    for part in ["coracle state 99", "--state-dir", "CORACLE_STATE_DIR", "remove the directory", "deep/state"]
    {
        assert!(message.contains(part), "{message}");
    }
    fs::write(root.join("version"), "").unwrap();
    drop(open(&root));

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file), Error::NotDirectory { .. }));
    assert!(matches!(refused(&file.join("below")), Error::NotDirectory { .. }));
    // A file system that takes no new directory, whoever asks.
    let closed = refused(Path::new("/proc/coracle"));
    assert!(closed.to_string().contains("/proc/coracle"), "{closed}");
}

#[test]
fn errors_are_sorted_for_the_user() {
    use std::io::ErrorKind as Kind;
    for (kind, expected) in [
        (Kind::PermissionDenied, "not writable"),
        (Kind::ReadOnlyFilesystem, "not writable"),
        (Kind::StorageFull, "no space left"),
        (Kind::QuotaExceeded, "no space left"),
        (Kind::NotADirectory, "is not a directory"),
    ] {
        let message = Error::new("write", Path::new("/state/x"), kind.into()).to_string();
        for part in [expected, "/state/x", "--state-dir", "CORACLE_STATE_DIR"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn blobs_are_taken_whole_or_not_at_all() {
    let (_directory, root) = bench();
    let store = open(&root);
    let digest = store.put_blob(b"hello").unwrap();
    assert_eq!(digest, Digest::of("hello"));
    assert!(store.has_blob(&digest, 5) && !store.has_blob(&digest, 6));
    let descriptor = crate::image::Descriptor::of("x/y", b"hello");
    assert_eq!(store.read_blob(&descriptor).unwrap(), b"hello");

    fs::write(store.blob_path(&digest), "hel").unwrap();
    assert!(!store.has_blob(&digest, 5));
    assert!(matches!(store.read_blob(&descriptor), Err(Error::Damaged { .. })));
    store.put_blob(b"hello").unwrap();
    assert!(store.has_blob(&digest, 5));
    assert!(!store.has_blob(&Digest::of("other"), 5));

    let temporary = root.join("builds/new");
    for _ in 0..2 {
        fs::write(&temporary, "hello").unwrap();
        store.adopt_blob(&temporary, &digest).unwrap();
        assert!(!temporary.exists() && store.has_blob(&digest, 5));
    }
    assert!(store.adopt_blob(&temporary, &digest).is_err(), "nothing to adopt");
}

#[test]
fn trees_belong_to_an_id_map() {
    let (_directory, root) = bench();
    let store = open(&root);
    let build = store.build_directory().unwrap();
    let id = Digest::of("tree");
    assert_eq!(store.tree(&id), None);
    let make = |name: &str| {
        let path = build.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("from"), name).unwrap();
        path
    };
    let tree = store.adopt_tree(&make("one"), &id).unwrap();
    assert_eq!(store.tree(&id), Some(tree.clone()));
    let second = make("two");
    assert_eq!(store.adopt_tree(&second, &id).unwrap(), tree);
    assert_eq!(fs::read_to_string(tree.join("from")).unwrap(), "one", "the first stays");
    assert_eq!(Store::open(&root, "other").unwrap().tree(&id), None);
    assert!(store.adopt_tree(&build.path().join("none"), &Digest::of("none")).is_err());
}

#[test]
fn side_by_side_everyone_succeeds() {
    let (_directory, root) = bench();
    let together = Barrier::new(8);
    let reference: Reference = "localhost:5000/app:1".parse().unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (root, together, reference) = (&root, &together, &reference);
            scope.spawn(move || {
                together.wait();
                let store = open(root);
                let build = store.build_directory().unwrap();
                for round in 0..20 {
                    let id = Digest::of(format!("{round}"));
                    let tree = build.path().join("tree");
                    fs::create_dir_all(tree.join("x")).unwrap();
                    let adopted = store.adopt_tree(&tree, &id).unwrap();
                    assert!(adopted.join("x").is_dir());
                    remove_tree(&tree).unwrap();
                    store.put_blob(format!("{round}").as_bytes()).unwrap();
                    let blob = build.path().join("blob");
                    fs::write(&blob, "blob").unwrap();
                    store.adopt_blob(&blob, &Digest::of("blob")).unwrap();
                    store.cache_put(&id, &CacheEntry { layer: None, created: 0 }).unwrap();
                    let own = reference.tagged(&format!("t{number}")).unwrap();
                    store.name_put(&own, &crate::image::Descriptor::of("x/y", b"z")).unwrap();
                }
                store.record_key().unwrap()
            });
        }
    });
    let store = open(&root);
    assert_eq!(store.images().unwrap().len(), 8, "no name was lost");
    assert_eq!(fs::read_dir(root.join("builds")).unwrap().count(), 0);
}

fn layer() -> Layer {
    Layer {
        diff_id: Digest::of("tar"),
        digest: Digest::of("gz"),
        size: 2,
        media_type: media_type::LAYER_GZIP.to_owned(),
    }
}

#[test]
fn a_damaged_cache_entry_is_missing() {
    let (_directory, root) = bench();
    let store = open(&root);
    let key = Digest::of("key");
    assert_eq!(store.cache_get(&key).unwrap(), None);
    let entry = CacheEntry { layer: Some(layer()), created: 7 };
    store.cache_put(&key, &CacheEntry::default()).unwrap();
    store.cache_put(&key, &entry).unwrap();
    assert_eq!(store.cache_get(&key).unwrap(), Some(entry));

    let path = root.join("cache").join(key.hex());
    let good = fs::read(&path).unwrap();
    fs::copy(&path, root.join("cache").join(Digest::of("another").hex())).unwrap();
    assert_eq!(store.cache_get(&Digest::of("another")).unwrap(), None, "under another key");
    for cut in (0..good.len()).step_by(5) {
        fs::write(&path, &good[..cut]).unwrap();
        assert_eq!(store.cache_get(&key).unwrap(), None, "cut at {cut}");
    }
    for place in (0..good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&path, bad).unwrap();
        assert_eq!(store.cache_get(&key).unwrap(), None, "changed at {place}");
    }
}

#[test]
fn a_build_directory_lives_as_long_as_its_build() {
    let (_directory, root) = bench();
    let store = open(&root);
    let build = store.build_directory().unwrap();
    let other = store.build_directory().unwrap();
    assert_ne!(build.path(), other.path());
    assert_eq!(fs::metadata(build.path()).unwrap().mode() & 0o777, 0o700);
    fs::create_dir_all(build.path().join("a/b")).unwrap();
    fs::set_permissions(build.path().join("a"), fs::Permissions::from_mode(0o0)).unwrap();
    drop(open(&root));
    assert!(build.path().exists(), "a sweep leaves the living alone");
    drop(build);
    other.close().unwrap();
    assert_eq!(fs::read_dir(root.join("builds")).unwrap().count(), 0);
}

#[test]
fn what_a_kill_left_is_swept() {
    let (_directory, root) = bench();
    drop(open(&root));
    let builds = root.join("builds");
    fs::create_dir_all(builds.join("dead/tree/x")).unwrap();
    fs::set_permissions(builds.join("dead/tree"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::write(builds.join("dead.lock"), "").unwrap();
    fs::create_dir_all(builds.join("lockless/x")).unwrap();
    fs::write(builds.join("dirless.lock"), "").unwrap();
    fs::write(builds.join(".tmpnew"), "").unwrap();
    symlink("/", builds.join("link")).unwrap();
    drop(open(&root));
    let mut left: Vec<_> = fs::read_dir(&builds).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".tmpnew"], "a new file may be somebody's");
}

/// The real thing: a process that holds a build directory and is killed.
#[test]
fn a_killed_process_frees_its_directory() {
    let (_directory, root) = bench();
    drop(open(&root));
    let builds = root.join("builds");
    fs::create_dir(builds.join("held")).unwrap();
    let lock = lock_file(&builds.join("held.lock")).unwrap();
    assert!(try_lock(&lock, FlockOperation::NonBlockingLockExclusive, &root).unwrap());
    // The lock goes with the open file: the child has it as its standard input,
    // and once we close ours it is the only holder.
    let mut child = std::process::Command::new("sleep").arg("600").stdin(lock).spawn().unwrap();
    drop(open(&root));
    assert!(builds.join("held").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("swept", || {
        drop(open(&root));
        !builds.join("held").exists() && !builds.join("held.lock").exists()
    });
}

#[test]
fn images_are_named_in_the_index() {
    let (_directory, root) = bench();
    let store = open(&root);
    let image = |author: &str| {
        let mut builder = ImageBuilder::new(ImageConfig::scratch(&Platform::host()), vec![]).unwrap();
        builder.author(author.to_owned());
        builder.finish()
    };
    let (first, second) = (image("a"), image("b"));
    let one: Reference = "localhost:5000/app:1".parse().unwrap();
    let two: Reference = "debian".parse().unwrap();
    store.image_put(&one, &first).unwrap();
    store.image_put(&two, &first).unwrap();
    store.image_put(&one, &second).unwrap();
    let digest = |name: &Reference| store.image(name).unwrap().map(|found| found.digest);
    assert_eq!((digest(&one), digest(&two)), (Some(second.digest()), Some(first.digest())));
    assert_eq!(store.images().unwrap().len(), 2);
    assert!(store.has_blob(&second.digest(), second.manifest().to_bytes().len() as u64));

    let text = fs::read_to_string(root.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["manifests"][1]["mediaType"], media_type::MANIFEST);
    for key in ["org.opencontainers.image.ref.name", "io.containerd.image.name"] {
        assert_eq!(index["manifests"][0]["annotations"][key], "docker.io/library/debian:latest");
    }

    store.name_drop(&one).unwrap();
    store.name_drop(&one).unwrap();
    assert_eq!((digest(&one), digest(&two)), (None, Some(first.digest())));

    for torn in ["", "{", "[]", r#"{"manifests":3}"#] {
        fs::write(root.join("index.json"), torn).unwrap();
        assert_eq!(store.images().unwrap(), []);
        store.name_put(&one, &second.manifest().descriptor()).unwrap();
        assert_eq!(digest(&one), Some(second.digest()), "{torn}");
    }
}

#[test]
fn the_record_key_is_made_once() {
    let (_directory, root) = bench();
    let key = open(&root).record_key().unwrap();
    assert_ne!(key, [0; 32]);
    assert_eq!(open(&root).record_key().unwrap(), key);
    assert_eq!(fs::metadata(root.join("record-key")).unwrap().mode() & 0o777, 0o600);
    assert_ne!(open(&bench().1).record_key().unwrap(), key);

    let store = open(&root);
    fs::create_dir(store.trees.join(Digest::of("x").hex())).unwrap();
    fs::write(root.join("record-key"), "torn").unwrap();
    assert_ne!(store.record_key().unwrap(), key);
    assert_eq!(store.tree(&Digest::of("x")), None, "its records were made with the lost key");
}

#[test]
fn cache_mounts_are_kept_and_can_be_locked() {
    let (_directory, root) = bench();
    let store = open(&root);
    let path = store.mount_directory("../../etc").unwrap();
    assert!(path.starts_with(root.join("mounts")) && path.is_dir());
    fs::write(path.join("kept"), "").unwrap();
    assert_eq!(open(&root).mount_directory("../../etc").unwrap(), path);
    assert_ne!(store.mount_directory("other").unwrap(), path);
    let foreign = Store::open(&root, "another-map").unwrap();
    assert_ne!(foreign.mount_directory("../../etc").unwrap(), path, "its owners mean nothing there");

    let held = store.mount_lock("a").unwrap();
    assert!(held.is_some());
    assert!(open(&root).mount_lock("a").unwrap().is_none());
    assert!(store.mount_lock("b").unwrap().is_some());
    drop(held);
    eventually("free again", || store.mount_lock("a").unwrap().is_some());
}

#[test]
fn a_purge_takes_everything_unless_someone_builds() {
    let (directory, root) = bench();
    purge(&root).unwrap();
    let store = open(&root);
    store.put_blob(b"hello").unwrap();
    store.mount_directory("m").unwrap();
    store.record_key().unwrap();
    let usage = store.usage().unwrap();
    assert!(usage.blobs > 0 && usage.total() >= usage.blobs);
    assert!(matches!(purge(&root), Err(Error::InUse { .. })));
    drop(store);
    fs::write(root.join("version"), "coracle state 99\n").unwrap();
    eventually("purged", || purge(&root).is_ok());
    let mut left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", "version"]);
    drop(open(&root));

    fs::create_dir(directory.path().join("builds")).unwrap();
    assert!(matches!(purge(directory.path()), Err(Error::NotState { .. })));
    assert!(directory.path().join("builds").exists());
}

#[test]
fn finds_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["home", "data", "tmp"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("file"), "").unwrap();
    let fallback = format!("tmp/coracle-{}", rustix::process::geteuid().as_raw());
    for (variables, expected) in [
        (vec![("CORACLE_STATE_DIR", "any"), ("XDG_DATA_HOME", "data"), ("HOME", "home")], "any"),
        (vec![("CORACLE_STATE_DIR", ""), ("XDG_DATA_HOME", "data"), ("HOME", "home")], "data/coracle"),
        (vec![("HOME", "home")], "home/.local/share/coracle"),
        (vec![("XDG_DATA_HOME", "file"), ("HOME", "home")], "home/.local/share/coracle"),
        (vec![("HOME", "file")], fallback.as_str()),
        (vec![], fallback.as_str()),
        (vec![], fallback.as_str()),
    ] {
        let mut environment = BTreeMap::from([("TMPDIR".to_owned(), at("tmp").display().to_string())]);
        for (name, value) in &variables {
            let value = if value.is_empty() { String::new() } else { at(value).display().to_string() };
            environment.insert((*name).to_owned(), value);
        }
        assert_eq!(locate(&environment).unwrap(), at(expected), "{variables:?}");
    }
    let relative = BTreeMap::from([
        ("HOME".to_owned(), "relative".to_owned()),
        ("TMPDIR".to_owned(), at("tmp").display().to_string()),
    ]);
    assert_eq!(locate(&relative).unwrap(), at(&fallback));
}

#[test]
fn a_trap_in_the_temporary_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let environment = BTreeMap::from([("TMPDIR".to_owned(), directory.path().display().to_string())]);
    let place = directory.path().join(format!("coracle-{}", rustix::process::geteuid().as_raw()));
    let check = |reason: &str| {
        let message = locate(&environment).unwrap_err().to_string();
        assert!(message.contains(reason) && message.contains("CORACLE_STATE_DIR"), "{message}");
    };
    fs::create_dir(directory.path().join("elsewhere")).unwrap();
    symlink(directory.path().join("elsewhere"), &place).unwrap();
    check("symbolic link");
    fs::remove_file(&place).unwrap();
    fs::write(&place, "").unwrap();
    check("not a directory");
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    check("other users");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(locate(&environment).unwrap(), place);
}
