//! The Dockerfiles of the matrix, and the context they are built in.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// What a Dockerfile needs besides a RUN, as `coracle doctor --json` reports it
/// under `in_run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// chroot(2) to a directory below.
    Chroot,
    /// setuid programs and file capabilities for another USER than root.
    Setuid,
}

impl Ability {
    /// Its name in doctor's report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chroot => "chroot",
            Self::Setuid => "setuid",
        }
    }
}

/// One Dockerfile.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Of `dockerfiles/NAME.Dockerfile`.
    pub name: &'static str,
    /// Built only where doctor reports it.
    pub needs: Option<Ability>,
    /// Whether the same bytes come out each time; else owners, modes, links and
    /// attributes are compared.
    pub repeatable: bool,
    /// Whether it has a RUN.
    pub runs: bool,
    /// Stages built besides, where doctor reports what they need.
    pub besides: &'static [(&'static str, Ability)],
}

const CASE: Case = Case { name: "", needs: None, repeatable: true, runs: true, besides: &[] };

/// Every functional check and one of each awkward file.
pub const COMBINED: Case =
    Case { name: "combined", besides: &[("sudo", Ability::Setuid), ("chroot", Ability::Chroot)], ..CASE };

/// All of them.
pub const CASES: [Case; 15] = [
    Case { name: "files-only", runs: false, ..CASE },
    Case { name: "apt", ..CASE },
    Case { name: "users", ..CASE },
    Case { name: "python", ..CASE },
    Case { name: "node", ..CASE },
    Case { name: "tar", ..CASE },
    Case { name: "capabilities", ..CASE },
    Case { name: "hardlinks", ..CASE },
    Case { name: "mknod", ..CASE },
    Case { name: "mounts", ..CASE },
    // initdb: a system identifier, times, random salt.
    Case { name: "postgres", repeatable: false, ..CASE },
    Case { name: "functional", ..CASE },
    Case { name: "sudo", needs: Some(Ability::Setuid), ..CASE },
    Case { name: "chroot", needs: Some(Ability::Chroot), ..CASE },
    COMBINED,
];

const FILES: [(&str, &str); 13] = [
    ("apt/conf", include_str!("apt/conf")),
    ("apt/clean", include_str!("apt/clean")),
    ("functional/checks.py", include_str!("functional/checks.py")),
    ("functional/files.py", include_str!("functional/files.py")),
    ("functional/harness.py", include_str!("functional/harness.py")),
    ("functional/jobs.py", include_str!("functional/jobs.py")),
    ("functional/packages.sh", include_str!("functional/packages.sh")),
    ("functional/processes.py", include_str!("functional/processes.py")),
    ("functional/sharing.py", include_str!("functional/sharing.py")),
    ("functional/shell.sh", include_str!("functional/shell.sh")),
    ("functional/sockets.py", include_str!("functional/sockets.py")),
    ("functional/times.py", include_str!("functional/times.py")),
    ("functional/users.py", include_str!("functional/users.py")),
];

/// Fills `context` for all of them. `base` is the reference of the Debian base.
pub fn write(context: &Path, base: &str, packages: SocketAddr) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandboxes/dockerfiles");
    for case in CASES {
        let name = format!("{}.Dockerfile", case.name);
        let text = fs::read_to_string(directory.join(&name)).unwrap();
        let text = text.replace("FROM BASE", &format!("FROM {base}"));
        fs::write(context.join(name), text).unwrap();
    }
    for name in ["apt", "functional"] {
        fs::create_dir(context.join(name)).unwrap();
    }
    let whiteouts = include_str!("functional/whiteouts.sh");
    for (name, text) in FILES.into_iter().chain([("functional/whiteouts.sh", whiteouts)]) {
        fs::write(context.join(name), text).unwrap();
    }
    fs::write(context.join("apt/list"), format!("deb [trusted=yes] http://{packages}/ ./\n")).unwrap();
    fs::write(context.join("key"), "a key").unwrap();
    fs::write(context.join("owners.tar"), owners()).unwrap();
}

/// An archive of foreign owners, odd modes and links.
fn owners() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let mut put = |path: &str, kind: EntryType, mode: u32, ids: (u64, u64), target: &str, content: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(ids.0);
        header.set_gid(ids.1);
        header.set_mtime(1_000_000);
        header.set_size(u64::try_from(content.len()).unwrap());
        match target.is_empty() {
            true => tar.append_data(&mut header, path, content).unwrap(),
            false => tar.append_link(&mut header, path, target).unwrap(),
        }
    };
    use EntryType as T;
    put("home/", T::Directory, 0o755, (0, 0), "", b"");
    put("home/app/", T::Directory, 0o2750, (1234, 5678), "", b"");
    put("home/app/file", T::Regular, 0o640, (1234, 5678), "", b"of an app\n");
    put("home/app/hard", T::Link, 0o640, (1234, 5678), "home/app/file", b"");
    put("home/app/soft", T::Symlink, 0o777, (9, 10), "../nowhere", b"");
    put("home/app/suid", T::Regular, 0o6755, (33, 44), "", b"#!/bin/sh\n");
    put("home/app/fifo", T::Fifo, 0o600, (65_534, 65_534), "", b"");
    put("home/app/shut", T::Regular, 0, (60_000, 60_000), "", b"nobody reads this\n");
    put("sticky/", T::Directory, 0o3777, (42, 42), "", b"");
    tar.into_inner().unwrap()
}
