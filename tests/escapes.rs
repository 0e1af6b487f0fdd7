//! Hostile images and steps, from end to end: links, names and files that a step
//! or a base image leaves where coracle itself reads or writes afterwards. What a
//! RUN tries while it runs is in `tests/escape`.
//!
//! Every case has a control: a naive program doing the same to the same tree does
//! get out, so that the case is known to bite.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::support::base::{self, Base};
use crate::support::{Bench, Run, User, as_caller, as_everyone, plain};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        plain("escapes::naive_programs_get_out", naive_programs_get_out),
        as_caller("escapes::what_a_run_made_is_closed_to_other_users", closed_to_other_users),
    ];
    for (name, test) in [
        ("escapes::steps_stay_inside", steps_stay_inside as fn(Bench)),
        ("escapes::bases_stay_inside", bases_stay_inside),
        ("escapes::a_fifo_for_a_list_of_users_hangs_nobody", a_fifo_hangs_nobody),
        ("escapes::one_build_does_not_change_what_another_sees", builds_share_nothing_writable),
        ("escapes::a_full_disk_is_told", a_full_disk_is_told),
    ] {
        trials.extend(as_everyone(name, test));
    }
    trials
}

const SECRET: &str = "the-secret-of-the-host";

/// One thing that a step leaves.
struct Case {
    name: &'static str,
    /// `OUT` is a directory of the host's.
    dockerfile: &'static str,
    flags: &'static [&'static str],
    /// The build may succeed or fail; either way nothing gets out.
    naive: fn(tree: &Path, outside: &Path),
}

const CASES: [Case; 11] = [
    Case {
        name: "COPY through a link",
        dockerfile: "FROM BASE\nRUN ln -s OUT /out\nCOPY note /out/trap/\nRUN true\n",
        flags: &[],
        naive: |tree, _| fs::write(tree.join("out/trap/note"), "written").unwrap(),
    },
    Case {
        name: "COPY onto a link",
        dockerfile: "FROM BASE\nRUN ln -s OUT/canary /note\nCOPY note /note\nRUN true\n",
        flags: &[],
        naive: |tree, _| fs::write(tree.join("out/canary"), "written").unwrap(),
    },
    Case {
        name: "COPY --from a link",
        dockerfile: "FROM BASE AS a\nRUN ln -s OUT /out && ln -s OUT/secret /secret\nFROM BASE\nCOPY --from=a /out /secret /got/\n",
        flags: &[],
        naive: |tree, _| take(&tree.join("out/secret"), tree),
    },
    Case {
        name: "bind mount from a link",
        dockerfile: "FROM BASE AS a\nRUN ln -s OUT /out\nFROM BASE\nRUN --mount=from=a,source=/out,target=/host cat /host/secret > /got; echo x > /host/canary; true\n",
        flags: &[],
        naive: |tree, _| take(&tree.join("out/secret"), tree),
    },
    Case {
        name: "cache mount from a link",
        dockerfile: "FROM BASE AS a\nRUN ln -s OUT /out\nFROM BASE\nRUN --mount=type=cache,from=a,source=/out,target=/c cat /c/secret > /got; echo x > /c/canary; true\n",
        flags: &[],
        naive: |tree, _| take(&tree.join("out/secret"), tree),
    },
    Case {
        name: "mount onto a link",
        dockerfile: "FROM BASE\nRUN ln -s OUT /out\nRUN --mount=type=cache,target=/out/trap/deep --mount=type=tmpfs,target=/out/trap/t true\n",
        flags: &[],
        naive: |tree, _| fs::create_dir(tree.join("out/trap/deep")).unwrap(),
    },
    Case {
        name: "WORKDIR through a link",
        dockerfile: "FROM BASE\nRUN ln -s OUT /out\nWORKDIR /out/trap/deep\nRUN echo x > here\n",
        flags: &[],
        naive: |tree, _| fs::create_dir(tree.join("out/trap/deep")).unwrap(),
    },
    Case {
        name: "ADD of an archive through a link",
        dockerfile: "FROM BASE\nRUN ln -s OUT /out\nADD archive.tar /out/trap/\nRUN true\n",
        flags: &[],
        naive: |tree, _| naive_untar(&archive("added"), &tree.join("out/trap")),
    },
    Case {
        name: "users from a link",
        dockerfile: "FROM BASE\nRUN rm /etc/passwd && ln -s OUT/passwd /etc/passwd\nUSER host\nRUN id -u > /tmp/got\n",
        flags: &[],
        naive: |tree, _| {
            symlink(tree.join("out/passwd"), tree.join("passwd")).unwrap();
            take(&tree.join("passwd"), tree);
        },
    },
    Case {
        name: "resolv.conf, hosts and mount points as links",
        dockerfile: "FROM BASE\nRUN rm -rf /etc/resolv.conf /etc/hosts /run; ln -s OUT/canary /etc/resolv.conf; ln -s OUT/trap/hosts /etc/hosts; ln -s OUT/trap /run\nRUN --mount=type=secret,id=key echo more >> /etc/hosts; true\n",
        flags: &["--secret", "id=key,src=context/note"],
        naive: |tree, _| fs::write(tree.join("out/trap/hosts"), "127.0.0.1").unwrap(),
    },
    Case {
        name: "a link of the context",
        dockerfile: "FROM BASE\nCOPY outside /got/\nCOPY outside/secret /got/secret\n",
        flags: &[],
        naive: |tree, _| take(&tree.join("out/secret"), tree),
    },
];

