//! Writing layers, and reading them back with three readers: ours, the tar
//! crate's, and the system's `tar`.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use super::*;
use crate::image::Digest;

fn pack(options: PackOptions, entries: &[(Entry, &[u8])]) -> Result<(tempfile::TempDir, PackedLayer), Error> {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(directory.path(), options)?;
    for (entry, mut body) in entries.iter().map(|(entry, body)| (entry, *body)) {
        writer.append(entry, Some(&mut body))?;
    }
    let packed = writer.finish()?;
    Ok((directory, packed))
}

fn plain() -> PackOptions {
    PackOptions { compression: Compression::None, ..PackOptions::default() }
}

/// One of everything, sorted.
fn everything() -> Vec<(Entry, &'static [u8])> {
    let long = format!("z/{}/{}", "d".repeat(120), "f".repeat(120));
    let mut all: Vec<(Entry, &[u8])> = vec![
        (directory("bin"), b""),
        (Entry { mode: 0o4755, ..file("bin/su", 3) }, b"su\n"),
        (
            Entry {
                xattrs: [(b"user.note".to_vec(), b"two\nlines \xff".to_vec())].into(),
                ..file("bin/x", 1)
            },
            b"x",
        ),
        (hardlink("bin/y", "bin/x"), b""),
        (entry("fifo", Kind::Fifo), b""),
        (entry("gone", Kind::Whiteout), b""),
        (entry("null", Kind::CharacterDevice { major: 1, minor: 3 }), b""),
        (entry("opaque", Kind::Directory { opaque: true }), b""),
        (file("opaque/in", 0), b""),
        (entry("opaque/no", Kind::Whiteout), b""),
        (entry("sda", Kind::BlockDevice { major: 8, minor: 1 }), b""),
        (symlink("lib", "usr/lib"), b""),
        (symlink("zz", &"t/".repeat(200)), b""),
        (file("café", 2), b"ok"),
        (Entry { path: PathBuf::from(OsStr::from_bytes(b"\xff\xfe")), ..file("", 4) }, b"odd\n"),
        (Entry { mtime: -5, ..file("old", 0) }, b""),
        (Entry { mtime: 1 << 40, ..file("late", 0) }, b""),
        (directory("z"), b""),
        (file(&long, 5), b"long\n"),
    ];
    all.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    all
}

#[test]
fn what_is_packed_is_read_back() {
    for compression in [Compression::default(), Compression::None] {
        let options = PackOptions { compression, ..PackOptions::default() };
        let (_directory, packed) = pack(options, &everything()).unwrap();
        let blob = fs::read(&packed.blob).unwrap();
        assert_eq!(packed.layer.digest, Digest::of(&blob));
        assert_eq!(packed.layer.size, blob.len() as u64);
        assert_eq!(packed.layer.media_type, compression.media_type());
        let (index, diff_id) = index(&blob[..], &packed.layer.media_type).unwrap();
        assert_eq!(diff_id, packed.layer.diff_id);
        let beside = EntryIndex::load(&packed.entries).unwrap();
        assert_eq!(beside.iter().collect::<Vec<_>>(), index.iter().collect::<Vec<_>>());
        assert!(beside == index);
        for (entry, _) in everything().into_iter().filter(|(entry, _)| entry.kind != Kind::Whiteout) {
            assert_eq!(index.get(&entry.path), Some(entry));
        }
    }
}

#[test]
fn what_is_packed_unpacks_to_the_same() {
    let (_directory, packed) = pack(PackOptions::default(), &everything()).unwrap();
    let bench = Bench::new();
    let unpacked = bench.unpack(&fs::read(&packed.blob).unwrap()).unwrap();
    assert_eq!(unpacked.diff_id, packed.layer.diff_id);
    let check = |path: &str, expected: &str| assert_eq!(bench.word(path), expected, "{path}");
    check("bin", "d755");
    check("bin/su", "f4755:su\n");
    check("bin/y", "f644:x");
    check("fifo", "p644");
    check("gone", "w");
    check("null", "f644:");
    check("opaque", "d755!");
    check("opaque/in", "f644:");
    check("opaque/no", "nothing");
    check("lib", "l:usr/lib");
    check("café", "f644:ok");
    check(&format!("z/{}/{}", "d".repeat(120), "f".repeat(120)), "f644:long\n");
    let inode = |path: &str| fs::metadata(bench.root().join(path)).unwrap();
    assert_eq!(inode("bin/x").ino(), inode("bin/y").ino());
    assert_eq!((inode("bin").mtime(), inode("old").mtime()), (1_000, -5));
    let mut note = [0; 32];
    let length = rustix::fs::getxattr(bench.root().join("bin/x"), "user.note", &mut note[..]).unwrap();
    assert_eq!(&note[..length], b"two\nlines \xff");
}

