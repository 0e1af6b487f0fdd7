//! What a RUN changed, packed from overlay and from plain storage: the same
//! RUN must give the same layer on both, whatever it did.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle::image::Digest;
use coracle::layer::{
    Compression, Entry, EntryIndex, Kind, LayerWriter, PackOptions, PackedLayer, Stack, UnpackOptions, unpack,
};
use coracle::metadata::Key;
use coracle::rootfs::{LayerTree, Rootfs};
use coracle::sandbox::{MountSpec, Root, RunSpec, Storage};

use super::bench::{Bench, spec};
use super::expected;

const PACK: PackOptions = PackOptions { compression: Compression::None, clamp: None, threads: 1 };

/// One kind of storage, with the layers it has so far.
pub(crate) struct Line<'a> {
    bench: &'a Bench,
    storage: Storage,
    key: Key,
    directory: tempfile::TempDir,
    layers: Vec<LayerTree>,
    previous: Option<Rootfs>,
}

impl<'a> Line<'a> {
    fn empty(bench: &'a Bench, storage: Storage) -> Self {
        let key = Key::from_bytes([7; 32]);
        Self { bench, storage, key, directory: bench.directory(), layers: Vec::new(), previous: None }
    }

    /// A few files, two of them with several names.
    fn for_histories(bench: &'a Bench, storage: Storage) -> Self {
        let mut line = Self::empty(bench, storage);
        let old = b"old\n".to_vec();
        let long: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
        let hard = |path: &str, target: &str| {
            let kind = Kind::Hardlink { target: target.into() };
            (Entry { kind, ..file(path, &old) }, None)
        };
        let plain = |path: &str| (file(path, &old), Some(old.clone()));
        line.add_layer(vec![
            (directory("dev"), None),
            (directory("proc"), None),
            (directory("sys"), None),
            (directory("tool"), None),
            (Entry { uid: 5, ..directory("w") }, None),
            plain("w/a"),
            (file("w/b", &long), Some(long.clone())),
            (directory("w/d"), None),
            plain("w/d/a"),
            plain("w/d/b"),
            (directory("w/d/e"), None),
            plain("w/d/e/c"),
            plain("w/d/e/one"),
            (link("w/d/y", "a"), None),
            hard("w/e", "w/d/e/one"),
            plain("w/one"),
            hard("w/two", "w/one"),
            (Entry { mode: 0o700, ..directory("w/x") }, None),
            hard("w/x/one", "w/one"),
        ]);
        line
    }

    /// With busybox as the first layer, and a few files as the second.
    pub(crate) fn new(bench: &'a Bench, storage: Storage) -> Self {
        let mut line = Self::empty(bench, storage);
        let busybox = fs::read(bench.busybox.as_ref().unwrap()).unwrap();
        line.add_layer(vec![
            (directory("bin"), None),
            (Entry { mode: 0o755, ..file("bin/busybox", &busybox) }, Some(busybox)),
            (link("bin/sh", "busybox"), None),
            (directory("dev"), None),
            (directory("proc"), None),
            (directory("sys"), None),
            (Entry { mode: 0o1777, ..directory("tmp") }, None),
        ]);
        let old = b"old\n".to_vec();
        let device = Entry { kind: Kind::CharacterDevice { major: 1, minor: 3 }, ..directory("w/null") };
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        let capable = Entry {
            xattrs: [(b"security.capability".to_vec(), capability)].into(),
            ..file("w/capable", &old)
        };
        let hard = |path: &str| Entry { kind: Kind::Hardlink { target: "w/one".into() }, ..file(path, &old) };
        line.add_layer(vec![
            (Entry { uid: 5, ..directory("w") }, None),
            (capable, Some(old.clone())),
            (directory("w/d"), None),
            (file("w/d/a", &old), Some(old.clone())),
            (file("w/d/b", &old), Some(old.clone())),
            (directory("w/d/e"), None),
            (file("w/d/e/c", &old), Some(old.clone())),
            (file("w/f", &old), Some(old.clone())),
            (link("w/l", "d/a"), None),
            (Entry { mode: 0o666, ..device }, None),
            (file("w/one", &old), Some(old.clone())),
            (hard("w/two"), None),
        ]);
        line
    }

