//! ADD: local archives, downloads and git repositories.

use libtest_mimic::Trial;
use tar::{Builder, EntryType, Header};

use crate::support::{Bench, as_caller, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials
        .extend(as_everyone("add::archives_unpack_whatever_their_name", archives_unpack_whatever_their_name));
    trials.extend(as_everyone(
        "add::an_archive_merges_into_what_is_there",
        an_archive_merges_into_what_is_there,
    ));
    trials.push(as_caller("add::an_archive_cannot_delete", an_archive_cannot_delete));
    trials
}

/// Path (a directory's ends with a slash, a link's has ` -> target`), mode, owner.
fn archive(entries: &[(&str, u32, (u64, u64))]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, mode, (uid, gid)) in entries {
        let mut header = Header::new_gnu();
        let (name, target) =
            path.split_once(" -> ").map_or((*path, None), |(name, target)| (name, Some(target)));
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(*gid);
        header.set_mtime(1_000);
        let content = if name.ends_with('/') || target.is_some() { "" } else { name };
        header.set_size(content.len() as u64);
        header.set_entry_type(match target {
            Some(_) => EntryType::Symlink,
            None if name.ends_with('/') => EntryType::Directory,
            None => EntryType::Regular,
        });
        if let Some(target) = target {
            header.set_link_name(target).unwrap();
        }
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast());
    let mut packed = Vec::new();
    std::io::Read::read_to_end(&mut encoder, &mut packed).unwrap();
    packed
}

fn archives_unpack_whatever_their_name(mut bench: Bench) {
    let tar = archive(&[("a/", 0o750, (7, 8)), ("a/file", 0o4640, (9, 10))]);
    bench.file("one.txt", &tar);
    bench.file("two", bzip2(&tar));
    bench.file("three.zip", zstd::encode_all(&tar[..], 1).unwrap());
    bench.file("plain.bz2", bzip2(b"no archive"));
    bench.file("name.tar", "no archive");
    bench.dockerfile(
        "FROM scratch\nADD one.txt /one\nADD two /two/\nADD --chown=1:2 --chmod=777 three.zip /three\n\
         ADD --unpack=false two /kept\nADD plain.bz2 name.tar one.txt /mixed/\n",
    );
    let image = bench.build(&["-t", "archives"]);
    for (at, directory, file) in [
        ("one", "0750 7:8", "4640 9:10"),
        ("two", "0750 7:8", "4640 9:10"),
        ("three", "0750 1:2", "4640 1:2"),
        ("mixed", "0750 7:8", "4640 9:10"),
    ] {
        assert_eq!(image.owner(&format!("{at}/a")), directory, "{at}");
        assert_eq!(image.owner(&format!("{at}/a/file")), file, "{at}");
        assert_eq!(image.text(&format!("{at}/a/file")), "a/file", "{at}");
        assert_eq!(image.entry(&format!("{at}/a/file")).mtime, 1_000, "{at}");
    }
    assert_eq!(image.entry("kept").content, bzip2(&tar));
    assert_eq!(image.entry("mixed/plain.bz2").content, bzip2(b"no archive"));
    assert_eq!(image.text("mixed/name.tar"), "no archive");
}

/// The base has `/lib -> usr/lib`, a sticky `/tmp` and `/home/app` of 1000:1000.
fn an_archive_merges_into_what_is_there(mut bench: Bench) {
    bench.file("implied.tar", archive(&[("lib/deep/file", 0o600, (3, 4)), ("tmp/file", 0o600, (3, 4))]));
    bench.file(
        "said.tar",
        archive(&[
            ("lib/", 0o711, (5, 6)),
            ("lib/own", 0o644, (0, 0)),
            ("home", 0o600, (1, 1)),
            ("tmp/", 0o1755, (2, 2)),
        ]),
    );
    bench.dockerfile(
        "FROM BASE AS implied\nADD implied.tar /\nFROM BASE\nADD said.tar /\nRUN test ! -e /home/app\n",
    );
    let image = bench.build(&["-t", "implied", "--target", "implied"]);
    assert_eq!(image.entry("lib").target, "usr/lib");
    assert_eq!(image.owner("usr/lib/deep/file"), "0600 3:4");
    assert_eq!(image.owner("usr/lib/deep"), "0755 0:0");
    assert_eq!(image.owner("tmp"), "1777 0:0");
    let image = bench.build(&["-t", "said"]);
    assert_eq!(image.owner("lib"), "0711 5:6");
    assert_eq!(image.text("lib/own"), "lib/own");
    assert_eq!(image.owner("home"), "0600 1:1");
    assert_eq!(image.owner("tmp"), "1755 2:2");
}

/// What begins with `.wh.` is a file in an archive, which no layer can hold.
fn an_archive_cannot_delete(mut bench: Bench) {
    bench.file("a.tar", archive(&[(".wh.etc", 0o600, (0, 0))]));
    bench.dockerfile("FROM BASE\nADD a.tar /\n");
    bench.fails(&["-t", "no"], 3, ".wh.etc");
}
