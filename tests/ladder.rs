//! The isolation ladder in the sandboxes of real CI systems: which rung is
//! taken, what a RUN finds there, and that it finds nothing else.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tar::EntryType;

use crate::support::container::{Container, DOCKER_DEFAULT};
use crate::support::image::Image;
use crate::support::seccomp::Profile;
use crate::support::{Bench, User, plain};

pub fn trials() -> Vec<Trial> {
    vec![
        in_containers("ladder::docker_default_is_a_chroot", docker_default_is_a_chroot),
        in_containers("ladder::a_run_finds_proc_and_devices", a_run_finds_proc_and_devices),
        in_containers("ladder::devices_are_served_where_none_can_be_made", devices_are_served),
        in_containers("ladder::a_run_finds_nothing_of_the_builder", a_run_finds_nothing_of_the_builder),
        in_containers("ladder::all_mounts_at_once", all_mounts_at_once),
        in_containers("ladder::same_image_as_outside", same_image_as_outside),
        in_containers("ladder::nothing_outlives_a_run", nothing_outlives_a_run),
        in_containers("ladder::a_fork_bomb_ends", a_fork_bomb_ends),
        in_containers("ladder::without_landlock_the_log_says_so", without_landlock_the_log_says_so),
        in_containers("ladder::a_full_tmpfs_ends_the_run", a_full_tmpfs_ends_the_run),
        in_containers("ladder::devices_of_a_run_look_like_devices", devices_of_a_run_look_like_devices),
        in_containers("ladder::a_run_has_terminals", a_run_has_terminals),
    ]
}

fn in_containers(name: &'static str, test: fn(Bench)) -> Trial {
    match Container::missing() {
        Some(_) => plain(name, || Err(Container::missing().unwrap_or_default())),
        None => crate::support::as_caller(name, test),
    }
}

/// A build that must work, on the rung expected.
fn build(container: &Container, bench: &Bench, flags: &[&str], rung: &str) -> (Image, String) {
    let run = container.build(bench, flags);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("isolation of RUN: {rung}\n")), "{}", run.stderr);
    bench.assert_clean();
    (bench.image(&run.digest()), run.stderr)
}

/// One `PASS` or `FAIL` line for each check of a RUN.
pub fn checks(lines: &[(&str, &str)]) -> String {
    let mut script = String::from("RUN <<'CHECKS'\n");
    for (name, command) in lines {
        script.push_str(&format!("if ({command}) >/tmp/said 2>&1; then echo PASS {name}; else echo FAIL {name}; cat /tmp/said; fi\n"));
    }
    script.push_str("rm -f /tmp/said\nCHECKS\n");
    script
}

pub fn assert_all_pass(said: &str, count: usize) {
    assert!(!said.contains("| FAIL "), "{said}");
    assert_eq!(said.matches("| PASS ").count(), count, "{said}");
}

fn docker_default_is_a_chroot(mut bench: Bench) {
    bench.dockerfile(
        "FROM AWKWARD\nRUN echo made > /made && chown 5:6 /made && rm /etc/hostname; mknod /node c 1 5\n",
    );
    let (image, _) = build(&DOCKER_DEFAULT, &bench, &["-t", "chroot"], "chroot");
    assert_eq!(image.owner("made"), "0644 5:6");
    let node = image.entry("node");
    assert_eq!((node.kind, node.device), (EntryType::Char, Some((1, 5))));
    for name in ["proc", "sys", "dev"] {
        assert!(!image.layers[image.layers.len() - 1].iter().any(|e| e.path.starts_with(name)), "{name}");
    }
}

