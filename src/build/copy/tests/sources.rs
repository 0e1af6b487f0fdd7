//! What is read (rows 79 to 93 and 102 to 107).

use super::*;

#[test]
fn wildcards() {
    check("", "a.txt b.txt c", "COPY *.txt /t/", "*t/ t/a.txt t/b.txt");
    check("", "a.txt", "COPY *.txt /t", "t");
    check("", "a1 a2:600", "COPY a? /t", "t:600");
    check("", ".hidden x", "COPY * /t/", "*t/ t/.hidden t/x");
    check("", "d1/ d1/f d2/ d2/g", "COPY d* /t", "t/ t/f t/g");
    check("", "d/ d/f e", "COPY * /t/", "*t/ t/e t/f");
    check("", "d/a e/a:600", "COPY */a /t/", "*t/ t/a:600");
    check("", "a[b ab", "COPY a[[]b /t/", "*t/ t/a[b");
    check("", "a/b/f c/f:600", "COPY **/f /t/", "*t/ t/f:600");
    check("", "f", "COPY f *.none /t/", "*t/ t/f");
    check("", "f", "COPY *.none /t/", "");
    check("", "f", "COPY none/*.none /t/", "!does not exist");
    check("", "f", "COPY g /t/", "!does not exist");
    check("", "f", "COPY f g /t/", "!does not exist");
    check("", "f", "COPY [\"f\", \"/with space\"]", "with space");
}

#[test]
fn sources_stay_inside() {
    check("", "f", "COPY /f /t", "t");
    check("", "f", "COPY ../../f /t", "t");
    check("", "d/ d/f", "COPY d/../d/f /t", "t");
    check("", "l@../../../f f", "COPY l /t", "t");
    check("", "l@/f f", "COPY l /t", "t");
}

#[test]
fn links_as_sources() {
    // Named, a link is followed; inside a directory it is kept.
    check("", "l@f f:600", "COPY l /t/", "*t/ t/l:600");
    check("", "l@d d/ d/f", "COPY l /t", "t/ t/f");
    check("", "l@d d/ d/f", "COPY l/f /t", "t");
    check("", "d/ d/l@../f f", "COPY d /t", "t/ t/l@../f");
    check("", "d/ d/l@/etc/passwd", "COPY d /t", "t/ t/l@/etc/passwd");
    check("", "d/ d/l@gone", "COPY d /t", "t/ t/l@gone");
    check("", "l@gone", "COPY l /t", "!does not exist");
    check("", "l@f f", "COPY l* /t/", "*t/ t/l");
}

#[test]
fn owners_and_modes() {
    check("", "f:640:5:6", "COPY f /t", "t:640");
    check("", "d/ d/f:4755:5", "COPY d /t", "t/ t/f:4755");
    check("", "d/ d/e/:3777:5", "COPY d /t", "t/ t/e/:3777");
    check("", "f:0", "COPY f /t", "t:0");
    check("", "f:640:5:6", "COPY --from=other f /t", "t:640:5:6");
    check("", "d/ d/f:4755:5:6 d/e/:1777:7:8", "COPY --from=other d /t", "t/ t/e/:1777:7:8 t/f:4755:5:6");
    check("", "d/ d/l@x::5:6", "COPY --from=other d /t", "t/ t/l@x::5:6");
    check("", "f+security.capability", "COPY --from=other f /t", "t+security.capability");
    check("", "d/ d/e/+user.a d/f+user.b", "COPY --from=other d /t", "t/ t/e/+user.a t/f+user.b");
    check("", "f", "USER web\nCOPY f /t", "t");
}

