//! What a RUN changed, packed from overlay and from plain storage: the same
//! RUN must give the same layer on both, whatever it did.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle::layer::{
    Compression, Entry, EntryIndex, Kind, LayerWriter, PackOptions, PackedLayer, Stack, UnpackOptions, unpack,
};
use coracle::metadata::Key;
use coracle::rootfs::{LayerTree, Rootfs};
use coracle::sandbox::{RunSpec, Storage};

use super::{Bench, spec};

const PACK: PackOptions = PackOptions { compression: Compression::None, clamp: None, threads: 1 };

/// One kind of storage, with the layers it has so far.
struct Line<'a> {
    bench: &'a Bench,
    storage: Storage,
    key: Key,
    directory: tempfile::TempDir,
    layers: Vec<LayerTree>,
    previous: Option<Rootfs>,
}

impl<'a> Line<'a> {
    /// With busybox as the first layer, and a few files as the second.
    fn new(bench: &'a Bench, storage: Storage) -> Self {
        let key = Key::from_bytes([7; 32]);
        let mut line =
            Self { bench, storage, key, directory: bench.directory(), layers: Vec::new(), previous: None };
        let busybox = fs::read(bench.busybox.as_ref().unwrap()).unwrap();
        line.add_layer(vec![
            (directory("bin"), None),
            (Entry { mode: 0o755, ..file("bin/busybox", &busybox) }, Some(busybox)),
            (link("bin/sh", "busybox"), None),
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
        let stack = Stack::new(self.layers.iter().map(|layer| Arc::clone(&layer.index)).collect());
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
        let scratch = self.directory.path().join(format!("step{}", self.layers.len()));
        fs::create_dir(&scratch).unwrap();
        let previous = self.previous.take();
        let mut rootfs = Rootfs::prepare(&self.storage, &self.layers, &scratch, &self.key, previous).unwrap();
        let argv = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
        let env = vec![("PATH".into(), "/bin".into())];
        let outcome = self.bench.run(&RunSpec { argv, env, ..spec(&rootfs.root(), "") });
        assert_eq!(outcome.exit, coracle::sandbox::Exit::Code(0), "{}\n{script}", outcome.stderr);
        let layer = rootfs.pack(LayerWriter::create(self.directory.path(), PACK).unwrap()).unwrap();
        let text = describe(&layer);
        match rootfs.take_tree() {
            Some(upper) => {
                let tree = self.directory.path().join(format!("taken{}", self.layers.len()));
                fs::rename(upper, &tree).unwrap();
                self.push(tree, &layer);
            }
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

/// Each entry on a line.
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
    index
        .iter()
        .map(|entry| {
            let body = bodies.get(&entry.path).map(|body| String::from_utf8_lossy(body).into_owned());
            let names: Vec<_> = entry.xattrs.keys().map(|name| String::from_utf8_lossy(name)).collect();
            format!(
                "{} {:?} {:o} {}:{} {} {names:?} {body:?}",
                entry.path.display(),
                entry.kind,
                entry.mode,
                entry.uid,
                entry.gid,
                entry.mtime
            )
        })
        .collect()
}

fn lines(bench: &Bench) -> Vec<Line<'_>> {
    let plain = Storage::Plain { reason: "a test".to_owned() };
    let mut lines = vec![Line::new(bench, plain)];
    if bench.entered.storage == Storage::Overlay {
        lines.push(Line::new(bench, Storage::Overlay));
    }
    lines
}

/// The paths and kinds of a layer.
fn names(layer: &[String]) -> Vec<String> {
    layer
        .iter()
        .map(|line| {
            let mut words = line.split(' ');
            let (path, kind) = (words.next().unwrap(), words.next().unwrap());
            let opaque = if line.contains("opaque: true") { " opaque" } else { "" };
            format!("{path} {kind}{opaque}")
        })
        .collect()
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
            &["w Directory", "w/d Directory", "w/d/e Directory", "w/d/e/c File"],
        );
        check(
            "$b rm /w/d/a; $b touch -d @1000000000 /w/d",
            &["w Directory", "w/d Directory", "w/d/a Whiteout"],
        );
        check(
            "$b rm -r /w/d; $b mkdir -p /w/d; $b touch /w/d/new; $b touch -d @1000000000 /w",
            &["w Directory", "w/d Directory opaque", "w/d/new File"],
        );
        check(
            "echo more >> /w/two; $b touch -d @1000000000 /w",
            &["w Directory", "w/one File", "w/two Hardlink"],
        );
        check(
            "$b ln /w/one /w/three; $b touch -d @1000000000 /w",
            &["w Directory", "w/one File", "w/three Hardlink", "w/two Hardlink"],
        );
        check("$b chmod 600 /w/null", &["w Directory", "w/null CharacterDevice"]);
        check(
            "$b mv /w/null /w/zero; $b touch -d @1000000000 /w",
            &["w Directory", "w/null Whiteout", "w/zero CharacterDevice"],
        );
        check("$b chown 3:4 /w/capable", &["w Directory", "w/capable File"]);
        check("$b nc -lU /w/socket & sleep 0.2 2>/dev/null || $b sleep 0.2; $b touch -d @1000000000 /w", &[]);
        check(
            "$b mkfifo /w/fifo; $b rm /w/l; $b mkdir /w/l; $b rm /w/f; $b touch -d @1000000000 /w",
            &["w Directory", "w/f Whiteout", "w/fifo Fifo", "w/l Directory"],
        );
        check(
            "$b rm -r /tmp/* /w; echo > /tmp/x; $b touch -d @1000000000 /tmp",
            &["tmp Directory", "tmp/x File", "w Whiteout"],
        );
    }
}

pub(crate) fn packs_the_same_from_both_storages(bench: &Bench) {
    if bench.entered.storage != Storage::Overlay {
        return;
    }
    let mut seen = 0;
    for seed in 1..=8 {
        let mut lines = lines(bench);
        let mut history = History { random: seed, step: 0 };
        for step in 0..8 {
            if step == 4 {
                lines.iter_mut().for_each(copy_something);
            }
            let script = history.script(36);
            let layers: Vec<Vec<String>> = lines.iter_mut().map(|line| line.run(&script)).collect();
            let (plain, overlay) = (&layers[0], &layers[1]);
            seen += plain.len();
            let difference: String = plain
                .iter()
                .filter(|line| !overlay.contains(line))
                .map(|line| format!("plain   {line}\n"))
                .chain(
                    overlay
                        .iter()
                        .filter(|line| !plain.contains(line))
                        .map(|line| format!("overlay {line}\n")),
                )
                .collect();
            assert_eq!(plain, overlay, "seed {seed}, step {step}:\n{difference}\n{script}");
        }
    }
    assert!(seen > 600, "the histories do something: {seen} entries");
}

/// A layer that no RUN made, as COPY has them: it must be added to a plain tree
/// that earlier steps left.
fn copy_something(line: &mut Line<'_>) {
    let body = b"copied\n".to_vec();
    let whiteout = Entry { kind: Kind::Whiteout, ..directory("w/x") };
    line.add_layer(vec![
        (directory("w"), None),
        (Entry { kind: Kind::Directory { opaque: true }, ..directory("w/d") }, None),
        (file("w/d/copied", &body), Some(body.clone())),
        (Entry { kind: Kind::Hardlink { target: "w/d/copied".into() }, ..file("w/d/linked", &body) }, None),
        (directory("w/f"), None),
        (file("w/f/copied", &body), Some(body)),
        (whiteout, None),
    ]);
}

/// Random things to do to a small tree. All times are set, so that only what
/// was done counts and not when.
struct History {
    random: u64,
    step: u64,
}

const DIRECTORIES: [&str; 5] = ["/w", "/w/d", "/w/d/e", "/w/x", "/w/x/y"];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

const MAKE_DIRECTORIES: &str = "for d in /w/d /w/d/e /w/x /w/x/y; do \
    [ -e $d ] || { $b mkdir $d && $b touch -c -d @$t $d ${d%/*}; }; done";

impl History {
    fn script(&mut self, operations: u32) -> String {
        let mut script = String::from("b=/bin/busybox; exec 2>/dev/null\n");
        for number in 0..operations {
            let operation = if number % 6 == 0 { MAKE_DIRECTORIES.to_owned() } else { self.operation() };
            self.step += 1;
            let time = 1_000_000_000 + self.step;
            let _ = writeln!(script, "t={time}; {operation}");
        }
        script.push_str("true\n");
        script
    }