    fn add_layer(&mut self, entries: Vec<(Entry, Option<Vec<u8>>)>) {
        let mut writer = LayerWriter::create(self.directory.path(), PACK).unwrap();
        for (entry, body) in entries {
            let mut body = body.as_deref();
            let body = body.as_mut().map(|body| body as &mut dyn std::io::Read);
            writer.append(&entry, body).unwrap();
        }
        let layer = writer.finish().unwrap();
        self.unpack(&layer);
    }

    fn unpack(&mut self, layer: &PackedLayer) {
        let tree = self.directory.path().join(format!("tree{}", self.layers.len()));
        fs::create_dir(&tree).unwrap();
        let into = File::open(&tree).unwrap();
        // Only the first ones are looked at: making a stack of hundreds takes its time.
        let below = self.layers.iter().take(20);
        let stack = Stack::new(below.map(|layer| Arc::clone(&layer.index)).collect());
        let trees: Vec<PathBuf> = self.layers.iter().map(|layer| layer.tree.clone()).collect();
        let below = coracle::layer::LowerTrees { stack: &stack, trees: &trees };
        let options = UnpackOptions { record_key: self.key.clone() };
        let blob = File::open(&layer.blob).unwrap();
        unpack(blob, &layer.layer.media_type, into.as_fd(), Some(&below), &options).unwrap();
        self.push(tree, layer);
    }

    fn push(&mut self, tree: PathBuf, layer: &PackedLayer) {
        let index = Arc::new(EntryIndex::load(&layer.entries).unwrap());
        self.layers.push(LayerTree { tree, index });
    }

    /// A RUN; what its layer holds, with the text of its files.
    fn run(&mut self, script: &str) -> Vec<String> {
        let argv = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
        self.run_program(argv, Vec::new()).0
    }

    /// The same of this test program; also what it said.
    fn run_history(&mut self, seed: u64, operations: u32) -> (Vec<String>, String) {
        let tool = self.bench.tool();
        let arguments = [super::HISTORY.to_owned(), seed.to_string(), operations.to_string()];
        let argv = tool.argv.iter().cloned().chain(arguments.map(OsString::from)).collect();
        let target = PathBuf::from("/tool");
        let mount = MountSpec::Bind { source: tool.directory.clone(), target, read_only: true };
        self.run_program(argv, vec![mount])
    }

    fn run_program(&mut self, argv: Vec<OsString>, mounts: Vec<MountSpec>) -> (Vec<String>, String) {
        let rootfs = self.prepare();
        let env = vec![("PATH".into(), "/bin".into())];
        let spec = RunSpec { argv, env, mounts, ..spec(&rootfs.root(), "") };
        let outcome = self.bench.run(&spec);
        assert_eq!(outcome.exit, coracle::sandbox::Exit::Code(0), "{}\n{:?}", outcome.stderr, spec.argv);
        (self.pack(rootfs), outcome.stdout)
    }

    /// What the layer holds after `work` did something to a plain tree.
    pub(crate) fn change(&mut self, work: &dyn Fn(&Path)) -> Vec<String> {
        let rootfs = self.prepare();
        let Root::Plain(root) = rootfs.root() else { panic!("a plain tree") };
        work(&root);
        self.pack(rootfs)
    }

    fn prepare(&mut self) -> Rootfs {
        let scratch = self.directory.path().join(format!("step{}", self.layers.len()));
        fs::create_dir(&scratch).unwrap();
        let previous = self.previous.take();
        Rootfs::prepare(&self.storage, &self.layers, &scratch, &self.key, previous).unwrap()
    }

    fn pack(&mut self, mut rootfs: Rootfs) -> Vec<String> {
        let layer = rootfs.pack(LayerWriter::create(self.directory.path(), PACK).unwrap()).unwrap();
        let text = describe(&layer);
        match rootfs.take_tree() {
            Some(upper) => {
                let tree = self.directory.path().join(format!("taken{}", self.layers.len()));
                fs::rename(upper, &tree).unwrap();
                self.push(tree, &layer);
            }
            // Overlay storage needs a tree of every layer.
            None if matches!(self.storage, Storage::Overlay) => self.unpack(&layer),
            None => self.push(PathBuf::from("/nonexistent"), &layer),
        }
        self.previous = Some(rootfs);
        text
    }
}

