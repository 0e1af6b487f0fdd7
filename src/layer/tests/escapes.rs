//! Ways out of the directory that is unpacked into. Each test is named after
//! what it prevents; `Bench::unpack` looks at what lies outside every time.

use super::*;

/// The layer is refused, and for a reason that contains `expected`.
fn refused(tar: RawTar, expected: &str) {
    let bench = Bench::new();
    let error = bench.unpack(&tar.done()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

/// The layer unpacks, and the path inside the root becomes `expected`.
fn contained(tar: RawTar, path: &str, expected: &str) {
    let bench = Bench::new();
    bench.unpack(&tar.done()).unwrap();
    assert_eq!(bench.word(path), expected, "{:?}", bench.tree());
}

#[test]
fn names_that_climb() {
    refused(RawTar::default().file("../precious", "x"), "climbs");
    refused(RawTar::default().file("a/../../precious", "x"), "climbs");
    refused(RawTar::default().file("a/..", "x"), "climbs");
    refused(RawTar::default().directory("a").directory("a/../.."), "climbs");
    refused(RawTar::default().pax(&[("path", b"../precious")]).file("a", "x"), "climbs");
    refused(RawTar::default().add(b'L', "././@LongLink", "", "../precious\0").file("a", "x"), "climbs");
}

#[test]
fn absolute_names_start_at_the_root() {
    contained(RawTar::default().file("/etc/passwd", "x"), "etc/passwd", "f644:x");
    contained(RawTar::default().file("//a", "x"), "a", "f644:x");
}

#[test]
fn symlink_parents_stay_inside() {
    let through = |target: &str| RawTar::default().symlink("link", target).file("link/precious", "x");
    contained(through("/"), "precious", "f644:x");
    contained(through(".."), "precious", "f644:x");
    contained(through("../../../../.."), "precious", "f644:x");
    contained(through("/../.."), "precious", "f644:x");
    contained(through("/new/place"), "new/place/precious", "f644:x");
    contained(through("."), "precious", "f644:x");
    contained(through("missing/../.."), "precious", "f644:x");
}

#[test]
fn symlink_chains_stay_inside() {
    let chain = RawTar::default()
        .directory("a")
        .symlink("a/up", "..")
        .symlink("b", "a/up/a/up/..")
        .symlink("c", "/b/../b")
        .file("c/precious", "x");
    contained(chain, "precious", "f644:x");
}

#[test]
fn directory_replaced_by_a_symlink() {
    let swap = RawTar::default().directory("a").file("a/x", "1").symlink("a", "..").file("a/precious", "2");
    contained(swap, "precious", "f644:2");
    let absolute = RawTar::default().directory("a").file("a/x", "1").symlink("a", "/").file("a/x", "2");
    contained(absolute, "x", "f644:2");
}

#[test]
fn directory_entry_over_a_symlink_replaces_it() {
    let tar = RawTar::default().symlink("a", "..").directory("a").file("a/precious", "x");
    contained(tar, "a/precious", "f644:x");
}

#[test]
fn file_over_a_symlink_does_not_write_through_it() {
    contained(RawTar::default().symlink("a", "../precious").file("a", "x"), "a", "f644:x");
    contained(RawTar::default().symlink("a", "b").file("a", "x"), "b", "nothing");
}

#[test]
fn hard_links_to_outside() {
    refused(RawTar::default().hardlink("a", "../precious"), "climbs");
    refused(RawTar::default().hardlink("a", "/precious"), "does not exist");
    refused(RawTar::default().symlink("l", "..").hardlink("a", "l/precious"), "does not exist");
    refused(RawTar::default().symlink("l", "/..").hardlink("a", "l/precious"), "does not exist");
}

#[test]
fn hard_link_to_a_symlink_links_the_symlink() {
    let tar = RawTar::default().symlink("l", "../precious").hardlink("a", "l").file("a", "x");
    contained(tar, "l", "l:../precious");
    contained(RawTar::default().symlink("l", "../precious").hardlink("a", "l"), "a", "l:../precious");
}

#[test]
fn hard_links_that_cannot_be() {
    refused(RawTar::default().directory("d").hardlink("a", "d"), "a directory");
    refused(RawTar::default().hardlink("a", ""), "a directory");
    refused(RawTar::default().hardlink("a", "a"), "does not exist");
    refused(RawTar::default().file(".wh.w", "").hardlink("a", "w"), "deletes");
    refused(RawTar::default().file("d/x", "1").hardlink("d", "d/x"), "lies below it");
}

#[test]
fn metadata_does_not_go_through_symlinks() {
    // setuid on the link's target would be the prize.
    let mut header = RawTar::header(b'2', b"a", b"../precious", 0);
    header.set_mode(0o4777);
    header.set_cksum();
    let bench = Bench::new();
    bench.unpack(&RawTar::default().push(&header, b"").done()).unwrap();
    assert_eq!(bench.word("a"), "l:../precious");
}

#[test]
fn whiteouts_do_not_go_through_symlinks() {
    contained(RawTar::default().symlink("l", "..").file("l/.wh.precious", ""), "precious", "w");
    contained(RawTar::default().symlink("l", "..").file(".wh.l", ""), "l", "l:..");
    refused(RawTar::default().file(".wh...", ""), "deletes nothing");
    refused(RawTar::default().file(".wh..", ""), "deletes nothing");
    refused(RawTar::default().file(".wh.", ""), "deletes nothing");
    refused(RawTar::default().file(".wh.a/b", ""), "below a deletion mark");
}

#[test]
fn opaque_marks_do_not_go_through_symlinks() {
    let bench = Bench::new();
    bench.unpack(&RawTar::default().symlink("l", "..").file("l/.wh..wh..opq", "").done()).unwrap();
    assert_eq!(word(&bench.root()), "d755!");
}

#[test]
fn non_directory_parents() {
    refused(RawTar::default().file("a", "x").file("a/b", "y"), "is not a directory");
    refused(RawTar::default().add(b'6', "a", "", "").file("a/b/c", "y"), "is not a directory");
    refused(RawTar::default().add(b'3', "a", "", "").file("a/b", "y"), "is not a directory");
    refused(RawTar::default().file("a", "").symlink("l", "a").file("l/b", "y"), "is not a directory");
}

#[test]
fn symlink_loops() {
    refused(RawTar::default().symlink("a", "a").file("a/b", "x"), "too many symbolic links");
    refused(RawTar::default().symlink("a", "b").symlink("b", "a").file("b/c", "x"), "too many");
    refused(RawTar::default().symlink("a", "a/a/a/a").file("a/x", "x"), "too many");
}

#[test]
fn device_nodes_are_not_made() {
    let mut header = RawTar::header(b'4', b"sda", b"", 0);
    header.set_device_major(8).unwrap();
    header.set_cksum();
    contained(RawTar::default().push(&header, b""), "sda", "f644:");
}

#[test]
fn a_char_device_0_0_of_the_tar_is_no_whiteout() {
    contained(RawTar::default().add(b'3', "a", "", ""), "a", "f644:");
}

#[test]
fn names_no_file_can_have() {
    refused(RawTar::default().pax(&[("path", b"a\0b")]).file("a", "x"), "NUL");
    refused(RawTar::default().pax(&[("linkpath", b"a\0b")]).symlink("a", "x"), "NUL");
    refused(RawTar::default().symlink("a", ""), "empty");
    let long = "n".repeat(256);
    refused(RawTar::default().pax(&[("path", long.as_bytes())]).file("a", "x"), "longer than 255");
    let deep = "n/".repeat(2_100);
    refused(RawTar::default().pax(&[("path", deep.as_bytes())]).file("a", "x"), "longer than 4095");
}

#[test]
fn links_cannot_make_a_path_too_long() {
    let deep = "d/".repeat(1_500);
    let tar = RawTar::default()
        .pax(&[("linkpath", deep.as_bytes())])
        .symlink("l", "")
        .pax(&[("path", format!("l/{deep}x").as_bytes())])
        .file("f", "x");
    refused(tar, "longer than 4095");
}

#[test]
fn overlay_marks_of_the_tar_are_dropped() {
    let tar = RawTar::default()
        .pax(&[
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.coracle.record", b"forged"),
        ])
        .directory("d");
    let bench = Bench::new();
    let unpacked = bench.unpack(&tar.done()).unwrap();
    assert_eq!(bench.word("d"), "d755");
    assert_eq!(unpacked.index.get(Path::new("d")).unwrap().xattrs, BTreeMap::new());
    let mut list = [0; 256];
    let listed = rustix::fs::listxattr(bench.root().join("d"), &mut list).unwrap();
    let names = String::from_utf8_lossy(&list[..listed]).into_owned();
    assert!(!names.contains("overlay") && !names.contains("coracle"), "{names}");
}

#[test]
fn the_root_stays_a_directory() {
    refused(RawTar::default().symlink("./", ".."), "the root is a directory");
    refused(RawTar::default().add(b'1', "/", "a", ""), "the root is a directory");
}
