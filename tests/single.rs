//! The rung `single`: what a RUN sees of owners and users where one id exists,
//! and that the image is the one of the other rungs.

use libtest_mimic::Trial;
use tar::EntryType;

use crate::ladder::{assert_all_pass, checks};
use crate::support::image::Image;
use crate::support::{self, Bench, as_everyone};

pub fn trials() -> Vec<Trial> {
    [
        as_everyone("single::owners_and_users_are_as_they_should_be", owners_and_users),
        as_everyone("single::a_user_may_what_its_bits_allow", a_user_may_what_its_bits_allow),
        as_everyone("single::same_image_as_on_namespaces", same_image_as_on_namespaces),
        as_everyone("single::devices_are_devices_in_the_layer", devices_are_devices_in_the_layer),
        as_everyone("single::records_are_out_of_sight", records_are_out_of_sight),
        as_everyone("single::a_cache_keeps_its_owner", a_cache_keeps_its_owner),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A build that must work, on this rung.
fn build(bench: &Bench, isolation: &str, flags: &[&str]) -> (Image, String) {
    let epoch = ["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--isolation", isolation];
    let run = bench.try_build(&[&epoch, flags].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("isolation of RUN: {isolation}\n")), "{}", run.stderr);
    bench.assert_clean();
    (bench.image(&run.digest()), run.stderr)
}

fn check_all(mut bench: Bench, text: &str, lines: &[(&str, &str)]) -> Image {
    bench.dockerfile(&format!("# syntax=docker/dockerfile:1\n{text}\n{}", checks(lines)));
    let (image, said) = build(&bench, "single", &["-t", "checked"]);
    assert_all_pass(&said, lines.len());
    image
}

/// `/usr/bin/busybox` has more programs than the base has names for.
const AS_ROOT: [(&str, &str); 24] = [
    ("root", "test \"$(id -u):$(id -g)\" = 0:0 && test \"$(id -G)\" = 0"),
    ("owner of the base", "test \"$(stat -c %u:%g:%a /home/app)\" = 1000:1000:750"),
    ("setuid file of another", "test \"$(stat -c %u:%g:%a /opt/setuid)\" = 33:33:4755"),
    ("device of the base", "test \"$(stat -c %F:%t:%T /opt/null)\" = 'character special file:1:3'"),
    ("chown", "echo > /t/a && chown 5:6 /t/a && test \"$(stat -c %u:%g /t/a)\" = 5:6"),
    ("chown of one", "chown 7 /t/a && chown :8 /t/a && test \"$(stat -c %u:%g /t/a)\" = 7:8"),
    ("by descriptor", "exec 3</t/a; test \"$(stat -L -c %u:%g /dev/fd/3)\" = 7:8 || stat -c %u:%g /t/a"),
    ("after a rename", "mv /t/a /t/b && test \"$(stat -c %u:%g /t/b)\" = 7:8"),
    ("by another name", "ln /t/b /t/c && chown 9 /t/c && test \"$(stat -c %u:%g /t/b)\" = 9:8"),
    ("back to root", "chown 0:0 /t/b && test \"$(stat -c %u:%g /t/b)\" = 0:0"),
    (
        "link",
        "ln -s b /t/l && chown -h 5:6 /t/l && test \"$(stat -c %u:%g /t/l /t/b)\" = \"$(printf '5:6\\n0:0')\"",
    ),
    ("through a link", "chown 4 /t/l && test \"$(stat -c %u /t/b)\" = 4"),
    ("fifo", "mkfifo /t/p && chown 5:6 /t/p && test \"$(stat -c %u:%g:%F /t/p)\" = 5:6:fifo"),
    ("setuid bits go", "chmod 6755 /t/b && chown 5 /t/b && test \"$(stat -c %a /t/b)\" = 755"),
    ("and come", "chmod 6755 /t/b && test \"$(stat -c %a /t/b)\" = 6755"),
    (
        "relative, over a link and back",
        "mkdir -p /t/d/e && ln -s /t/d /t/s && cd /t/d/e && chown 3 ../../s/e && test \"$(stat -c %u ../e)\" = 3",
    ),
    ("group of the directory", "echo > /var/lib/f && test \"$(stat -c %u:%g /var/lib/f)\" = 0:7"),
    ("and of one in it", "mkdir -p /var/lib/x/y && test \"$(stat -c %g:%a /var/lib/x/y)\" = 7:2755"),
    (
        "archive of others",
        "cd /t && busybox tar cf x.tar b l p && mkdir u && busybox tar xf x.tar -C u && test \"$(stat -c %u:%g u/b u/l u/p)\" = \"$(printf '5:6\\n0:0\\n5:6')\"",
    ),
    ("copy with owners", "cp -a /t/u /t/v && test \"$(stat -c %u:%g:%a /t/v/b)\" = 5:6:6755"),
    ("another user", "test \"$(busybox su app -c 'id -u; id -G')\" = \"$(printf '1000\\n1000 44')\""),
    (
        "and what it makes",
        "busybox su app -c 'cd /tmp && echo > f && mkdir d && ln -s f l && mkfifo p' && test \"$(stat -c %u:%g /tmp/f /tmp/d /tmp/l /tmp/p | sort -u)\" = 1000:1000",
    ),
    ("a child of its own", "test \"$(busybox su app -c 'sh -c \"sh -c \\\"id -u\\\" & wait\"')\" = 1000"),
    (
        "an orphan of its own",
        "busybox su app -c '(sleep 1; id -u > /tmp/o) &' && sleep 2 && test \"$(cat /tmp/o)\" = 1000",
    ),
];

fn owners_and_users(bench: Bench) {
    check_all(bench, "FROM AWKWARD\nRUN mkdir /t", &AS_ROOT);
}

/// Run as `app`, who has the groups 1000 and 44.
const AS_APP: [(&str, &str); 16] = [
    ("who", "test \"$(id -u):$(id -g)\" = 1000:1000 && test \"$(id -G)\" = '1000 44'"),
    (
        "working directory",
        "test \"$(stat -c %u:%g .)\" = 1000:1000 && echo > made && test \"$(stat -c %u made)\" = 1000",
    ),
    ("no file of root", "! sh -c 'echo >> /etc/passwd' && ! test -w /etc/passwd && test -r /etc/passwd"),
    ("no new name", "! touch /new && ! mkdir /etc/new && ! ln -s x /etc/new && ! mkfifo /usr/p"),
    (
        "no removal",
        "! rm -f /etc/group && ! mv /etc/group /tmp/group && ! rmdir /opt/empty && test -d /opt/empty",
    ),
    ("sticky", "! rm -f /tmp/roots && ! mv /tmp/roots /tmp/mine && test -e /tmp/roots"),
    ("own in sticky", "echo > /tmp/own && mv /tmp/own /tmp/own2 && rm /tmp/own2"),
    ("group may write", "echo >> /opt/shared && test -w /opt/shared"),
    ("others may not", "! sh -c 'echo >> /opt/foreign' && ! test -r /opt/foreign"),
    ("no chown", "! chown 0 made && ! chown 1000 /etc/passwd && ! chgrp 0 made"),
    ("own group", "chown :44 made && test \"$(stat -c %g made)\" = 44"),
    ("no chmod", "! chmod 777 /etc/passwd && chmod 600 made"),
    ("no device", "! mknod n c 1 3"),
    (
        "no way up",
        "! busybox su app -c true || true; ! busybox chroot / true || true; test \"$(id -u)\" = 1000",
    ),
    ("null", "echo > /dev/null && test -w /dev/null"),
    ("umask", "(umask 077; echo > u; mkdir v) && test \"$(stat -c %a u v)\" = \"$(printf '600\\n700')\""),
];

fn a_user_may_what_its_bits_allow(bench: Bench) {
    let base = "FROM BASE\nRUN mkdir /opt /opt/empty && echo > /tmp/roots && echo > /opt/shared && chgrp 44 /opt/shared && \
                chmod 664 /opt/shared && echo > /opt/foreign && chown 5:5 /opt/foreign && chmod 600 /opt/foreign\n\
                USER app\nWORKDIR /home/app/new";
    check_all(bench, base, &AS_APP);
}

/// Nothing of it depends on the clock but times, which are clamped.
const AWKWARD_STEPS: &str = r#"FROM AWKWARD
COPY --chown=33:44 --chmod=4755 note /opt/note
RUN mkdir -p /d/e && echo a > /d/a && ln /d/a /d/hard && ln -s a /d/soft && mkfifo /d/fifo && chown -R 1000:44 /d && chown -h 7:8 /d/soft
RUN chmod 4711 /d/a && mv /d/soft /d/soft2 && rm -r /home/app && mkdir -m 2750 /home/app && chown app:app /home/app
RUN cp -a /d /f && cd / && busybox tar cf x.tar d opt/setuid opt/fifo && mkdir g && busybox tar xf x.tar -C g && rm x.tar
RUN mkdir -p /var/lib/deep/er && echo > /var/lib/deep/er/f && chown 5 /opt && touch /opt/capable && mv /opt/fifo /opt/fifo2
RUN chown 9:9 /opt/null /opt/setuid && chmod 4755 /opt/setuid && chown -h 3:3 /bin && chown 0:0 /d/hard
USER app
WORKDIR /home/app/work
RUN echo > f && mkdir -p d/e && ln -s f l && mkfifo p && ln f h && chmod 2755 d && chown :44 l f && rm -r d/e
RUN --mount=type=cache,target=/c,uid=1000,gid=44 --mount=type=tmpfs,target=/s echo > /c/f && test "$(stat -c %u:%g /c /c/f)" = "$(printf '1000:44\n1000:1000')" && cp -a /c/f . && echo > /s/x
"#;

fn same_image_as_on_namespaces(mut bench: Bench) {
    bench.file("note", "copied\n");
    bench.dockerfile(AWKWARD_STEPS);
    let (expected, _) = build(&bench, "namespaces", &["-t", "namespaces"]);
    let (stacked, _) = build(&bench, "single", &["-t", "single"]);
    bench.env("CORACLE_STORAGE", "plain");
    let (copied, said) = build(&bench, "single", &["-t", "plain"]);
    assert!(said.contains("trees are copied"), "{said}");
    assert_eq!(differences(&stacked, &expected), [""; 0]);
    assert_eq!(differences(&copied, &expected), [""; 0]);
    assert_eq!((stacked.digest, copied.digest), (expected.digest.clone(), expected.digest));
}

/// Names that two images have not the same of.
fn differences(one: &Image, other: &Image) -> Vec<String> {
    let (one, other) = (one.tree(), other.tree());
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let text = |tree: &std::collections::BTreeMap<_, support::image::Entry>, name: &String| {
        let entry = tree.get(name)?;
        let support::image::Entry { kind, mode, uid, gid, target, xattrs, .. } = entry;
        Some(format!("{kind:?} {mode:o} {uid}:{gid} {target} {xattrs:?} {}", entry.content.len()))
    };
    let pairs = names.into_iter().map(|name| (name, text(&one, name), text(&other, name)));
    pairs.filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name}: {a:?}, not {b:?}")).collect()
}