const FOUND: [(&str, &str); 32] = [
    ("self", "grep -Eq '^Name:.*(grep|exe)' /proc/self/status"),
    ("exe", "test -x \"$(readlink -f /proc/self/exe)\""),
    ("cwd", "cd /tmp && test \"$(readlink /proc/self/cwd)\" = /tmp"),
    ("root", "test -f /proc/self/root/etc/hosts"),
    ("list of descriptors", "ls /proc/self/fd | grep -q '^1$'"),
    // Longer than the slowest machine takes to look.
    ("own processes", "sleep 300 & ls /proc | grep -q \"^$!\\$\" && kill $!"),
    ("process by number", "sleep 300 & grep -q ^State: /proc/$!/status && kill $!"),
    ("meminfo", "grep -q MemTotal /proc/meminfo"),
    ("settings", "test -n \"$(cat /proc/sys/kernel/osrelease)\""),
    ("mounts", "grep -q ' / ' /proc/mounts"),
    ("link to mounts", "ln -s /proc/self/mounts /tmp/mtab && grep -q ' / ' /tmp/mtab && rm /tmp/mtab"),
    ("null", "echo x > /dev/null && test -c /dev/null"),
    ("zero", "test \"$(head -c 3 /dev/zero | wc -c)\" = 3"),
    ("urandom", "test \"$(head -c 3 /dev/urandom | wc -c)\" = 3"),
    ("full", "! echo x > /dev/full"),
    ("stdin", "test \"$(echo x | cat /dev/stdin)\" = x"),
    ("stdout", "test \"$(echo x > /dev/stdout)\" = x"),
    ("descriptor", "cat /dev/fd/0 < /etc/hosts | grep -q localhost"),
    ("shared memory", "echo x > /dev/shm/x && rm /dev/shm/x"),
    ("chroot to here", "test -d /"),
    ("sync", "sync"),
    ("relative", "cd /proc && grep -q MemTotal meminfo && grep -q Name: self/status"),
    ("going there", "cd /proc/self/fd && ls | grep '^1$' && cd /proc/self && grep -q ^Name: status"),
    ("back out", "cd /tmp && cd /proc/self/cwd && test \"$(pwd -P)\" = /tmp"),
    ("running oneself", "/proc/self/exe 2>&1 | grep -q '^exe: applet not found'"),
    (
        "new file through a link",
        "cd /tmp && echo x > /proc/self/cwd/new && test \"$(cat /tmp/new)\" = x && rm new",
    ),
    (
        "mode through a descriptor",
        "echo x > /tmp/f; chmod 640 /proc/self/fd/3 3</tmp/f; test $(stat -c %a /tmp/f) = 640",
    ),
    (
        "owner through a descriptor",
        "echo x > /tmp/f; chown 5:6 /proc/self/fd/3 3</tmp/f; test $(stat -c %u:%g /tmp/f) = 5:6; rm /tmp/f",
    ),
    ("file system", "stat -f /proc/self >/dev/null && test \"$(stat -f -c %t /proc)\" = 9fa0"),
    ("ps", "ps > /tmp/ps; cat /tmp/ps; grep -q 'ps$' /tmp/ps; rm /tmp/ps"),
    ("multiplexer", "test -c /dev/ptmx && ls /dev/pts | grep -q ptmx"),
    ("no terminal", "! sh -c 'echo x > /dev/tty'"),
];

fn a_run_finds_proc_and_devices(mut bench: Bench) {
    bench.dockerfile(&format!("# syntax=docker/dockerfile:1\nFROM BASE\n{}", checks(&FOUND)));
    let (_, said) = build(&DOCKER_DEFAULT, &bench, &["-t", "found"], "chroot");
    assert_all_pass(&said, FOUND.len());
}

/// Without MKNOD, as in a pod with a user namespace of its own.
fn devices_are_served(mut bench: Bench) {
    let capabilities: &'static [&'static str] =
        &["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETFCAP", "SYS_CHROOT", "KILL"];
    let container = Container { name: "no-mknod", capabilities, ..DOCKER_DEFAULT };
    bench.dockerfile(&format!("# syntax=docker/dockerfile:1\nFROM BASE\n{}", checks(&FOUND)));
    let (_, said) = build(&container, &bench, &["-t", "served"], "chroot");
    assert_all_pass(&said, FOUND.len());
}