/// Into the image, where it would be shipped.
fn take(path: &Path, tree: &Path) {
    fs::copy(path, tree.join("got")).unwrap();
}

/// A directory of the host's that a build has no business with.
fn outside(bench: &Bench) -> PathBuf {
    let outside = bench.path("outside");
    make_outside(&outside);
    for path in [outside.clone(), outside.join("trap"), outside.join("canary")] {
        bench.give(&path);
    }
    outside
}

fn make_outside(outside: &Path) {
    fs::create_dir_all(outside.join("trap")).unwrap();
    fs::write(outside.join("secret"), SECRET).unwrap();
    fs::write(outside.join("passwd"), format!("host:x:4242:4242:{SECRET}:/:/bin/sh\n")).unwrap();
    fs::write(outside.join("canary"), "untouched").unwrap();
}

/// Everything there is to change.
fn look(outside: &Path) -> Vec<String> {
    let mut found: Vec<String> = ["", "trap", "secret", "passwd", "canary"]
        .into_iter()
        .map(|name| {
            let path = outside.join(name);
            let Ok(facts) = fs::symlink_metadata(&path) else { return format!("{name} is gone") };
            let text = fs::read_to_string(&path).unwrap_or_default();
            format!(
                "{name} {:o} {} {} {} {text}",
                facts.mode(),
                facts.uid(),
                facts.mtime_nsec(),
                facts.nlink()
            )
        })
        .collect();
    found.extend(fs::read_dir(outside.join("trap")).unwrap().map(|e| format!("{:?}", e.unwrap().path())));
    found
}

/// Nothing changed outside, and the image holds nothing of it.
fn assert_contained(bench: &Bench, name: &str, before: &[String], run: &Run) {
    assert_eq!(look(&bench.path("outside")), before, "{name}: changed outside\n{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{name}:\n{}", run.stderr);
    assert!(!run.stderr.contains(SECRET), "{name}: the log has the secret\n{}", run.stderr);
    bench.assert_clean();
    if run.code != Some(0) {
        return;
    }
    for entry in bench.image(&run.digest()).layers.iter().flatten() {
        let text = String::from_utf8_lossy(&entry.content);
        assert!(!text.contains(SECRET), "{name}: `{}` has the secret", entry.path);
    }
}

fn steps_stay_inside(mut bench: Bench) {
    let outside = outside(&bench);
    bench.file("note", "a note\n");
    bench.file("archive.tar", archive("added"));
    symlink(&outside, bench.path("context/outside")).unwrap();
    for case in &CASES {
        let before = look(&outside);
        bench.dockerfile(&case.dockerfile.replace("OUT", outside.to_str().unwrap()));
        let run = bench.try_build(&[case.flags, &["-t", "case"]].concat());
        assert_contained(&bench, case.name, &before, &run);
        // Refusing is an answer; dying is none.
        assert!(run.code == Some(0) || run.errors() == 1, "{}: {:?}\n{}", case.name, run.code, run.stderr);
    }
}