fn devices_are_devices_in_the_layer(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN mknod -m 640 /node c 1 5 && chown 5:6 /node && mv /node /moved && mknod /disk b 8 1 && \
         test \"$(stat -c %t:%T:%u:%a /moved)\" = 1:5:5:640 && cp -a /moved /copy && mknod /gone c 1 7 && rm /gone && touch /gone\n",
    );
    let (image, _) = build(&bench, "single", &["-t", "devices"]);
    for (name, kind, device) in [
        ("moved", EntryType::Char, (1, 5)),
        ("copy", EntryType::Char, (1, 5)),
        ("disk", EntryType::Block, (8, 1)),
    ] {
        let entry = image.entry(name);
        assert_eq!((entry.kind, entry.device), (kind, Some(device)), "{name}");
    }
    assert_eq!(image.owner("moved"), "0640 5:6");
    assert_eq!(image.entry("gone").kind, EntryType::Regular);
}

fn records_are_out_of_sight(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN echo > /f && ln -s f /l && chown -h 5:6 /f /l && cp -a /f /g && cp -a /l /m && busybox ls -la /\n",
    );
    let (image, _) = build(&bench, "single", &["-t", "sight"]);
    for name in ["f", "l", "g", "m"] {
        let entry = image.entry(name);
        assert!(entry.xattrs.is_empty(), "{name}: {:?}", entry.xattrs);
        assert_eq!((entry.uid, entry.gid), (5, 6), "{name}");
    }
}

fn a_cache_keeps_its_owner(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN --mount=type=cache,target=/c,uid=33,gid=44,mode=0750 echo > /c/f && chown -R 5:6 /c/f && stat -c %u:%g:%a /c\n\
         RUN --mount=type=cache,target=/c,uid=33,gid=44,mode=0750 test \"$(stat -c %u:%g /c /c/f)\" = \"$(printf '33:44\\n5:6')\"\n",
    );
    let (_, said) = build(&bench, "single", &["-t", "cache"]);
    assert!(said.contains("| 33:44:750"), "{said}");
}
