//! What a build does not do: a stage of config instructions reads no layer, and
//! an image without a RUN is made without unpacking anything.
//!
//! The state directory of these builds is a file system with so few inodes that
//! nothing of what they copy could be unpacked in it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use tar::EntryType;

use crate::add::archive_of;
use crate::support::bench::Run;
use crate::support::image::Image;
use crate::support::mount::Mounted;
use crate::support::{Bench, User, as_caller, plain};

pub fn trials() -> Vec<Trial> {
    vec![
        plain("graph::config_reads_no_layer", || in_few_inodes(config_reads_no_layer)),
        plain("graph::without_a_run_nothing_is_unpacked", || {
            in_few_inodes(without_a_run_nothing_is_unpacked)
        }),
        as_caller(
            "graph::copies_are_the_same_from_trees_and_blobs",
            copies_are_the_same_from_trees_and_blobs,
        ),
        as_caller("graph::a_missing_index_is_made_again", a_missing_index_is_made_again),
        as_caller("graph::a_large_copy_needs_little_memory", a_large_copy_needs_little_memory),
    ]
}

/// More than a small build's state has, and less than what would be unpacked.
const INODES: usize = 200;
const FILES: usize = 400;

/// Runs the test for root and for an ordinary user.
fn in_few_inodes(test: fn(&mut Bench)) -> Result<(), String> {
    let root = User::root()?;
    for user in [Ok(root), User::ordinary()].into_iter().flatten() {
        let mut bench = Bench::new(user);
        let state = bench.state();
        fs::create_dir(&state).unwrap();
        let mounted = Mounted::tmpfs(&state, &format!("nr_inodes={INODES},size=256m"))?;
        bench.give(&state);
        test(&mut bench);
        drop(mounted);
    }
    Ok(())
}

/// Names of what is unpacked, for any mapping of ids.
fn trees(bench: &Bench) -> Vec<PathBuf> {
    let children = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|item| item.path());
    children(bench.state().join("trees")).flat_map(children).collect()
}

/// Nor is any blob downloaded: what a config says does not depend on it.
fn config_reads_no_layer(bench: &mut Bench) {
    bench.dockerfile("FROM BASE AS one\nENV A=1\nUSER app\nFROM one\nLABEL b=2\nCMD [\"x\"]\nEXPOSE 80\n");
    let host = bench.server().host();
    let to = format!("{host}/pushed/config:1");
    let image = bench.build(&["-t", &to, "--push", "--isolation", "none"]);
    assert_eq!(image.config["config"]["User"], "app");
    let left = |name: &str| fs::read_dir(bench.state().join(name)).unwrap().count();
    assert_eq!((trees(bench), left("entries")), (vec![], 0));
    let base = fs::read_dir(bench.state().join("blobs/sha256")).unwrap().flatten();
    let layer = image.manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert!(base.into_iter().all(|blob| !layer.ends_with(blob.file_name().to_str().unwrap())));
}

/// COPY of every kind that must know its base or its source.
fn copying(bench: &mut Bench) {
    let many: Vec<(String, String)> =
        (0..FILES).map(|number| (format!("many/{number:03}"), format!("{number}\n"))).collect();
    for (name, content) in &many {
        bench.file(name, content);
    }
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
    bench.file("archive.tar", archive_of(&many));
    bench.dockerfile(
        "FROM AWKWARD AS one\nCOPY --chown=app:extra many /home/app/many\nCOPY many/007 /lib/deep/\n\
         COPY many/001 /home/app/many/000\n\
         FROM BASE AS two\nWORKDIR /srv/a\nUSER app\nWORKDIR b\nADD archive.tar /unpacked/\n\
         COPY --from=one --chown=www /home/app/ ./copied/\nCOPY --from=one /lib/deep/007 /bin/busybox /x/\n\
         COPY --from=one --parents /home/./app/many/1* /home/./*/many/39[0-9] /p/\n\
         COPY --from=one --exclude=*9 /home/app/many /excluded\n\
         COPY --link --from=AWKWARD /opt /opt\nCOPY --from=BASE --chmod=711 /etc/passwd /usr/bin/ /tools/\n\
         COPY --from=one /home/app/many/000 /home/app/many/000\n",
    );
}

