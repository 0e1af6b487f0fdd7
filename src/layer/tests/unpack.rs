//! Reading layers of others: their compressions, dialects and marks, and what
//! lies below.

use std::io::Write;

use super::*;
use crate::image::Digest;
use crate::metadata::{Device, DeviceKind};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn small() -> Vec<u8> {
    RawTar::default().directory("d").file("d/a", "hello").done()
}

#[test]
fn every_compression_under_every_name() {
    let tar = small();
    let half = tar.len() / 2;
    let members = [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd].concat();
    for blob in [&tar, &gzip(&tar), &members, &zstd, &skippable] {
        for media_type in [media_type::LAYER, media_type::LAYER_GZIP, media_type::LAYER_ZSTD, "nonsense"] {
            let bench = Bench::new();
            let root = fs::File::open(bench.root()).unwrap();
            let unpacked = unpack(&blob[..], media_type, root.as_fd(), None, &options()).unwrap();
            assert_eq!(unpacked.diff_id, Digest::of(&tar));
            assert_eq!(bench.word("d/a"), "f644:hello");
        }
    }
}

#[test]
fn what_follows_the_archive_counts_for_the_diff_id() {
    let tar = [small(), vec![0; 9_000], b"trailing".to_vec()].concat();
    let unpacked = Bench::new().unpack(&tar).unwrap();
    assert_eq!(unpacked.diff_id, Digest::of(&tar));
}

#[test]
fn cut_off_blobs_are_errors() {
    let noise: String = (0..200_000u64).map(|at| char::from(33 + (at * at % 89) as u8)).collect();
    let tar = RawTar::default().file("a", &noise).file("b", "x").done();
    let (packed, zstd) = (gzip(&tar), zstd::encode_all(&tar[..], 1).unwrap());
    let check = |blob: &[u8]| assert!(Bench::new().unpack(blob).is_err());
    for step in 1..20 {
        check(&packed[..packed.len() * step / 20]);
        check(&zstd[..zstd.len() * step / 20]);
    }
    check(&packed[..packed.len() - 1]);
    for length in [600, 100_000, 200_600] {
        check(&tar[..length]);
    }
    let mut damaged = packed.clone();
    let end = damaged.len();
    damaged[end - 6] ^= 1;
    check(&damaged);
    let error =
        unpack(&b""[..], media_type::LAYER_GZIP, fs::File::open("/").unwrap().as_fd(), None, &options());
    assert!(error.unwrap_err().to_string().contains("empty"));
}

#[test]
fn an_archive_may_lack_its_end() {
    let tar = small();
    let unpacked = Bench::new().unpack(&tar[..tar.len() - 1024]).unwrap();
    assert_eq!(unpacked.index.len(), 2);
    Bench::new().unpack(b"").unwrap();
}

#[test]
fn gnu_and_pax_dialects() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let mut gnu_header = tar::Header::new_gnu();
    gnu_header.set_path("gnu").unwrap();
    gnu_header.set_mode(0o600);
    gnu_header.set_uid(own().0.into());
    gnu_header.set_gid(own().1.into());
    gnu_header.set_size(0);
    gnu_header.as_old_mut().mtime = [0xff; 12];
    gnu_header.as_old_mut().mtime[11] = 0xf9;
    gnu_header.set_cksum();
    let mut blank = RawTar::header(b'3', b"blank", b"", 0);
    blank.as_ustar_mut().unwrap().dev_major = [0; 8];
    blank.as_ustar_mut().unwrap().dev_minor = [b' '; 8];
    blank.as_old_mut().size = [0; 12];
    blank.set_cksum();
    let target = "t/".repeat(80);
    let tar = RawTar::default()
        .add(b'g', "global", "", "19 path=everywhere\n")
        .add(b'L', "././@LongLink", "", &format!("{long}\0"))
        .file("short", "long name")
        .add(b'K', "././@LongLink", "", &format!("{target}\0"))
        .symlink("link", "short")
        .push(&gnu_header, b"")
        .push(&blank, b"")
        .pax(&[("path", "café".as_bytes()), ("mtime", b"12.987"), ("size", b"3")])
        .push(&RawTar::header(b'0', b"x", b"", 0), b"pax")
        .pax(&[("path", b"")])
        .file("kept", "")
        .file("v7/", "")
        .done();
    let bench = Bench::new();
    let unpacked = bench.unpack(&tar).unwrap();
    assert_eq!(bench.word(&long), "f644:long name");
    assert_eq!(bench.word("link"), format!("l:{target}"));
    assert_eq!(bench.word("gnu"), "f600:");
    assert_eq!(bench.word("café"), "f644:pax");
    assert_eq!(bench.word("kept"), "f644:");
    assert_eq!(bench.word("v7"), "d644");
    let mtime = |path: &str| unpacked.index.get(Path::new(path)).unwrap().mtime;
    assert_eq!((mtime("gnu"), mtime("café"), mtime("blank")), (-7, 12, 1_000));
    assert_eq!(fs::metadata(bench.root().join("café")).unwrap().mtime(), 12);
}