fn directory(path: &str) -> Entry {
    Entry { mtime: OLD, ..Entry::implicit_directory(path.into()) }
}

fn file(path: &str, body: &[u8]) -> Entry {
    Entry { kind: Kind::File { size: body.len() as u64 }, mode: 0o644, ..directory(path) }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { kind: Kind::Symlink { target: target.into() }, mode: 0o777, ..directory(path) }
}

const OLD: i64 = 1_000_000_000;

/// Each entry on a line, as `expected` writes them.
fn describe(layer: &PackedLayer) -> Vec<String> {
    let index = EntryIndex::load(&layer.entries).unwrap();
    let files: Vec<PathBuf> = index
        .iter()
        .filter(|entry| matches!(entry.kind, Kind::File { .. }))
        .map(|entry| entry.path)
        .collect();
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let blob = File::open(&layer.blob).unwrap();
    let bodies = coracle::layer::read_files(blob, &layer.layer.media_type, &paths).unwrap();
    let what = |entry: &Entry| match &entry.kind {
        Kind::File { size } => format!("file {size} {}", Digest::of(&bodies[&entry.path])),
        Kind::Directory { opaque: false } => "directory".to_owned(),
        Kind::Directory { opaque: true } => "opaque".to_owned(),
        Kind::Symlink { target } => format!("link {}", target.display()),
        Kind::Hardlink { target } => format!("hardlink {}", target.display()),
        Kind::Whiteout => "whiteout".to_owned(),
        Kind::Fifo => "fifo".to_owned(),
        Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } => "device".to_owned(),
    };
    index
        .iter()
        .map(|entry| {
            let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            let attributes: std::collections::BTreeMap<_, _> =
                entry.xattrs.iter().map(|(key, value)| (name(key), value.clone())).collect();
            format!(
                "{} {} {:o} {}:{} {} {attributes:?}",
                entry.path.display(),
                what(&entry),
                entry.mode,
                entry.uid,
                entry.gid,
                entry.mtime
            )
        })
        .collect()
}

fn storages(bench: &Bench) -> Vec<Storage> {
    let mut storages = vec![Storage::Plain { reason: "a test".to_owned() }];
    if bench.entered.storage == Storage::Overlay {
        storages.push(Storage::Overlay);
    }
    storages
}

fn lines(bench: &Bench) -> Vec<Line<'_>> {
    storages(bench).into_iter().map(|storage| Line::new(bench, storage)).collect()
}

/// The paths and kinds of a layer.
pub(crate) fn names(layer: &[String]) -> Vec<String> {
    let words = |line: &String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    layer.iter().map(words).collect()
}

pub(crate) fn packs_only_what_changed(bench: &Bench) {
    for mut line in lines(bench) {
        let mut check = |script: &str, expected: &[&str]| {
            let layer = line.run(&format!("export PATH=/bin; b=/bin/busybox; {script}"));
            assert_eq!(names(&layer), expected, "{:?}: {script}", line.storage);
        };
        check("true", &[]);
        check(
            "cat=$($b cat /w/f); $b chmod 644 /w/f; $b chown 0:0 /w/f; : >> /w/f; $b touch -d @1000000000 /w/f",
            &[],
        );
        check("$b touch -d @1000000000 /w/two", &[]);
        check("$b cp -a /w/f /w/g; $b mv /w/g /w/f; $b touch -d @1000000000 /w", &[]);
        check(
            "echo new > /w/d/e/c; $b touch -d @1000000000 /w/d/e/c",
            &["w directory", "w/d directory", "w/d/e directory", "w/d/e/c file"],
        );
        check(
            "$b rm /w/d/a; $b touch -d @1000000000 /w/d",
            &["w directory", "w/d directory", "w/d/a whiteout"],
        );
        check(
            "$b rm -r /w/d; $b mkdir -p /w/d; $b touch /w/d/new; $b touch -d @1000000000 /w",
            &["w directory", "w/d opaque", "w/d/new file"],
        );
        check(
            "echo more >> /w/two; $b touch -d @1000000000 /w",
            &["w directory", "w/one file", "w/two hardlink"],
        );
        check(
            "$b ln /w/one /w/three; $b touch -d @1000000000 /w",
            &["w directory", "w/one file", "w/three hardlink", "w/two hardlink"],
        );
        check("$b chmod 600 /w/null", &["w directory", "w/null device"]);
        check(
            "$b mv /w/null /w/zero; $b touch -d @1000000000 /w",
            &["w directory", "w/null whiteout", "w/zero device"],
        );
        check("$b chown 3:4 /w/capable", &["w directory", "w/capable file"]);
        check("$b nc -lU /w/socket & sleep 0.2 2>/dev/null || $b sleep 0.2; $b touch -d @1000000000 /w", &[]);
        check(
            "$b mkfifo /w/fifo; $b rm /w/l; $b mkdir /w/l; $b rm /w/f; $b touch -d @1000000000 /w",
            &["w directory", "w/f whiteout", "w/fifo fifo", "w/l directory"],
        );
        check(
            "$b rm -r /tmp/* /w; echo > /tmp/x; $b touch -d @1000000000 /tmp",
            &["tmp directory", "tmp/x file", "w whiteout"],
        );
    }
}