/// Layers that nobody packs by accident. `OUT` is the directory without its
/// first slash.
type Layer = &'static [(u8, &'static str, &'static str)];

const LAYERS: [(&str, Layer); 9] = [
    ("a name that climbs", &[(b'0', "../../../../../../../../OUT/trap/climbed", "")]),
    ("an absolute name", &[(b'0', "/OUT/trap/absolute", "")]),
    ("a parent that is a link", &[(b'2', "up", "/OUT"), (b'0', "up/trap/through", "")]),
    (
        "a parent that is a relative link",
        &[(b'2', "up", "../../../../../../../../OUT"), (b'0', "up/trap/through", "")],
    ),
    ("a file over a link", &[(b'2', "up", "/OUT/canary"), (b'0', "up", "")]),
    ("a hard link to outside", &[(b'1', "linked", "/OUT/secret")]),
    ("a hard link that climbs", &[(b'1', "linked", "../../../../../../../../OUT/secret")]),
    ("a whiteout through a link", &[(b'2', "up", "/OUT"), (b'0', "up/.wh.canary", "")]),
    ("a directory over a link", &[(b'2', "up", "/OUT/trap"), (b'5', "up", ""), (b'0', "up/x", "")]),
];

fn bases_stay_inside(mut bench: Bench) {
    let outside = outside(&bench);
    for (name, entries) in LAYERS {
        let before = look(&outside);
        let server = bench.server();
        server.put("library/hostile", "latest", &hostile(entries, &outside));
        let host = server.host();
        // The RUN needs the layers on disk; the COPY looks through them.
        bench.file("note", "a note\n");
        bench.file(
            "Dockerfile",
            format!("FROM {host}/library/hostile:latest\nCOPY note /up/trap/note\nRUN cat /linked /up 2>/dev/null; true\n"),
        );
        let run = bench.try_build(&["--no-cache", "--pull", "-t", "hostile"]);
        assert_contained(&bench, name, &before, &run);
    }
}

/// The busybox base with one more layer.
fn hostile(entries: Layer, outside: &Path) -> Base {
    let mut layers = vec![base::busybox_layer()];
    layers.push(hostile_layer(entries, outside));
    base::image(&layers, json!({"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]}))
}

fn hostile_layer(entries: Layer, outside: &Path) -> Vec<u8> {
    let outside = outside.to_str().unwrap().trim_start_matches('/');
    let mut tar = Builder::new(Vec::new());
    for (kind, name, target) in entries {
        let [name, target] = [name, target].map(|text| text.replace("OUT", outside));
        let body: &[u8] = if *kind == b'0' { b"written" } else { b"" };
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(*kind));
        header.set_mode(0o777);
        header.set_size(body.len() as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        // Past the checks of the tar crate, which writes no such names.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        tar.append(&header, body).unwrap();
    }
    tar.into_inner().unwrap()
}

fn archive(name: &'static str) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(7);
    tar.append_data(&mut header, name, &b"written"[..]).unwrap();
    tar.into_inner().unwrap()
}

/// As a program does that trusts its input.
fn naive_untar(tar: &[u8], root: &Path) {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        // Joined as text: `/x` below the root, links wherever they lead.
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = root.join(name.trim_start_matches('/'));
        let path = if name.starts_with('/') { PathBuf::from(&name) } else { path };
        let target = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
        let target = target.unwrap_or_default();
        let whiteout = path.file_name().and_then(|name| name.to_str()?.strip_prefix(".wh."));
        match (entry.header().entry_type(), whiteout) {
            (_, Some(gone)) => fs::remove_file(path.with_file_name(gone)).unwrap(),
            (EntryType::Symlink, _) => symlink(&target, &path).unwrap(),
            (EntryType::Link, _) => fs::hard_link(root.join(&target), &path).unwrap(),
            (EntryType::Directory, _) => fs::create_dir_all(&path).unwrap(),
            _ => drop(std::io::copy(&mut entry, &mut fs::File::create(&path).unwrap()).unwrap()),
        }
    }
}

/// The controls of all cases above.
fn naive_programs_get_out() -> Result<(), String> {
    for case in &CASES {
        let (directory, outside) = naive_scene();
        let tree = directory.path().join("tree");
        symlink(&outside, tree.join("out")).unwrap();
        let before = look(&outside);
        (case.naive)(&tree, &outside);
        let read = fs::read_to_string(tree.join("got")).is_ok_and(|text| text.contains(SECRET));
        assert!(read || look(&outside) != before, "{}: the control does not bite", case.name);
    }
    for (name, entries) in LAYERS {
        let (directory, outside) = naive_scene();
        let before = look(&outside);
        naive_untar(&hostile_layer(entries, &outside), &directory.path().join("tree"));
        assert_ne!(look(&outside), before, "{name}: the control does not bite");
    }
    Ok(())
}

fn naive_scene() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    make_outside(&outside);
    fs::create_dir(directory.path().join("tree")).unwrap();
    (directory, outside)
}

/// Whoever opens it waits for a writer, for ever.
fn a_fifo_hangs_nobody(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN rm /etc/passwd /etc/group && mkfifo /etc/passwd /etc/group\nUSER 1000\nCOPY --chown=app note /note\nRUN true\n",
    );
    bench.file("note", "a note\n");
    let run = bench.try_build(&["-t", "fifo"]);
    assert!(run.code == Some(0) || run.errors() == 1, "{}", run.stderr);
    bench.assert_clean();
}

