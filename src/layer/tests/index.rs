//! Entry indexes: in memory, on disk, damaged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::super::index_file::MAGIC;
use super::*;

fn sample() -> Vec<Entry> {
    let odd = PathBuf::from(OsStr::from_bytes(b"\xff\xfe odd\nname"));
    vec![
        Entry { path: odd, ..file("x", 7) },
        Entry {
            xattrs: [(b"security.capability".to_vec(), vec![1, 0, b'\n', 0])].into(),
            mode: 0o4755,
            mtime: -5,
            uid: 4_000_000_000,
            ..file("bin/ping", 1 << 40)
        },
        entry("bin", Kind::Directory { opaque: true }),
        symlink("lib", "usr/lib"),
        hardlink("h", "bin/ping"),
        entry("null", Kind::CharacterDevice { major: 1, minor: 3 }),
        entry("sda", Kind::BlockDevice { major: 8, minor: 0 }),
        entry("fifo", Kind::Fifo),
        entry("gone", Kind::Whiteout),
        file("deep/down/here", 0),
        directory(""),
    ]
}

fn saved() -> (tempfile::TempDir, PathBuf, EntryIndex) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let index = EntryIndex::from_entries(sample()).unwrap();
    index.save(&path).unwrap();
    (directory, path, index)
}

#[test]
fn saves_and_loads() {
    let (_directory, path, index) = saved();
    let loaded = EntryIndex::load(&path).unwrap();
    assert_eq!(loaded, index);
    let mut expected = sample();
    expected.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(loaded.iter().collect::<Vec<_>>(), expected);
    for entry in expected {
        assert_eq!(loaded.get(&entry.path), Some(entry));
    }
}

#[test]
fn implicit_directories_are_children_but_no_entries() {
    let index = EntryIndex::from_entries(sample()).unwrap();
    assert_eq!(index.get(Path::new("deep")), None);
    let names = |path: &str| -> Vec<String> {
        let children = index.children(Path::new(path));
        children.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("deep"), ["down"]);
    assert_eq!(names("bin"), ["ping"]);
    assert_eq!(names("").len(), 9);
    assert_eq!(names("lib"), [""; 0]);
    assert_eq!(names("nowhere"), [""; 0]);
    assert_eq!(index.len(), sample().len() + 2);
}

#[test]
fn the_last_entry_of_a_path_wins() {
    let index = EntryIndex::from_entries([file("a", 1), file("a", 2)]).unwrap();
    assert_eq!(index.get(Path::new("a")), Some(file("a", 2)));
}

#[test]
fn damage_is_an_error() {
    let (_directory, path, _) = saved();
    let good = fs::read(&path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        let error = EntryIndex::load(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(b"", "does not start");
    check(MAGIC, "too short");
    check(&good[..good.len() - 1], "checksum");
    check(&good[..40], "checksum");
    check(&[b"coracle-entries-2\n", &good[MAGIC.len()..]].concat(), "does not start");
    for at in (MAGIC.len()..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(&path, &bad).unwrap();
        assert!(EntryIndex::load(&path).is_err(), "byte {at}");
    }
    assert!(matches!(EntryIndex::load(Path::new("/nonexistent")), Err(Error::IndexFile { .. })));
}

/// An index file whose checksum is right, whatever its records are.
fn sealed(records: &[u8], count: u64) -> Vec<u8> {
    let mut file = [MAGIC, records].concat();
    let checksum = crc32fast::hash(&file);
    file.extend_from_slice(&count.to_le_bytes());
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

proptest! {
    #[test]
    fn sealed_nonsense_never_panics(records in proptest::collection::vec(any::<u8>(), 0..200), count in 0..3u64) {
        if let Ok(index) = EntryIndex::from_file(sealed(&records, count)) {
            prop_assert_eq!(index.iter().count() as u64 <= count, true);
        }
    }

    #[test]
    fn sealed_damage_never_panics(at in 0..400usize, value in any::<u8>()) {
        let (_directory, path, _) = saved();
        let mut file = fs::read(&path).unwrap();
        let end = file.len() - 12;
        let at = MAGIC.len() + at % (end - MAGIC.len());
        file[at] = value;
        let count = u64::from_le_bytes(file[end..end + 8].try_into().unwrap());
        if let Ok(index) = EntryIndex::from_file(sealed(&file[MAGIC.len()..end], count)) {
            for entry in index.iter() {
                prop_assert_eq!(index.get(&entry.path), Some(entry));
            }
        }
    }
}
