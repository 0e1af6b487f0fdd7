//! What a RUN sees as `/`, and what is mounted on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use coracle::sandbox::{Error, Linked, MountSpec, Root, Storage};
use coracle::secret::Secret;

use super::bench::{Bench, snapshot, spec};

pub(crate) fn shows_only_the_root(bench: &Bench) {
    // A link to what some kernels do not have.
    let core = if Path::new("/proc/kcore").exists() { "/dev/core " } else { "" };
    for root in bench.roots() {
        bench
            .shell(&root, "echo /*; echo $$; cd /; ls -d ..")
            .is("/bin /dev /etc /lib /proc /root /sys /tmp\n1\n..\n");
        bench.shell(&root, "echo /dev/*").is(&format!(
            "{core}/dev/fd /dev/full /dev/mqueue /dev/null /dev/ptmx /dev/pts /dev/random /dev/shm \
             /dev/stderr /dev/stdin /dev/stdout /dev/tty /dev/urandom /dev/zero\n"
        ));
        bench.shell(&root, "ls /proc/self/fd; readlink /proc/self/fd/0").is("0\n1\n2\n3\n/dev/null\n");
        bench.shell(&root, "echo x > /dev/null && echo > /proc/sys/kernel/domainname").fails();
        bench.shell(&root, "echo x > /sys/kernel/uevent_helper").fails();
        bench.shell(&root, "cat /proc/kcore | wc -c").is("0\n");
        bench.shell(&root, "hostname; test ! -e /etc/hostname && umask").is("buildkitsandbox\n0022\n");
        let leaked = bench.shell(&root, "cat /proc/self/mountinfo").stdout;
        let inside = leaked.lines().filter(|line| line.contains(" overlay ") || line.contains(" / / "));
        assert!(inside.clone().all(|line| !line.contains("lower:1")), "{leaked}");
    }
}

pub(crate) fn provides_network_files_without_a_trace(bench: &Bench) {
    for root in bench.roots() {
        let base = match &root.root {
            Root::Plain(path) => path.clone(),
            Root::Overlay { lowers, .. } => lowers[0].clone(),
        };
        symlink("../run/systemd/resolve/stub-resolv.conf", base.join("etc/resolv.conf")).unwrap();
        fs::write(base.join("etc/hosts"), "old\n").unwrap();
        let before = snapshot(&base);
        bench
            .shell(&root, "cat /etc/resolv.conf /etc/hosts")
            .is("nameserver 192.0.2.1\n127.0.0.1 localhost\n");
        bench.shell(&root, "echo more >> /etc/hosts").fails();
        assert_eq!(snapshot(&base), before);
        assert_eq!(fs::read_to_string(base.join("etc/hosts")).unwrap(), "old\n");
        for name in ["run", "proc", "dev", "sys", "etc/hostname"] {
            assert!(fs::symlink_metadata(root.written.join(name)).is_err(), "{name} stayed");
        }
        let etc = fs::metadata(base.join("etc")).unwrap();
        if let Ok(copied) = fs::metadata(root.written.join("etc")) {
            assert_eq!((copied.mtime(), copied.mtime_nsec()), (etc.mtime(), etc.mtime_nsec()));
        }
        // What RUN itself changes does stay.
        bench.shell(&root, "touch /etc/mine").is("");
        let changed = fs::metadata(root.written.join("etc")).unwrap();
        assert_ne!((changed.mtime(), changed.mtime_nsec()), (etc.mtime(), etc.mtime_nsec()));
    }
}