/// Writing to a file in place, through every name it has, must not reach the
/// tree that the next build starts from.
fn builds_share_nothing_writable(mut bench: Bench) {
    let text = "FROM BASE\nRUN echo changed >> /etc/group; ln /etc/passwd /name; echo changed >> /name; chmod 777 /etc/group\n";
    bench.dockerfile(text);
    let changed = bench.build(&["-t", "one"]);
    assert!(changed.text("etc/passwd").contains("changed"));
    bench.dockerfile("FROM BASE\nRUN cat /etc/group /etc/passwd > /seen; stat -c %a /etc/group >> /seen\n");
    let seen = bench.build(&["-t", "two"]).text("seen");
    assert!(!seen.contains("changed") && seen.ends_with("644\n"), "{seen}");
    // What a clone by hard links would have done.
    let directory = tempfile::tempdir().unwrap();
    let [shared, clone] = ["shared", "clone"].map(|name| directory.path().join(name));
    fs::write(&shared, "as it was").unwrap();
    fs::hard_link(&shared, &clone).unwrap();
    fs::write(&clone, "changed").unwrap();
    assert_eq!(fs::read_to_string(&shared).unwrap(), "changed", "the control bites");
}

fn a_full_disk_is_told(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sleep 2\n");
    let run = bench.try_build(&["-t", "full", "--disk-quota", "16m"]);
    assert!(run.code != Some(0) && run.stderr.contains("16 MiB"), "{}", run.stderr);
    bench.assert_clean();
    // Without the quota the same goes through.
    bench.build(&["-t", "full"]);
}

/// A RUN makes setuid files of root. On a machine that others use, too, they must
/// not be able to reach one.
fn closed_to_other_users(mut bench: Bench) {
    let Ok(other) = User::ordinary() else { return };
    if bench.user().uid != 0 || other.uid == 0 {
        return;
    }
    bench.dockerfile("FROM BASE\nRUN cp /bin/busybox /become && chmod 4755 /become\n");
    bench.build(&["-t", "setuid"]);
    let found = || {
        use std::os::unix::process::CommandExt;
        let mut find = std::process::Command::new("find");
        find.arg(bench.state()).args(["-name", "become", "-perm", "-4000"]).uid(other.uid).gid(other.gid);
        String::from_utf8_lossy(&find.output().unwrap().stdout).into_owned()
    };
    assert_eq!(found(), "", "another user reaches a setuid file of root");
    // With open directories it would be there, or the layer was not kept as a tree.
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut ahead = vec![bench.state()];
    while let Some(directory) = ahead.pop() {
        open(&directory);
        let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap());
        ahead.extend(entries.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.path()));
    }
    assert!(found().ends_with("/become\n"), "the control does not bite: {:?}", found());
}