/// Runs of a history, and things done in one of them.
const RUNS: u64 = 4;
const OPERATIONS: u32 = 50;

/// Random histories give the layers that the live tree of plain storage says,
/// on either storage. `CORACLE_SOAK=1`: a thousand of them; `CORACLE_HISTORY`: from
/// this one on.
pub(crate) fn packs_what_histories_did(bench: &Bench) {
    let soak = super::switch("CORACLE_SOAK").is_some();
    let mut seen = 0;
    let first =
        super::switch("CORACLE_HISTORY").and_then(|number| number.to_str()?.parse().ok()).unwrap_or(0);
    for history in first..if soak { 1000 } else { first + 12 } {
        let mut lines: Vec<Line<'_>> =
            storages(bench).into_iter().map(|storage| Line::for_histories(bench, storage)).collect();
        if soak && history % 100 == 0 {
            eprintln!("history {history}: {seen} entries of layers so far");
        }
        for run in 0..RUNS {
            if run == RUNS / 2 {
                lines.iter_mut().for_each(copy_something);
            }
            let seed = history * RUNS + run;
            let found: Vec<_> = std::thread::scope(|scope| {
                let start = |line| scope.spawn(|| Line::run_history(line, seed, OPERATIONS));
                let started: Vec<_> = lines.iter_mut().map(start).collect();
                started.into_iter().map(|run| run.join().unwrap()).collect()
            });
            let (_, said) = &found[0];
            let expected = expected::layer(said);
            seen += expected.len();
            for (line, (layer, heard)) in lines.iter().zip(&found) {
                let storage = &line.storage;
                let (before, tried, _) = expected::parts(heard);
                let stood_on =
                    difference(&expected::shape(expected::parts(said).0), &expected::shape(before));
                assert!(stood_on.is_empty(), "history {history}, before run {run}, {storage:?}:\n{stood_on}");
                assert_eq!(expected::parts(said).1, tried, "history {history}, run {run}, {storage:?}");
                let difference = difference(&expected, layer);
                assert!(
                    difference.is_empty(),
                    "history {history}, run {run} (seed {seed}), {storage:?}:\n{difference}\n{said}"
                );
            }
        }
    }
    println!("histories: {seen} entries of layers on {} storages", storages(bench).len());
    assert!(seen > 400 || soak, "the histories do something: {seen} entries");
}

fn difference(expected: &[String], found: &[String]) -> String {
    let missing = expected.iter().filter(|line| !found.contains(line)).map(|line| format!("- {line}\n"));
    let added = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}\n"));
    let order = if missing.clone().chain(added.clone()).next().is_none() && expected != found {
        "in another order\n".to_owned()
    } else {
        String::new()
    };
    missing.chain(added).chain([order]).collect()
}