#[test]
fn archives_that_make_no_sense() {
    let refused = |tar: RawTar, expected: &str| {
        let error = Bench::new().unpack(&tar.done()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let broken = |change: fn(&mut tar::Header)| {
        let mut header = RawTar::header(b'0', b"a", b"", 0);
        change(&mut header);
        RawTar::default().push(&header, b"")
    };
    refused(broken(|header| header.as_mut_bytes()[0] ^= 1), "checksum");
    refused(
        broken(|header| {
            header.as_old_mut().uid = *b"9999999\0";
            header.set_cksum();
        }),
        "no valid uid",
    );
    refused(
        broken(|header| {
            header.set_uid(1 << 40);
            header.set_cksum();
        }),
        "owner or group",
    );
    refused(RawTar::default().add(b'S', "a", "", ""), "sparse");
    refused(RawTar::default().pax(&[("GNU.sparse.major", b"1")]).file("a", ""), "sparse");
    refused(RawTar::default().add(b'V', "a", "", ""), "of the type `V`");
    refused(RawTar::default().add(b'x', "p", "", "nonsense").file("a", ""), "pax record");
    refused(RawTar::default().add(b'x', "p", "", "99 a=b\n").file("a", ""), "pax record");
    refused(RawTar::default().add(b'x', "p", "", "0 a=b\n").file("a", ""), "pax record");
    refused(RawTar::default().pax(&[("size", b"-1")]).file("a", ""), "`size`");
    refused(RawTar::default().pax(&[("size", b"18446744073709551615")]).file("a", ""), "bytes");
    refused(RawTar::default().pax(&[("mtime", b"soon")]).file("a", ""), "time");
    refused(RawTar::default().pax(&[("path", b"x")]), "ends in the middle");
    let huge = RawTar::header(b'x', b"p", b"", 1 << 40);
    refused(RawTar::default().push(&huge, b""), "extension record");
}

#[test]
fn whiteouts_and_opaque_marks() {
    let check = |tar: RawTar, path: &str, expected: &str| {
        let bench = Bench::new();
        bench.unpack(&tar.done()).unwrap();
        assert_eq!(bench.word(path), expected, "{:?}", bench.tree());
    };
    let tar = RawTar::default;
    check(tar().directory("d").file("d/.wh.a", ""), "d/a", "w");
    check(tar().directory("d").file("d/.wh..wh..opq", ""), "d", "d755!");
    check(tar().file("d/x", "").file("d/.wh..wh..opq", ""), "d", "d755!");
    check(tar().file("d/x", "").file("d/.wh..wh..opq", ""), "d/x", "f644:");
    check(tar().file("d/.wh.a", "").file("d/.wh..wh..opq", ""), "d/a", "nothing");
    check(tar().file("d/.wh..wh..opq", "").file("d/.wh.a", ""), "d/a", "nothing");
    check(tar().file(".wh.a", "").file("a", "new"), "a", "f644:new");
    check(tar().file("a", "new").file(".wh.a", ""), "a", "f644:new");
    check(tar().file(".wh.a", "").directory("a"), "a", "d755!");
    check(tar().directory("a").file(".wh.a", ""), "a", "d755!");
    check(tar().file(".wh.a", "").file("a/x", "new"), "a", "d755!");
    check(tar().file("a/x", "new").file(".wh.a", ""), "a/x", "f644:new");
    check(tar().file("a", "").directory("a"), "a", "d755!");
    check(tar().directory("a").directory("a"), "a", "d755");
    check(tar().directory(".wh..wh.plnk").file(".wh..wh.plnk/1", ""), ".wh..wh.plnk", "nothing");
    check(tar().file(".wh..wh.aufs", "").file("a", ""), "a", "f644:");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let tar = RawTar::default()
        .file("d/x/y", "1")
        .file("d/x", "2")
        .symlink("s", "d")
        .file("s", "3")
        .file("t", "4")
        .hardlink("u", "t")
        .hardlink("v", "u")
        .file("t", "5")
        .done();
    let bench = Bench::new();
    let unpacked = bench.unpack(&tar).unwrap();
    assert_eq!(bench.word("d/x"), "f644:2");
    assert_eq!(bench.word("s"), "f644:3");
    assert_eq!([bench.word("t"), bench.word("u"), bench.word("v")], ["f644:5", "f644:4", "f644:4"]);
    assert_eq!(unpacked.index.get(Path::new("d/x/y")), None);
    assert_eq!(unpacked.index.get(Path::new("u")).unwrap().kind, Kind::File { size: 1 });
    assert_eq!(unpacked.index.get(Path::new("v")).unwrap().kind, Kind::Hardlink { target: "u".into() });
}

#[test]
fn directories_keep_mode_and_time_although_written_into() {
    let mut closed = RawTar::header(b'5', b"d/", b"", 0);
    closed.set_mode(0o1555);
    closed.set_cksum();
    let bench = Bench::new();
    bench.unpack(&RawTar::default().push(&closed, b"").file("d/a", "x").file("d/b", "y").done()).unwrap();
    assert_eq!(bench.word("d"), "d1555");
    assert_eq!(fs::metadata(bench.root().join("d")).unwrap().mtime(), 1_000);
    fs::set_permissions(bench.root().join("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn foreign_owners_are_set_or_recorded() {
    let mut header = RawTar::header(b'0', b"a", b"", 0);
    header.set_uid(1_234);
    header.set_gid(4_321);
    header.set_mode(0o4755);
    header.set_cksum();
    let bench = Bench::new();
    bench.unpack(&RawTar::default().push(&header, b"").done()).unwrap();
    let metadata = fs::metadata(bench.root().join("a")).unwrap();
    match bench.record("a") {
        None => {
            assert_eq!((metadata.uid(), metadata.gid()), (1_234, 4_321));
            assert_eq!(bench.word("a"), "f4755:");
        }
        // An ordinary user, and root of a namespace with one id.
        recorded => {
            let expected = Record { owner: Some((1_234, 4_321)), mode: Some(0o4755), ..Record::default() };
            assert_eq!(recorded, Some(expected));
            assert_eq!((metadata.uid(), bench.word("a")), (own().0, "f755:".to_owned()));
        }
    }
}

#[test]
fn capabilities_are_set_or_recorded() {
    // cap_net_raw+ep, revision 2 (linux/capability.h).
    let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let bench = Bench::new();
    let tar = RawTar::default().pax(&[("SCHILY.xattr.security.capability", &value)]).file("ping", "x");
    let unpacked = bench.unpack(&tar.done()).unwrap();
    let entry = unpacked.index.get(Path::new("ping")).unwrap();
    assert_eq!(entry.xattrs[&b"security.capability"[..]], value);
    let mut read = [0; 64];
    match rustix::fs::getxattr(bench.root().join("ping"), "security.capability", &mut read[..]) {
        Ok(length) => assert_eq!(read[..length], value),
        Err(_) => assert_eq!(bench.record("ping").unwrap().capability.as_deref(), Some(&value[..])),
    }
}

#[test]
fn devices_are_placeholders_with_a_record() {
    let mut header = RawTar::header(b'3', b"null", b"", 0);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_mode(0o666);
    header.set_cksum();
    let bench = Bench::new();
    bench.unpack(&RawTar::default().push(&header, b"").done()).unwrap();
    assert_eq!(bench.word("null"), "f666:");
    let device = Device { kind: DeviceKind::Character, major: 1, minor: 3 };
    assert_eq!(bench.record("null"), Some(Record { device: Some(device), ..Record::default() }));
}

/// Unpacks two layers, the second over the first.
fn over(lower: RawTar, upper: RawTar) -> (Bench, Unpacked) {
    let (below, bench) = (Bench::new(), Bench::new());
    let unpacked = below.unpack(&lower.done()).unwrap();
    let stack = Stack::new(vec![std::sync::Arc::new(unpacked.index)]);
    let trees = [below.root()];
    let lower = LowerTrees { stack: &stack, trees: &trees };
    let unpacked = bench.unpack_over(&upper.done(), Some(&lower)).unwrap();
    (bench, unpacked)
}

fn lower() -> RawTar {
    let mut sticky = RawTar::header(b'5', b"tmp/", b"", 0);
    sticky.set_mode(0o1777);
    sticky.set_mtime(77);
    sticky.set_cksum();
    RawTar::default()
        .push(&sticky, b"")
        .directory("usr")
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("out", "/../../precious")
        .file("usr/lib/libc.so", "elf")
}

#[test]
fn parents_below_keep_their_metadata() {
    let (bench, unpacked) = over(lower(), RawTar::default().file("tmp/new", "x"));
    assert_eq!(bench.word("tmp"), "d1777");
    assert_eq!(fs::metadata(bench.root().join("tmp")).unwrap().mtime(), 77);
    assert!(unpacked.looked_below);
    let (_, unpacked) = over(lower(), RawTar::default().directory("tmp").file("tmp/new", "x"));
    assert!(!unpacked.looked_below);
}

#[test]
fn links_below_are_followed_inside_the_root() {
    let (bench, unpacked) = over(lower(), RawTar::default().file("lib/new", "x"));
    assert_eq!(bench.word("usr/lib/new"), "f644:x");
    assert_eq!(bench.word("lib"), "nothing");
    assert!(unpacked.looked_below);
    assert!(unpacked.index.get(Path::new("lib/new")).is_some(), "the index depends on the layer alone");
    let (bench, _) = over(lower(), RawTar::default().file("out/new", "x"));
    assert_eq!(bench.word("precious/new"), "f644:x");
}

#[test]
fn hidden_layers_are_not_asked() {
    let (bench, _) = over(lower(), RawTar::default().file(".wh.tmp", "").file("tmp/new", "x"));
    assert_eq!(bench.word("tmp"), "d755!");
    let (bench, _) =
        over(lower(), RawTar::default().directory("usr").file("usr/.wh..wh..opq", "").file("usr/lib/n", "x"));
    assert_eq!(bench.word("usr/lib"), "d755");
    let (bench, _) = over(lower(), RawTar::default().file("tmp/new", "x").file(".wh.tmp", ""));
    assert_eq!(bench.word("tmp"), "d755!");
}

#[test]
fn an_opaque_root_hides_name_by_name() {
    let (bench, unpacked) = over(lower(), RawTar::default().file(".wh..wh..opq", "").file("usr/new", "x"));
    assert_eq!([bench.word("tmp"), bench.word("lib"), bench.word("usr")], ["w", "w", "d755!"]);
    assert!(unpacked.looked_below);
}

#[test]
fn hard_links_to_files_below_copy_them_up() {
    for target in ["usr/lib/libc.so", "lib/libc.so"] {
        let (bench, unpacked) = over(lower(), RawTar::default().hardlink("c", target));
        assert_eq!(bench.word("c"), "f644:elf");
        let inode = |path: &str| fs::metadata(bench.root().join(path)).unwrap().ino();
        assert_eq!(inode("c"), inode("usr/lib/libc.so"));
        assert!(unpacked.looked_below);
    }
    let (bench, _) = over(lower(), RawTar::default().hardlink("l", "lib"));
    assert_eq!((bench.word("l"), bench.word("lib")), ("l:usr/lib".into(), "l:usr/lib".into()));
}

/// `xz -9e` of a tar with the file `a`, which holds `x` and a newline.
#[rustfmt::skip]
const XZ: [u8; 156] = [
    253, 55, 122, 88, 90, 0, 0, 4, 230, 214, 180, 70, 2, 0, 33, 1, 28, 0, 0, 0, 16, 207, 88, 204, 224,
    39, 255, 0, 91, 93, 0, 48, 128, 51, 80, 24, 104, 137, 131, 1, 220, 226, 110, 33, 5, 74, 143, 231,
    4, 102, 23, 92, 236, 29, 99, 184, 135, 100, 29, 96, 200, 241, 143, 87, 49, 251, 251, 63, 104, 4,
    53, 209, 165, 126, 0, 206, 166, 3, 107, 185, 122, 224, 53, 63, 185, 138, 239, 127, 6, 44, 49, 170,
    96, 172, 200, 13, 138, 135, 130, 253, 115, 16, 111, 228, 165, 83, 207, 248, 138, 159, 198, 18, 189,
    70, 19, 216, 117, 152, 94, 173, 131, 0, 0, 0, 184, 112, 141, 237, 131, 40, 239, 172, 0, 1, 119,
    128, 80, 0, 0, 0, 148, 86, 153, 175, 177, 196, 103, 251, 2, 0, 0, 0, 0, 4, 89, 90,
];

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn archives_may_be_bzip2_or_xz_and_layers_not() {
    let check = |archive: &[u8], path: &str, expected: &str| {
        let bench = Bench::new();
        let root = fs::File::open(bench.root()).unwrap();
        unpack_archive(archive, root.as_fd(), &options()).unwrap();
        assert_eq!(bench.word(path), expected);
        assert!(Bench::new().unpack(archive).is_err());
    };
    check(&bzip2(&small()), "d/a", "f644:hello");
    let half = small().len() / 2;
    check(&[bzip2(&small()[..half]), bzip2(&small()[half..])].concat(), "d/a", "f644:hello");
    check(&XZ, "a", "f644:x\n");
}

#[test]
fn an_archive_deletes_nothing() {
    let tar = RawTar::default().file("d/.wh.a", "x").file(".wh..wh..opq", "y").done();
    let bench = Bench::new();
    let root = fs::File::open(bench.root()).unwrap();
    let unpacked = unpack_archive(&tar[..], root.as_fd(), &options()).unwrap();
    assert_eq!((bench.word("d/.wh.a"), bench.word(".wh..wh..opq")), ("f644:x".into(), "f644:y".into()));
    assert!(unpacked.index.get(Path::new("d/.wh.a")).is_some());
}

#[test]
fn archives_are_told_from_other_files() {
    let check = |file: &[u8], expected: bool| assert_eq!(is_archive(file).unwrap(), expected);
    check(&small(), true);
    check(&gzip(&small()), true);
    check(&zstd::encode_all(&small()[..], 1).unwrap(), true);
    check(&RawTar::default().file("../x", "").done(), true);
    check(b"", false);
    check(b"plain text", false);
    check(&[0; 2048], false);
    check(&[b'x'; 2048], false);
    check(&gzip(b"not a tar"), false);
    check(&bzip2(&small()), true);
    check(&XZ, true);
    check(&XZ[..40], false);
    check(&bzip2(b"not a tar"), false);
    check(&[0x1f, 0x8b, 8, 0, 1], false);
}

#[test]
fn files_are_read_without_unpacking() {
    let tar = RawTar::default()
        .directory("etc")
        .file("etc/passwd", "old")
        .file("etc/passwd", "root:x:0:0")
        .symlink("alias", "etc")
        .file("alias/group", "root:x:0:")
        .file("etc/gone", "x")
        .directory("etc/gone")
        .done();
    let paths = ["etc/passwd", "etc/group", "etc/gone", "etc/none"].map(Path::new);
    let files = read_files(&gzip(&tar)[..], media_type::LAYER_GZIP, &paths).unwrap();
    let expected = [("etc/passwd", "root:x:0:0"), ("etc/group", "root:x:0:")];
    assert_eq!(files, expected.map(|(path, body)| (path.into(), body.into())).into());
    let big = RawTar::default().file("etc/passwd", &"x".repeat((1 << 20) + 1)).done();
    let error = read_files(&big[..], media_type::LAYER, &paths).unwrap_err();
    assert!(matches!(error, Error::TooLarge { size: 1_048_577, .. }), "{error}");
}