pub(crate) fn mounts_what_it_is_told(bench: &Bench) {
    for root in bench.roots() {
        let source = bench.directory();
        fs::write(source.path().join("file"), "from outside\n").unwrap();
        let bind = |target: &str, read_only| MountSpec::Bind {
            source: source.path().to_owned(),
            target: target.into(),
            read_only,
        };
        let mut order = spec(
            &root.root,
            "cat /in/file; touch /in/new || echo frozen; echo kept > /cache/deep/new; cat /run/secrets/key; \
             stat -c '%a %u:%g' /run/secrets/key; (echo x > /run/secrets/key) 2>/dev/null || echo sealed; \
             dd if=/dev/zero of=/small/x bs=1M count=3 2>/dev/null || echo full; stat -c %a /small; \
             /dev/pipes/EOF1; cat /one",
        );
        order.mounts = vec![
            bind("/in", true),
            bind("/cache/deep", false),
            MountSpec::File {
                content: Secret::new("hunter2\n"),
                target: "/run/secrets/key".into(),
                mode: 0o400,
                uid: 5,
                gid: 6,
            },
            MountSpec::Tmpfs { target: "/small".into(), size: Some(1 << 20), mode: 0o700 },
            MountSpec::Bind { source: source.path().join("file"), target: "/one".into(), read_only: true },
        ];
        order.scripts = vec![("EOF1".to_owned(), b"#!/bin/sh\necho script\n".to_vec())];
        let before = snapshot(&root.written);
        bench
            .run(&order)
            .is("from outside\nfrozen\nhunter2\n400 5:6\nsealed\nfull\n700\nscript\nfrom outside\n");
        assert_eq!(fs::read_to_string(source.path().join("new")).unwrap(), "kept\n");
        let bare = |lines: Vec<String>| -> Vec<String> {
            // An overlay upper may have copied parents up; nothing else.
            lines.into_iter().filter(|line| !line.contains("upper/etc ")).collect()
        };
        assert_eq!(bare(snapshot(&root.written)), bare(before));
        assert!(!format!("{order:?}").contains("hunter2"));
    }
}

pub(crate) fn throws_scratch_writes_away(bench: &Bench) {
    for root in bench.roots() {
        let (source, scratch) = (bench.directory(), bench.directory());
        fs::write(source.path().join("file"), "old\n").unwrap();
        let mut order = spec(&root.root, "cat /s/file; echo new > /s/file; rm /s/file; echo x > /s/y; ls /s");
        order.mounts = vec![MountSpec::ScratchBind {
            source: source.path().to_owned(),
            scratch: scratch.path().to_owned(),
            target: "/s".into(),
        }];
        bench.run(&order).is("old\ny\n");
        assert_eq!(fs::read_to_string(source.path().join("file")).unwrap(), "old\n");
        assert_eq!(fs::read_dir(source.path()).unwrap().count(), 1);
    }
}

pub(crate) fn stacks_many_lowers(bench: &Bench) {
    if bench.entered.storage != Storage::Overlay {
        return;
    }
    let root = bench.overlay();
    let deep = root.directory.path().join("n".repeat(200)).join("m".repeat(200));
    let Root::Overlay { lowers, upper, work, .. } = &root.root else { unreachable!() };
    let mut many: Vec<PathBuf> = Vec::new();
    for number in 0..499 {
        let lower = deep.join(format!("sha256:{number}"));
        fs::create_dir_all(&lower).unwrap();
        fs::write(lower.join(format!("f{number}")), "").unwrap();
        many.push(lower);
    }
    many.insert(3, many[498].clone());
    many.push(lowers[0].clone());
    let stacked = |lowers| Root::Overlay {
        lowers,
        upper: upper.clone(),
        work: work.clone(),
        linked: Linked::default(),
    };
    bench.run(&spec(&stacked(many.clone()), "ls /f* | wc -l")).is("499\n");
    fs::create_dir(deep.join("one")).unwrap();
    many.push(deep.join("one"));
    let error = bench.try_run(&spec(&stacked(many), "true"), &|| false).unwrap_err();
    assert!(matches!(error, Error::TooManyLowers { count: 501 }), "{error}");
    // FROM scratch: there is nothing below.
    let empty = bench.overlay();
    let Root::Overlay { lowers, upper, .. } = &empty.root else { unreachable!() };
    bench.base(upper);
    let Root::Overlay { work, .. } = &empty.root else { unreachable!() };
    assert_eq!(lowers.len(), 1);
    let bare = Root::Overlay {
        lowers: Vec::new(),
        upper: upper.clone(),
        work: work.clone(),
        linked: Linked::default(),
    };
    bench.run(&spec(&bare, "echo bare")).is("bare\n");
}