#[test]
fn hard_links() {
    check("", "d/ d/a=1 d/b=1", "COPY d /t", "t/ t/a t/b=t/a");
    check("", "d/ d/a=1 d/b=2", "COPY d /t", "t/ t/a t/b");
    check("", "d/ d/b=1 d/e/ d/e/a=1", "COPY d /t", "t/ t/b t/e/ t/e/a=t/b");
    check("", "d/ d/a=1:600:5 d/b=1:600:5", "COPY --from=other d /t", "t/ t/a:600:5 t/b=t/a:600:5");
    // Each source is a copy of its own, and so is each match.
    check("", "a=1 b=1", "COPY a b /t/", "*t/ t/a t/b");
    check("", "a=1 b=1", "COPY ? /t/", "*t/ t/a t/b");
    check("", "d/ d/a=1 e/ e/b=1", "COPY d e /t/", "t/ t/a t/b");
    check("", "d/a=1 d/b=1", "COPY --parents d /t/", "*t/ t/d/ t/d/a t/d/b=t/d/a");
    // A name that a later source replaces leaves the group.
    check("", "d/ d/a=1 d/b=1 e/ e/a", "COPY d e /t", "t/ t/a t/b");
    check("", "d/ d/a=1 d/b=1 d/c=1 e/ e/b", "COPY d e /t", "t/ t/a t/b t/c=t/a");
}

#[test]
fn special_files() {
    check("", "d/ d/p|", "COPY d /t", "t/ t/p|");
    check("", "d/ d/c#:666", "COPY --from=other d /t", "t/ t/c#:666");
    check("", "d/ d/s~ d/f", "COPY d /t", "t/ t/f t/s");
    check("", "p|:600", "COPY p /t", "t|:600");
}

#[test]
fn inline_files() {
    check("", "", "COPY <<a /t\nx\na", "t");
    check("", "", "COPY <<a /t/\nx\na", "*t/ t/a");
    check("", "", "COPY <<a <<b /t/\nx\na\ny\nb", "*t/ t/a t/b");
    check("", "", "COPY --chmod=755 --chown=5:6 <<a /t\nx\na", "t:755:5:6");
    check("", "", "COPY --chmod=u+x <<a /t\nx\na", "t:744");
    check("t/", "", "COPY <<a /t\nx\na", "*t/ t/a");
    check("t:600", "", "COPY <<a /t\nx\na", "t");
    check("", "f:600", "COPY f <<a /t/\nx\na", "*t/ t/a t/f:600");
    check("", "f:600", "COPY f <<a /t\nx\na", "t");
    check("", "", "COPY <<a b\nx\na", "*w/ w/b");
    check("", "", "ADD <<a /t\nx\na", "t");
    check("", "", "COPY <<a /t\na", "t");
}

#[test]
fn every_name_gets_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let options = PackOptions { compression: Compression::None, ..PackOptions::default() };
    let mut writer = LayerWriter::create(directory.path(), options).unwrap();
    let (op, tree, base) = (operation("COPY d e /t"), tree("d/ d/a d/b=1 d/c=1 e/ e/a e/x/y"), base("t/"));
    let selection = inputs::pick(&tree, &op).unwrap().unwrap();
    let picked = [Picked::Selection { tree: &tree, selection, keep_owner: false }];
    let target = Target { base: &base, owner: None, now: NOW, is_mount: false, below: None };
    write_layer(&op, &picked, &target, &mut writer).unwrap();
    let packed = writer.finish().unwrap();
    let paths = ["t/a", "t/b", "t/x/y"].map(Path::new);
    let blob = std::fs::File::open(&packed.blob).unwrap();
    let found = layer::read_files(blob, &packed.layer.media_type, &paths).unwrap();
    for (path, bytes) in [("t/a", "e/a"), ("t/b", "d/b"), ("t/x/y", "e/x/y")] {
        assert_eq!(found[Path::new(path)], bytes.as_bytes(), "{path}");
    }
}

#[test]
fn a_bind_mount_shows_the_source_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (op, tree, base) = (operation("COPY --link --from=other d /t"), tree("d/:700:5 d/f"), base(""));
    let selection = inputs::pick(&tree, &op).unwrap().unwrap();
    let picked = [Picked::Selection { tree: &tree, selection, keep_owner: true }];
    let mut writer = LayerWriter::create(directory.path(), PackOptions::default()).unwrap();
    let target = Target { base: &base, owner: None, now: NOW, is_mount: true, below: None };
    write_layer(&op, &picked, &target, &mut writer).unwrap();
    let index = EntryIndex::load(&writer.finish().unwrap().entries).unwrap();
    assert_eq!(shown(&index), "t/:700:5 t/f");
}
