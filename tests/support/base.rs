//! Base images made in code: no network, the same bytes every time.

use std::fs;
use std::io::Write;
use std::sync::OnceLock;

use coracle::image::Digest;
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tar::{Builder, EntryType, Header};

/// An image as a registry holds it.
pub struct Base {
    /// OCI config.
    pub config: Vec<u8>,
    /// OCI manifest.
    pub manifest: Vec<u8>,
    /// gzip layers, bottom first.
    pub layers: Vec<Vec<u8>>,
}

/// Programs that the base has as links to busybox.
const PROGRAMS: [&str; 34] = [
    "sh", "cat", "chmod", "chown", "cp", "dd", "echo", "env", "false", "find", "grep", "head", "id", "ls",
    "ln", "mkdir", "mkfifo", "mknod", "mv", "od", "ps", "pwd", "readlink", "rm", "sed", "seq", "sleep",
    "sort", "stat", "sync", "test", "touch", "true", "wc",
];

/// busybox-static with a merged /usr, a sticky /tmp and a home directory of
/// another owner.
///
/// # Panics
/// When busybox-static is not installed: `make setup` installs it.
pub fn busybox() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| image(&[layer(busybox_entries)], json!({"Env": [PATH], "Cmd": ["sh"]})))
}

/// Its only layer, uncompressed.
pub fn busybox_layer() -> Vec<u8> {
    layer(busybox_entries)
}

/// The same with what an unprivileged tree cannot hold: a device node, a setuid
/// file of another owner and a file capability.
pub fn awkward() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        image(&[layer(busybox_entries), layer(awkward_entries)], json!({"Env": [PATH], "Cmd": ["sh"]}))
    })
}

/// The same with everything below `/t` that a COPY may meet at its target, some
/// of it removed again by a second layer.
pub fn targets() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let layers = [layer(busybox_entries), layer(target_entries), layer(target_changes)];
        image(&layers, json!({"Env": [PATH], "Cmd": ["sh"]}))
    })
}

/// The busybox base with more in its config: an object is merged, anything else replaced.
pub fn derived(changes: &serde_json::Value) -> Base {
    let base = busybox();
    let mut config = serde_json::from_slice(&base.config).unwrap();
    merge(&mut config, changes);
    with_config(&config, base.layers.clone())
}