/// Each must fail: the check is that it does.
const REFUSED: [(&str, &str); 14] = [
    ("environment of the builder", "! cat /proc/1/environ"),
    ("process of the builder", "! ls /proc/1"),
    ("root of the builder", "! ls /proc/1/root/state"),
    ("out through root", "! ls /proc/self/root/state"),
    ("out through cwd", "! ls /proc/self/cwd/../../../state"),
    ("out through a descriptor", "exec 3</proc/self/fd; ! ls /proc/self/fd/3/../../../../state"),
    ("own memory", "! cat /proc/self/mem"),
    ("kernel memory", "! head -c 1 /proc/kcore"),
    ("settings", "! sh -c 'echo x > /proc/sys/kernel/hostname'"),
    ("trigger", "! sh -c 'echo h > /proc/sysrq-trigger'"),
    ("namespaces", "! ls /proc/self/ns/mnt"),
    ("signal to the builder", "! kill -9 1"),
    ("map of files", "! ls /proc/self/map_files"),
    ("climbing after a listing", "cd /proc/$$ 2>/dev/null; ! ls ../../../../../state"),
];

fn a_run_finds_nothing_of_the_builder(mut bench: Bench) {
    bench.dockerfile(&format!("# syntax=docker/dockerfile:1\nFROM BASE\n{}", checks(&REFUSED)));
    let (_, said) = build(&DOCKER_DEFAULT, &bench, &["-t", "refused"], "chroot");
    assert_all_pass(&said, REFUSED.len());
}

fn all_mounts_at_once(mut bench: Bench) {
    bench.file("src/file", "data\n");
    bench.file("key", "very secret\n");
    let mounts = "--mount=type=cache,target=/var/cache/x --mount=type=bind,source=src,target=/in \
         --mount=type=bind,source=src,target=/rw,rw --mount=type=tmpfs,target=/scratch \
         --mount=type=secret,id=key,uid=1000,mode=0400";
    bench.dockerfile(&format!(
        "FROM BASE\nRUN {mounts} cat /in/file /rw/file && echo more >> /rw/file && echo t > /scratch/t \
         && echo 1 >> /var/cache/x/count && test \"$(wc -c < /run/secrets/key)\" = 12 && echo ok > /ok\n\
         RUN --mount=type=cache,target=/var/cache/x echo 2 >> /var/cache/x/count && cat /var/cache/x/count > /count\n"
    ));
    let flags = ["-t", "mounts", "--secret", "id=key,src=/context/key"];
    let (image, said) = build(&DOCKER_DEFAULT, &bench, &flags, "chroot");
    assert!(!said.contains("very secret"), "{said}");
    assert_eq!(image.text("count"), "1\n2\n");
    let tree = image.tree();
    for name in ["in", "rw", "scratch", "run/secrets", "var/cache/x"] {
        assert!(!tree.contains_key(name), "`{name}` left a trace");
    }
}