fn check_copies(image: &Image) {
    assert_eq!(image.owner("srv/a/b/copied/many/399"), "0644 33:33");
    assert_eq!(image.text("srv/a/b/copied/many/399"), "399\n");
    assert_eq!(image.text("srv/a/b/copied/many/000"), "1\n");
    assert_eq!(image.owner("srv/a/b"), "0755 1000:1000");
    assert_eq!(image.text("x/007"), "7\n");
    assert_eq!(image.text("p/app/many/391"), "391\n");
    assert_eq!(image.text("unpacked/many/123"), "123\n");
    assert!(!image.tree().contains_key("excluded/119"));
    assert_eq!(image.text("excluded/118"), "118\n");
    assert_eq!(image.entry("opt/null").device, Some((1, 3)));
    assert_eq!(image.text("opt/capable"), "capable\n");
    assert_eq!(image.entry("tools/cat").kind, EntryType::Link);
    assert_eq!(image.entry("tools/busybox").mode, 0o711);
    assert_eq!(image.owner("home/app"), "0750 1000:1000");
}

fn without_a_run_nothing_is_unpacked(bench: &mut Bench) {
    copying(bench);
    check_copies(&bench.build(&["-t", "copies", "--isolation", "none"]));
    assert_eq!(trees(bench), Vec::<PathBuf>::new());
    // The content keys, too, are found without a tree.
    bench.file("many/007", "8\n");
    let image = bench.build(&["-t", "copies", "--isolation", "none"]);
    assert_eq!(image.text("x/007"), "8\n");
    assert_eq!(trees(bench), Vec::<PathBuf>::new());
}

/// Where a RUN has unpacked the layers, files come from there.
fn copies_are_the_same_from_trees_and_blobs(mut bench: Bench) {
    bench.env("SOURCE_DATE_EPOCH", "1700000000");
    copying(&mut bench);
    let from_blobs = bench.build(&["-t", "copies"]);
    assert_eq!(trees(&bench), Vec::<PathBuf>::new());
    let text = fs::read_to_string(bench.path("context/Dockerfile")).unwrap();
    let runs = "FROM one AS three\nRUN true\nFROM two\nCOPY --from=three /etc/passwd /z\nRUN true\n";
    bench.file("Dockerfile", format!("{text}{runs}"));
    bench.build(&["-t", "runs"]);
    assert!(!trees(&bench).is_empty());
    bench.file("Dockerfile", text);
    let from_trees = bench.build(&["-t", "copies", "--no-cache"]);
    assert_eq!(from_blobs.digest, from_trees.digest);
}

fn a_missing_index_is_made_again(mut bench: Bench) {
    bench.file("a", "1\n");
    bench.dockerfile("FROM BASE AS one\nCOPY a /lib/a\nFROM BASE\nCOPY --from=one /lib/a /usr/lib/a /to/\n");
    let first = bench.build(&["-t", "first"]);
    for entry in fs::read_dir(bench.state().join("entries")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    bench.file("b", "2\n");
    let text = fs::read_to_string(bench.path("context/Dockerfile")).unwrap();
    bench.file("Dockerfile", format!("{text}COPY b /to/b\nCOPY --from=one /lib/a /to/c\n"));
    let second = bench.build(&["-t", "second"]);
    assert_eq!((second.text("to/a"), second.text("to/c")), (first.text("to/a"), "1\n".to_owned()));
    assert_eq!(second.layers[..first.layers.len()], first.layers[..]);
}

/// 50,000 files and 2 GiB are in `make soak`; what grows with them shows here too.
fn a_large_copy_needs_little_memory(mut bench: Bench) {
    const LARGE: u64 = 256 << 20;
    const MOST_KIB: u64 = 128 << 10;
    bench.file("large", "");
    let large = fs::OpenOptions::new().write(true).open(bench.path("context/large")).unwrap();
    large.set_len(LARGE).unwrap();
    bench.dockerfile("FROM scratch AS one\nCOPY large /large\nFROM scratch\nCOPY --from=one /large /copy\n");
    let arguments = ["build", "--progress", "plain", "--isolation", "none", "-t", "large", "context"];
    let child = bench.command(&arguments).spawn().unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        while let Some(kib) = fs::read_to_string(&status).ok().as_deref().and_then(peak) {
            most = most.max(kib);
            std::thread::sleep(Duration::from_millis(5));
        }
        most
    });
    let run = Run::of(child);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let most = watch.join().unwrap();
    assert!((1..MOST_KIB).contains(&most), "its peak was {most} KiB");
}

/// Of /proc/PID/status; a zombie has none.
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