#[test]
fn same_bytes_whatever_the_threads() {
    let body: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    let digest = |threads| {
        let mut entries = everything();
        entries.push((file("big", body.len() as u64), &body));
        entries.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        let (_directory, packed) = pack(PackOptions { threads, ..PackOptions::default() }, &entries).unwrap();
        (packed.layer.digest, packed.layer.diff_id)
    };
    let one = digest(1);
    assert_eq!([digest(0), digest(2), digest(5)], [one; 3]);
}

#[test]
fn later_times_are_clamped() {
    let options = PackOptions { clamp: Some(500), ..plain() };
    let (_directory, packed) =
        pack(options, &[(file("a", 0), b""), (Entry { mtime: 499, ..file("b", 0) }, b"")]).unwrap();
    let index = EntryIndex::load(&packed.entries).unwrap();
    assert_eq!(index.iter().map(|entry| entry.mtime).collect::<Vec<_>>(), [500, 499]);
}

#[test]
fn headers_are_as_they_should_be() {
    let (_directory, packed) = pack(plain(), &everything()).unwrap();
    let blob = fs::read(&packed.blob).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(&blob[..]).entries().unwrap().raw(true) {
        let entry = entry.unwrap();
        let header = entry.header();
        assert!(header.as_ustar().is_some());
        assert_eq!(
            (header.username_bytes().unwrap(), header.groupname_bytes().unwrap()),
            (&b""[..], &b""[..])
        );
        names.push(String::from_utf8_lossy(&header.path_bytes()).into_owned());
    }
    let position = |name: &str| {
        names.iter().position(|other| other == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
    };
    assert_eq!(position("opaque/.wh..wh..opq"), position("opaque/") + 1);
    position("opaque/.wh.no");
    position(".wh.gone");
    assert_eq!(blob.len() % 512, 0);
}

#[test]
fn the_tar_crate_reads_it() {
    let (_directory, packed) = pack(plain(), &everything()).unwrap();
    let blob = fs::read(&packed.blob).unwrap();
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(&blob[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        seen.insert(entry.path_bytes().into_owned(), (entry.link_name_bytes().map(Vec::from), body));
    }
    assert_eq!(seen[&b"zz"[..]].0.as_deref(), Some("t/".repeat(200).as_bytes()));
    assert_eq!(seen["café".as_bytes()].1, b"ok");
    assert_eq!(seen[&b"\xff\xfe"[..]].1, b"odd\n");
    assert!(seen.contains_key(&b"bin/"[..]));
}

#[test]
fn the_systems_tar_reads_it() {
    let (_directory, packed) = pack(PackOptions::default(), &everything()).unwrap();
    let Ok(output) = Command::new("tar").args(["-tzvf"]).arg(&packed.blob).output() else {
        eprintln!("skipped: there is no tar program here");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let check = |text: &str| assert!(listing.contains(text), "{text} is not in\n{listing}");
    check("-rwsr-xr-x");
    check(" bin/y link to bin/x");
    check("lib -> usr/lib");
    check("crw-r--r--");
    check(&format!("z/{}/{}", "d".repeat(120), "f".repeat(120)));
    assert_eq!(listing.lines().count(), everything().len() + 1);
}

#[test]
fn numbers_too_large_for_ustar() {
    let big = Entry { uid: 3_000_000, gid: u32::MAX - 1, ..file("a", 0) };
    let (_directory, packed) = pack(plain(), &[(big.clone(), b"")]).unwrap();
    let blob = fs::read(&packed.blob).unwrap();
    let (index, _) = index(&blob[..], "").unwrap();
    assert_eq!(index.get(Path::new("a")), Some(big));
    // Sorted keys: gid before uid.
    let text = String::from_utf8_lossy(&blob[512..1024]).into_owned();
    assert!(text.starts_with("18 gid=4294967294\n15 uid=3000000\n"), "{text}");
}

#[test]
fn a_size_too_large_for_ustar() {
    let encoded = header::encode(&file("a", 9 << 30)).unwrap();
    let mut stream = tar_stream::TarStream::new(&encoded[..], tar_stream::Dialect::Layer);
    let item = stream.next_item().unwrap().unwrap();
    assert_eq!(item, tar_stream::Item::Entry(file("a", 9 << 30)));
}

#[test]
fn bookkeeping_stays_out() {
    let marks = [&b"user.overlay.opaque"[..], b"trusted.overlay.origin", b"user.coracle.record"];
    let xattrs = marks.map(|name| (name.to_vec(), b"y".to_vec())).into();
    let (_directory, packed) = pack(plain(), &[(Entry { xattrs, ..file("a", 0) }, b"")]).unwrap();
    let index = EntryIndex::load(&packed.entries).unwrap();
    assert_eq!(index.get(Path::new("a")), Some(file("a", 0)));
}

#[test]
fn refused_entries_name_what_is_wrong() {
    let check = |entries: &[(Entry, &[u8])], expected: &str| {
        let error = pack(plain(), entries).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&[(file("a", 3), b"12")], "3 bytes were expected, 2");
    check(&[(file("a", 3), b"1234")], "3 bytes were expected, more");
    check(&[(file("a", 0), b"1")], "0 bytes were expected, more");
    check(&[(file(".wh.a", 0), b"")], "`.wh.`");
    check(&[(directory("a/.wh..wh..opq"), b"")], "`.wh.`");
    check(&[(file("a/.wh.b/c", 0), b"")], "`.wh.`");
    check(&[(file("b", 0), b""), (file("a", 0), b"")], "`a` was added to the layer after `b`");
    check(&[(file("a", 0), b""), (file("a", 0), b"")], "after `a`");
    check(&[(file("/a", 0), b"")], "clean");
    check(&[(file("a/../b", 0), b"")], "clean");
    check(&[(file("a\0b", 0), b"")], "clean");
    let major = u32::MAX;
    check(&[(entry("a", Kind::CharacterDevice { major, minor: 0 }), b"")], "device number");
    let odd = [(b"user.a=b".to_vec(), vec![])].into();
    check(&[(Entry { xattrs: odd, ..file("a", 0) }, b"")], "user.a=b");
}

#[test]
fn changed_beyond_one_buffer() {
    let body = vec![1; 300_000];
    let check = |size: u64, expected: &str| {
        let error = pack(plain(), &[(file("a", size), &body)]).unwrap_err();
        assert!(matches!(&error, Error::Changed { found, .. } if found == expected), "{error}");
    };
    check(300_001, "300000");
    check(299_999, "more");
    assert!(pack(plain(), &[(file("a", 300_000), &body)]).is_ok());
}

#[test]
fn an_unfinished_layer_leaves_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(directory.path(), PackOptions::default()).unwrap();
    writer.append(&file("a", 1), Some(&mut &b"x"[..])).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_root_is_not_written_but_its_opaque_mark_is() {
    let (_directory, packed) = pack(plain(), &[(directory(""), b""), (file("a", 0), b"")]).unwrap();
    assert_eq!(EntryIndex::load(&packed.entries).unwrap().iter().count(), 1);
    let opaque = entry("", Kind::Directory { opaque: true });
    let (_directory, packed) = pack(plain(), &[(opaque, b"")]).unwrap();
    let (read, _) = index(&fs::read(&packed.blob).unwrap()[..], "").unwrap();
    assert!(read == EntryIndex::load(&packed.entries).unwrap());
    assert_eq!(read.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [Kind::Directory { opaque: true }]);
}

#[test]
fn an_empty_layer() {
    let (_directory, packed) = pack(plain(), &[]).unwrap();
    assert_eq!(fs::read(&packed.blob).unwrap(), [0; 1024]);
    assert!(EntryIndex::load(&packed.entries).unwrap().is_empty());
}