fn same_image_as_outside(mut bench: Bench) {
    bench.dockerfile(
        "FROM AWKWARD\nRUN mkdir -p /a/b && echo x > /a/b/c && ln /a/b/c /a/d && ln -s c /a/b/e && chown -h 7:8 /a/b/e\n\
         RUN rm /a/b/c && mv /a/d /a/f && chmod 4755 /a/f && rm -r /home && mkfifo /a/p\n",
    );
    let flags = ["-t", "same", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let (inside, _) = build(&DOCKER_DEFAULT, &bench, &flags, "chroot");
    let outside = bench.build(&["-t", "same", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"]);
    assert_eq!(inside.digest, outside.digest);
}

fn nothing_outlives_a_run(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN (setsid sh -c 'sleep 3; echo late > /late' &) ; setsid sleep 1000 & true\nRUN sleep 4; test ! -e /late\n",
    );
    let (image, _) = build(&DOCKER_DEFAULT, &bench, &["-t", "outlive"], "chroot");
    assert!(!image.tree().contains_key("late"));
    assert_eq!(User::caller().uid, 0);
}

fn a_fork_bomb_ends(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN bomb() { bomb & bomb & sleep 100; }; bomb\n");
    let run = DOCKER_DEFAULT.build(&bench, &["-t", "bomb"]);
    run.assert_fails(3, "more than 4096 processes at once");
}

/// The kernel of a real one would say ENOSPC to each write.
fn a_full_tmpfs_ends_the_run(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN --mount=type=tmpfs,target=/t,size=1m dd if=/dev/zero of=/t/hole bs=1 count=0 seek=1000000000 && \
         dd if=/dev/zero of=/t/file bs=1k count=900 && sleep 1\n\
         RUN --mount=type=tmpfs,target=/t,size=1m dd if=/dev/zero of=/t/file bs=1k count=3000 && sleep 100\n",
    );
    let started = Instant::now();
    let run = DOCKER_DEFAULT.build(&bench, &["-t", "full"]);
    run.assert_fails(3, "the tmpfs `/t` held");
    assert!(started.elapsed() < Duration::from_secs(60), "it took {:?}", started.elapsed());
    assert!(run.stderr.contains("Dockerfile:3"), "the first RUN is within its size:\n{}", run.stderr);
}

const DEVICES: [(&str, &str); 5] = [
    ("mknod", "mknod /node c 1 3 && mknod -m 600 /disk b 8 1"),
    ("stat", "test \"$(stat -c '%F %t %T' /node)\" = 'character special file 1 3' && test -b /disk"),
    ("copy", "cp -a /node /copy && test -c /copy"),
    ("none opens", "! head -c 1 /disk && ! sh -c 'echo x > /node'"),
    ("whiteouts are refused", "! mknod /white c 0 0"),
];

fn devices_of_a_run_look_like_devices(mut bench: Bench) {
    bench.dockerfile(&format!("# syntax=docker/dockerfile:1\nFROM BASE\n{}", checks(&DEVICES)));
    let (image, said) = build(&DOCKER_DEFAULT, &bench, &["-t", "devices"], "chroot");
    assert_all_pass(&said, DEVICES.len());
    for (name, kind, device) in [
        ("node", EntryType::Char, (1, 3)),
        ("copy", EntryType::Char, (1, 3)),
        ("disk", EntryType::Block, (8, 1)),
    ] {
        let entry = image.entry(name);
        assert_eq!((entry.kind, entry.device), (kind, Some(device)), "{name}");
    }
}

/// No program of the base unlocks a terminal: what can be told without is told.
const TERMINALS: [(&str, &str); 3] = [
    ("made", "exec 3<>/dev/ptmx; ls -l /dev/pts | grep '^c.* 136, '"),
    ("closed", "test \"$(ls /dev/pts)\" = ptmx"),
    ("others", "for n in 0 1 2 3; do test ! -e /dev/pts/$n || exit 1; done"),
];

fn a_run_has_terminals(mut bench: Bench) {
    bench.dockerfile(&format!("# syntax=docker/dockerfile:1\nFROM BASE\n{}", checks(&TERMINALS)));
    let (_, said) = build(&DOCKER_DEFAULT, &bench, &["-t", "terminals"], "chroot");
    assert_all_pass(&said, TERMINALS.len());
}

/// It still builds, and says loudly what is not protected; with Landlock it says
/// nothing of the kind.
fn without_landlock_the_log_says_so(mut bench: Bench) {
    let old = Container { name: "no-landlock", seccomp: Profile::DockerWithoutLandlock, ..DOCKER_DEFAULT };
    bench.dockerfile("FROM BASE\nRUN true\n");
    let (_, said) = build(&old, &bench, &["-t", "old"], "chroot");
    assert!(said.contains("NOT PROTECTED are the builder's files"), "{said}");
    let doctor = old.run(&bench, &["/bin/coracle", "doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout) + doctor.stderr.as_str();
    assert!(said.contains("NOT PROTECTED"), "{said}");
    let (_, said) = build(&DOCKER_DEFAULT, &bench, &["-t", "new", "--no-cache"], "chroot");
    assert!(!said.contains("NOT PROTECTED"), "{said}");
}