fn merge(into: &mut serde_json::Value, changes: &serde_json::Value) {
    match (into, changes) {
        (serde_json::Value::Object(into), serde_json::Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `security.capability` as the kernel stores it: version 2, effective,
/// CAP_NET_RAW (bit 13) permitted (linux/capability.h).
pub const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn busybox_entries(tar: &mut LayerTar) {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let program = program.expect("busybox-static is installed (make setup)");
    for (path, mode, uid) in [
        ("", 0o755, 0),
        ("dev", 0o755, 0),
        ("etc", 0o755, 0),
        ("home", 0o755, 0),
        ("home/app", 0o750, 1000),
        ("proc", 0o555, 0),
        ("root", 0o700, 0),
        ("sys", 0o555, 0),
        ("tmp", 0o1777, 0),
        ("usr", 0o755, 0),
        ("usr/bin", 0o755, 0),
        ("usr/lib", 0o755, 0),
        ("var", 0o755, 0),
        ("var/lib", 0o2775, 7),
    ] {
        tar.directory(path, mode, uid);
    }
    for (path, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/bin")] {
        tar.link(EntryType::Symlink, path, target);
    }
    tar.file(
        "etc/passwd",
        0o644,
        0,
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nwww:x:33:33::/:/bin/sh\n",
    );
    tar.file("etc/group", 0o644, 0, b"root:x:0:\napp:x:1000:\nwww:x:33:\nextra:x:44:app\n");
    tar.file("usr/bin/busybox", 0o755, 0, &program);
    for name in PROGRAMS {
        tar.link(EntryType::Link, &format!("usr/bin/{name}"), "usr/bin/busybox");
    }
}

fn awkward_entries(tar: &mut LayerTar) {
    tar.directory("opt", 0o755, 0);
    tar.device("opt/null", 0o666, 1, 3);
    tar.file("opt/setuid", 0o4755, 33, b"setuid\n");
    tar.pax("SCHILY.xattr.security.capability", &NET_RAW);
    tar.file("opt/capable", 0o755, 0, b"capable\n");
    tar.link(EntryType::Fifo, "opt/fifo", "");
}

/// Programs of busybox that the corpus' own base has besides.
const MORE_PROGRAMS: [&str; 10] =
    ["cut", "df", "getopt", "hostname", "nc", "realpath", "tail", "tar", "tr", "truncate"];

fn target_entries(tar: &mut LayerTar) {
    for name in MORE_PROGRAMS {
        tar.link(EntryType::Symlink, &format!("usr/bin/{name}"), "busybox");
    }
    tar.directory("run", 0o755, 0);
    tar.link(EntryType::Symlink, "var/run", "../run");
    for (path, mode, uid) in [
        ("t", 0o755, 0),
        ("t/dir", 0o700, 5),
        ("t/dir/sub", 0o2750, 9),
        ("t/sticky", 0o1777, 0),
        ("t/readonly", 0o555, 0),
        ("t/opaque", 0o755, 0),
        ("t/became-file", 0o755, 0),
        ("t/links", 0o755, 0),
    ] {
        tar.directory(path, mode, uid);
    }
    for (path, mode, uid, content) in [
        ("t/file", 0o600, 3, "target file\n"),
        ("t/dir/f", 0o640, 7, "f\n"),
        ("t/dir/sub/g", 0o644, 0, "g\n"),
        ("t/readonly/f", 0o444, 0, "readonly\n"),
        ("t/opaque/lower", 0o644, 0, "lower\n"),
        ("t/became-directory", 0o644, 0, "file\n"),
        ("t/became-file/x", 0o644, 0, "x\n"),
        ("t/gone", 0o644, 0, "gone\n"),
        ("t/setuid", 0o4755, 0, "setuid\n"),
        ("t/setgid", 0o2755, 50, "setgid\n"),
        ("t/links/1", 0o755, 0, "linked\n"),
    ] {
        tar.file(path, mode, uid, content.as_bytes());
    }
    tar.link(EntryType::Link, "t/links/2", "t/links/1");
    tar.link(EntryType::Link, "t/linked", "t/links/1");
    for (path, target) in [
        ("t/to-dir", "dir"),
        ("t/to-dir-absolute", "/t/dir"),
        ("t/to-file", "file"),
        ("t/dangling", "/t/nowhere"),
        ("t/dangling-deep", "no/where"),
        ("t/up", "../../../etc"),
        ("t/loop", "loop"),
    ] {
        tar.link(EntryType::Symlink, path, target);
    }
    tar.link(EntryType::Fifo, "t/fifo", "");
    tar.pax("SCHILY.xattr.security.capability", &NET_RAW);
    tar.file("t/capable", 0o755, 0, b"capable\n");
}

fn target_changes(tar: &mut LayerTar) {
    for name in ["t/.wh.gone", "t/opaque/.wh..wh..opq", "t/.wh.became-directory"] {
        tar.file(name, 0o644, 0, b"");
    }
    tar.directory("t/opaque", 0o711, 0);
    tar.file("t/opaque/upper", 0o644, 0, b"upper\n");
    tar.directory("t/became-directory", 0o755, 0);
    tar.file("t/became-directory/in", 0o644, 0, b"in\n");
    tar.file("t/became-file", 0o644, 0, b"file now\n");
}

/// A tar in the making; every time is 0.
pub struct LayerTar(Builder<Vec<u8>>);

impl LayerTar {
    fn header(kind: EntryType, mode: u32, uid: u64, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_mtime(0);
        header.set_size(size);
        header
    }

    /// Adds a directory; its group is its owner.
    pub fn directory(&mut self, path: &str, mode: u32, uid: u64) {
        let mut header = Self::header(EntryType::Directory, mode, uid, 0);
        self.0.append_data(&mut header, format!("./{path}"), &[][..]).unwrap();
    }

    /// Adds a file; its group is its owner.
    pub fn file(&mut self, path: &str, mode: u32, uid: u64, content: &[u8]) {
        let mut header = Self::header(EntryType::Regular, mode, uid, content.len() as u64);
        self.0.append_data(&mut header, path, content).unwrap();
    }

    /// Adds a symbolic link, a hard link or a fifo.
    pub fn link(&mut self, kind: EntryType, path: &str, target: &str) {
        let mode = if kind == EntryType::Symlink { 0o777 } else { 0o755 };
        let mut header = Self::header(kind, mode, 0, 0);
        match target {
            "" => self.0.append_data(&mut header, path, &[][..]).unwrap(),
            target => self.0.append_link(&mut header, path, target).unwrap(),
        }
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        let mut header = Self::header(EntryType::Char, mode, 0, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.0.append_data(&mut header, path, &[][..]).unwrap();
    }

    /// A PAX record for the next entry.
    pub fn pax(&mut self, key: &str, value: &[u8]) {
        self.0.append_pax_extensions([(key, value)]).unwrap();
    }
}

/// An uncompressed layer.
pub fn layer(fill: fn(&mut LayerTar)) -> Vec<u8> {
    let mut tar = LayerTar(Builder::new(Vec::new()));
    fill(&mut tar);
    tar.0.into_inner().unwrap()
}

/// An image of `layers` (uncompressed, bottom first) with this `config` object.
pub fn image(layers: &[Vec<u8>], config: serde_json::Value) -> Base {
    let diff_ids: Vec<Digest> = layers.iter().map(Digest::of).collect();
    let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let architecture = coracle::image::Platform::host().architecture;
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| json!({"created_by": "made in code"})).collect::<Vec<_>>(),
    });
    with_config(&config, packed)
}

/// An image of gzip layers.
fn with_config(config: &serde_json::Value, packed: Vec<Vec<u8>>) -> Base {
    let config = serde_json::to_vec(config).unwrap();
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": packed.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer))
            .collect::<Vec<_>>(),
    }))
    .unwrap();
    Base { config, manifest, layers: packed }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// gzip of these bytes.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