/// A layer that no RUN made, as COPY has them: it must be added to a plain tree
/// that earlier steps left.
fn copy_something(line: &mut Line<'_>) {
    let body = b"copied\n".to_vec();
    let whiteout = Entry { kind: Kind::Whiteout, ..directory("w/x") };
    let hard = |path: &str, target: &str| Entry {
        kind: Kind::Hardlink { target: target.into() },
        ..file(path, &body)
    };
    line.add_layer(vec![
        (directory("w"), None),
        (file("w/c", &body), Some(body.clone())),
        (Entry { kind: Kind::Directory { opaque: true }, ..directory("w/d") }, None),
        (file("w/d/a", &body), Some(body.clone())),
        (hard("w/d/two", "w/d/a"), None),
        (directory("w/m"), None),
        (file("w/m/b", &body), Some(body.clone())),
        (hard("w/m/one", "w/d/a"), None),
        (whiteout, None),
    ]);
}

/// overlayfs makes several files of one when several of its names are touched.
pub(crate) fn rejoins_what_overlay_takes_apart(bench: &Bench) {
    let cases = [
        ("$b mv /w/two /w/f", "true"),
        ("$b mv /w/two /w/f; echo new > /w/f; $b rm /w/one", "touch -d @1000000003 /w/f"),
        ("echo new > /w/one; $b touch -d @1000000003 /w/one; $b rm /w/one", "true"),
        ("$b chmod 4755 /w/one; $b mv /w/capable /w/one", "true"),
        (
            "$b ln /w/two /w/three; echo new > /w/three; $b touch -d @1000000003 /w/three; $b rm /w/two /w/three",
            "true",
        ),
        ("$b mv /w/one /w/t; $b mv /w/two /w/one; $b mv /w/t /w/two", "true"),
        ("echo new > /w/one; $b rm /w/one /w/two", "true"),
        ("$b cp -a /w/one /w/g", "true"),
        ("$b cp -a /w/one /w/g; $b rm /w/one; $b touch -d @1000000004 /w/g", "true"),
        ("$b ln /w/one /w/three; $b rm /w/one; $b cp -a /w/three /w/one", "true"),
        ("echo new > /w/one; $b chmod 600 /w/two", "touch -d @1000000005 /w/one"),
        ("echo new > /w/two; echo newest > /w/one", "touch -d @1000000006 /w/one"),
        ("$b chown 7 /w/one; $b chmod 711 /w/two; echo x > /w/two", "touch -d @1000000007 /w/two"),
        ("$b touch -d @1000000009 /w/one; $b chown 3:4 /w/two; $b ln /w/two /w/three", "true"),
        ("$b touch -d @1000000000 /w/one; $b touch -d @1000000000 /w/two", "true"),
    ];
    for (script, last) in cases {
        let mut layers = Vec::new();
        for mut line in lines(bench) {
            let set = "$b touch -d @1000000000 /w";
            let script = format!("b=/bin/busybox; {script}; $b {last}; {set}");
            let first = line.run(&script);
            // The next step stands on what the layer says, not on what overlayfs left.
            let next = line.run("b=/bin/busybox; $b cat /w/one /w/two > /w/d/a; $b stat -c '%a %u' /w/one /w/two > /w/d/b; for p in one:two one:three two:three one:f one:g; do test $($b stat -c %i /w/${p%:*}) = $($b stat -c %i /w/${p#*:}) && echo $p >> /w/d/b; done; $b touch -d @1000000000 /w/d/a /w/d/b");
            layers.push((script, first, next));
        }
        assert!(layers.iter().all(|found| *found == layers[0]), "{layers:#?}");
    }
}

/// overlayfs takes 500 layers; more are merged.
pub(crate) fn merges_more_layers_than_overlay_takes(bench: &Bench) {
    let mut line = Line::new(bench, bench.entered.storage.clone());
    for number in 0..502 {
        let name = format!("w/n{number}");
        let body = number.to_string().into_bytes();
        line.add_layer(vec![(Entry { uid: 5, ..directory("w") }, None), (file(&name, &body), Some(body))]);
    }
    let script = "b=/bin/busybox; $b cat /w/n0 /w/n501 > /w/f; $b rm /w/n7; $b touch -d @1000000000 /w /w/f";
    let layer = line.run(script);
    assert_eq!(names(&layer), ["w directory", "w/f file", "w/n7 whiteout"]);
    let layer = line.run("b=/bin/busybox; test ! -e /w/n7 && test \"$($b cat /w/f)\" = 0501 && $b rm /w/n8; $b touch -d @1000000000 /w");
    assert_eq!(names(&layer), ["w directory", "w/n8 whiteout"]);
}