    fn below(&mut self, most: usize) -> usize {
        // Knuth's MMIX generator; the high bits are the good ones.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % most
    }

    fn path(&mut self) -> String {
        format!("{}/{}", DIRECTORIES[self.below(DIRECTORIES.len())], NAMES[self.below(NAMES.len())])
    }

    fn operation(&mut self) -> String {
        let (p, q) = (self.path(), self.path());
        let d = DIRECTORIES[1 + self.below(DIRECTORIES.len() - 1)];
        let number = self.below(1000);
        // Sets the times of a path and of the directory it is in.
        let set = |path: &str| format!("$b touch -c -h -d @$t {path}; $b touch -c -d @$t ${{p%/*}}");
        match self.below(16) {
            0 | 1 => format!("p={p}; [ ! -h $p ] && echo {number} > $p && {}", set("$p")),
            2 => format!("p={p}; [ -f $p -a ! -h $p ] && echo more >> $p && {}", set("$p")),
            3 => format!("p={p}; [ -e $p ] && $b chmod {} $p", ["600", "755", "4755", "644"][number % 4]),
            4 => format!("p={p}; [ -e $p ] && $b chown -h {}:0 $p", number % 3),
            5 => format!("p={p}; $b mkdir $p && {}", set("$p")),
            6 => format!("p={d}; $b mkdir $p && {}", set("$p")),
            7 => format!("p={p}; $b rm -r $p && $b touch -c -d @$t ${{p%/*}}"),
            8 => format!("p={d}; $b rm -r $p && $b touch -c -d @$t ${{p%/*}}"),
            // Renaming one name of several, or a directory, is a named
            // difference of overlayfs.
            9 | 10 => format!(
                "p={p}; q={q}; [ -f $p -a ! -h $p -a ! -d $q ] && [ $($b stat -c %h $p) = 1 ] && $b mv $p $q && \
                 {{ {}; $b touch -c -d @$t ${{q%/*}}; $b touch -c -h -d @$t $q; }}",
                "$b touch -c -d @$t ${p%/*}"
            ),
            11 => format!("p={p}; [ -d $p ] || $b ln -s {q} $p && {}", set("$p")),
            12 => format!(
                "p={p}; [ -f {q} -a ! -h {q} -a ! -d $p ] && [ $($b stat -c %h {q}) = 1 ] && $b ln {q} $p && {}",
                set("$p")
            ),
            13 => format!("p={p}; [ -f $p -a ! -h $p ] && $b touch -c -d @1000000000 $p"),
            // Written back as it was, or with other bytes of the same length.
            14 => format!(
                "p={p}; [ -f $p -a ! -h $p ] && s=$($b stat -c %Y $p) && c=$($b cat $p) && \
                 echo \"$c\" > $p && $b touch -c -d @$s $p"
            ),
            _ => format!(
                "p={p}; [ -f $p -a ! -h $p ] && s=$($b stat -c %Y $p) && c=$($b tr 0-9 1-90 < $p) && \
                 echo \"$c\" > $p && $b touch -c -d @$s $p"
            ),
        }
    }
}
