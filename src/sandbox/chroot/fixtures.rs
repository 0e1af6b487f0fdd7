//! What every RUN of this rung finds in its tree: /dev, an empty /proc and
//! /sys, the two files of /etc, and its mounts.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};

use super::guard::Guard;
use super::swap::Swaps;
use crate::sandbox::spec::{MountSpec, RunSpec};
use crate::sandbox::target::Want;
use crate::sandbox::{Error, copy};

/// Name, major and minor of the character devices that programs count on.
pub(in crate::sandbox) const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const PROCESSORS: &str = "devices/system/cpu";

/// What of /sys programs ask to adapt themselves: directory, and files in it.
const FACTS: [(&str, &[&str]); 3] = [
    (PROCESSORS, &["kernel_max", "offline", "online", "possible", "present"]),
    ("devices/system/node", &["has_cpu", "has_memory", "online", "possible"]),
    (
        "kernel/mm/transparent_hugepage",
        &["defrag", "enabled", "hpage_pmd_size", "shmem_enabled", "use_zero_page"],
    ),
];

/// Swaps everything in.
pub(super) fn put(root: &Path, spec: &RunSpec) -> Result<Swaps, Error> {
    let mut swaps = Swaps::new(root).map_err(during("prepare", root))?.under(spec.protections);
    let proc = Path::new("/proc");
    swaps
        .cover(proc, Want::Directory, |place| make_directory(place, 0o555))
        .map_err(during("cover", proc))?;
    let sys = Path::new("/sys");
    swaps.cover(sys, Want::Directory, make_sys).map_err(during("make", sys))?;
    let dev = Path::new("/dev");
    swaps.cover(dev, Want::Directory, |place| make_dev(place, &spec.scripts)).map_err(during("make", dev))?;
    put_etc(&mut swaps, spec)?;
    for mount in &spec.mounts {
        let target = mount.target();
        put_mount(&mut swaps, mount).map_err(during("mount", target))?;
    }
    Ok(swaps)
}

fn put_etc(swaps: &mut Swaps, spec: &RunSpec) -> Result<(), Error> {
    for (target, content) in [("/etc/resolv.conf", spec.resolv_conf.as_slice()), ("/etc/hosts", &spec.hosts)]
    {
        let target = Path::new(target);
        swaps
            .cover(target, Want::File, |place| make_file(place, content, 0o644))
            .map_err(during("write", target))?;
    }
    Ok(())
}

fn put_mount(swaps: &mut Swaps, mount: &MountSpec) -> io::Result<()> {
    match mount {
        MountSpec::Bind { source, target, read_only } => {
            swaps.lend(target, source)?;
            if *read_only { swaps.guard_last(|place| Guard::unchanged(target, place)) } else { Ok(()) }
        }
        MountSpec::ScratchBind { source, scratch, target } => {
            let copied = scratch.join("copy");
            copy::copy(source, &copied)?;
            swaps.lend(target, &copied)
        }
        MountSpec::Tmpfs { target, size, mode } => {
            swaps.cover(target, Want::Directory, |place| make_directory(place, *mode))?;
            match size {
                Some(size) => swaps.guard_last(|_| Ok(Guard::Size { target: target.clone(), size: *size })),
                None => Ok(()),
            }
        }
        // Its content stays in memory: the supervisor serves it at this inode.
        MountSpec::File { target, mode, uid, gid, .. } => swaps.cover(target, Want::File, |place| {
            make_file(place, b"", 0o600)?;
            chown(place, Some(*uid), Some(*gid))?;
            fs::set_permissions(place, fs::Permissions::from_mode(mode & 0o7777))
        }),
    }
}

fn make_directory(place: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(mode & 0o7777))
}

fn make_file(place: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
}

/// Copies: nothing of it changes while a RUN runs.
fn make_sys(place: &Path) -> io::Result<()> {
    make_directory(place, 0o755)?;
    for (directory, names) in FACTS {
        let outer = Path::new("/sys").join(directory);
        if !outer.is_dir() {
            continue;
        }
        fs::create_dir_all(place.join(directory))?;
        for name in names {
            // Not every kernel has all of them.
            let Ok(content) = fs::read(outer.join(name)) else { continue };
            make_file(&place.join(directory).join(name), &content, 0o444)?;
        }
    }
    make_processors(&place.join(PROCESSORS))
}

/// Empty directories: some programs count them.
fn make_processors(place: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(Path::new("/sys").join(PROCESSORS)) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
            fs::create_dir(place.join(name))?;
        }
    }
    Ok(())
}

fn make_dev(place: &Path, scripts: &[(String, Vec<u8>)]) -> io::Result<()> {
    make_directory(place, 0o755)?;
    for (name, major, minor) in NODES {
        make_node(&place.join(name), major, minor)?;
    }
    for (name, target) in LINKS {
        symlink(target, place.join(name))?;
    }
    make_directory(&place.join("shm"), 0o1777)?;
    make_directory(&place.join("pts"), 0o755)?;
    make_file(&place.join("pts/ptmx"), b"", 0o666)?;
    write_scripts(place, scripts)
}

/// A real node where one can be made and opened, else a placeholder that the
/// supervisor serves.
fn make_node(place: &Path, major: u32, minor: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    let made = mknodat(CWD, place, FileType::CharacterDevice, mode, makedev(major, minor));
    let opens = made.is_ok() && {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        // Without a terminal /dev/tty is ENXIO, which is an answer of the device.
        matches!(rustix::fs::open(place, flags, Mode::empty()), Ok(_) | Err(rustix::io::Errno::NXIO))
    };
    if opens {
        return fs::set_permissions(place, fs::Permissions::from_mode(0o666));
    }
    if made.is_ok() {
        fs::remove_file(place)?;
    }
    make_file(place, b"", 0o666)
}

fn write_scripts(dev: &Path, scripts: &[(String, Vec<u8>)]) -> io::Result<()> {
    if scripts.is_empty() {
        return Ok(());
    }
    let pipes = dev.join("pipes");
    make_directory(&pipes, 0o755)?;
    for (name, body) in scripts {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        make_file(&pipes.join(name), body, 0o755)?;
    }
    Ok(())
}

fn during(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let (action, path) = (action.to_owned(), path.to_owned());
    move |source| Error::Prepare { action: action.clone(), path: path.clone(), source }
}
