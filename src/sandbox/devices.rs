//! /proc, /sys and /dev of a RUN: what Docker gives, as far as a user
//! namespace can.
//!
//! Device nodes cannot be made there, so the host's are bound one by one onto
//! a small tmpfs. Where the id map is the identity, root inside owns /proc/sys
//! and /sys to the eye of the kernel: so both become read-only, and RUN has no
//! capability to undo that.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::fs::FileType;

use super::message::Failure;
use super::mounts::{self, INERT, link, open_path};
use super::protections::Protection;
use super::supervisor;
use super::sys::{self, Side};
use super::target::{Rooted, Want, file_type};
use super::tasks;

/// What Docker hides: it tells of the host, or is dangerous.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// What sysfs says of a loopback device (Documentation/ABI/testing/sysfs-class-net).
const LOOPBACK: [(&str, &str); 10] = [
    ("addr_len", "6"),
    ("address", "00:00:00:00:00:00"),
    ("broadcast", "00:00:00:00:00:00"),
    ("carrier", "1"),
    ("flags", "0x9"),
    ("ifindex", "1"),
    ("iflink", "1"),
    ("mtu", "65536"),
    ("operstate", "unknown"),
    ("type", "772"),
];

/// Mounts all three, with `scripts` below /dev/pipes.
pub(super) fn mount_all(
    rooted: &mut Rooted,
    scripts: &[(String, Vec<u8>)],
    network_none: bool,
) -> Result<Proc, Failure> {
    let proc = mount_proc(rooted).map_err(|error| Failure::new("mount", "/proc", &error))?;
    if proc == Proc::Mounted {
        tasks::limit_numbers(rooted)
            .map_err(|error| Failure::new("limit the processes by", "/proc", &error))?;
    }
    mount_sys(rooted, network_none).map_err(|error| Failure::new("mount", "/sys", &error))?;
    hide(rooted)?;
    if proc == Proc::Mounted {
        freeze_shared(rooted).map_err(|error| Failure::new("make read-only", "/proc", &error))?;
    }
    let dev = mount_dev(rooted).map_err(|error| Failure::new("mount", "/dev", &error))?;
    write_scripts(&dev, scripts).map_err(|error| Failure::new("write scripts to", "/dev/pipes", &error))?;
    Ok(proc)
}

/// Where the /proc of a RUN comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proc {
    /// The kernel.
    Mounted,
    /// The supervisor; what is mounted is room for its scratch directories.
    Served,
}

/// A new /proc shows this pid namespace only. Where the outer one is partly
/// masked the kernel refuses a new one (EPERM), and the supervisor serves it.
/// Without a supervisor the outer one is bound, in which only `self` is right.
fn mount_proc(rooted: &mut Rooted) -> io::Result<Proc> {
    let target = rooted.place(Path::new("/proc"), Want::Directory)?;
    match mounts::new("proc", &target, INERT, "") {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => return other.map(|()| Proc::Mounted),
    }
    if rooted.protections.keep(Protection::Processes) && is_supervised()? {
        mounts::new("tmpfs", &target, INERT, "mode=555,size=16m")?;
        return Ok(Proc::Served);
    }
    mounts::bind(&open_path(Path::new("/proc"))?, &target)?;
    Ok(Proc::Mounted)
}

/// Tried in a child: a filter never goes away.
fn is_supervised() -> io::Result<bool> {
    match sys::clone_process(0)? {
        Side::Child => sys::exit_now(i32::from(!supervisor::is_possible())),
        Side::Parent(child) => Ok(waitpid(child, None)? == WaitStatus::Exited(child, 0)),
    }
}

/// The outer /sys, read-only, or none: hardly a build looks at it. A new one shows
/// the RUN's own network, where it has one and nothing of the outer one is masked.
fn mount_sys(rooted: &mut Rooted, network_none: bool) -> io::Result<()> {
    let target = rooted.place(Path::new("/sys"), Want::Directory)?;
    if network_none && mounts::new("sysfs", &target, INERT | MsFlags::MS_RDONLY, "").is_ok() {
        return Ok(());
    }
    let Ok(outer) = open_path(Path::new("/sys")) else { return Ok(()) };
    if mounts::bind(&outer, &target).is_err() {
        return Ok(());
    }
    let mounted = rooted.place(Path::new("/sys"), Want::Directory)?;
    if network_none {
        show_loopback_only(rooted)?;
    }
    if rooted.protections.keep(Protection::Masks) && mounts::read_only(&mounted).is_err() {
        umount2(&link(&mounted), MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

/// The devices of the outer network are not the RUN's.
fn show_loopback_only(rooted: &mut Rooted) -> io::Result<()> {
    let path = "/sys/class/net";
    let Some(target) = rooted.find(path)? else { return Ok(()) };
    mounts::new("tmpfs", &target, INERT, "mode=755,size=64k")?;
    let Some(mounted) = rooted.find(path)? else { return Ok(()) };
    let device = link(&mounted).join("lo");
    fs::create_dir(&device)?;
    for (name, value) in LOOPBACK {
        fs::write(device.join(name), format!("{value}\n"))?;
    }
    Ok(())
}

fn hide(rooted: &mut Rooted) -> Result<(), Failure> {
    if !rooted.protections.keep(Protection::Masks) {
        return Ok(());
    }
    for path in MASKED {
        mask(rooted, path).map_err(|error| Failure::new("mask", path, &error))?;
    }
    mask_temperatures(rooted).map_err(|error| Failure::new("mask parts of", "/sys", &error))?;
    for path in READ_ONLY {
        freeze(rooted, path).map_err(|error| Failure::new("make read-only", path, &error))?;
    }
    Ok(())
}

/// Temperatures of each processor, which tell what others compute (Docker 28).
fn mask_temperatures(rooted: &mut Rooted) -> io::Result<()> {
    const ALL: &str = "/sys/devices/system/cpu";
    let Some(all) = rooted.find(ALL)? else { return Ok(()) };
    for entry in fs::read_dir(link(&all))? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("cpu")) else { continue };
        mask(rooted, &format!("{ALL}/{name}/thermal_throttle"))?;
    }
    Ok(())
}

/// What /proc has beside processes is the same in every /proc of the machine, so
/// that its root, which a RUN of it is here, could change modes for everybody.
fn freeze_shared(rooted: &mut Rooted) -> io::Result<()> {
    if !rooted.protections.keep(Protection::Masks) || !tasks::is_machines_root()? {
        return Ok(());
    }
    let Some(proc) = rooted.find("/proc")? else { return Ok(()) };
    for entry in fs::read_dir(link(&proc))? {
        let entry = entry?;
        let path = format!("/proc/{}", entry.file_name().to_string_lossy());
        let is_process = path.ends_with(|letter: char| letter.is_ascii_digit());
        let is_done = MASKED.contains(&path.as_str()) || READ_ONLY.contains(&path.as_str());
        if !is_process && !is_done && !entry.file_type()?.is_symlink() {
            freeze(rooted, &path)?;
        }
    }
    Ok(())
}

fn mask(rooted: &mut Rooted, path: &str) -> io::Result<()> {
    let Some(target) = rooted.find(path)? else { return Ok(()) };
    if file_type(target.as_fd())? == FileType::Directory {
        return mounts::new("tmpfs", &target, INERT | MsFlags::MS_RDONLY, "mode=755,size=4k");
    }
    mounts::bind(&open_path(Path::new("/dev/null"))?, &target)?;
    fix_node(rooted, Path::new(path))
}

/// Where the id map is the identity a RUN owns the host's node, and could change
/// its mode and owner for everybody. On a read-only mount it cannot, and can
/// still read and write the device: the kernel asks a mount only for files.
fn fix_node(rooted: &mut Rooted, path: &Path) -> io::Result<()> {
    if !rooted.protections.keep(Protection::FixedNodes) {
        return Ok(());
    }
    mounts::read_only(&rooted.place(path, Want::File)?)
}

fn freeze(rooted: &mut Rooted, path: &str) -> io::Result<()> {
    let Some(target) = rooted.find(path)? else { return Ok(()) };
    mounts::bind(&target, &target)?;
    match rooted.find(path)? {
        Some(mounted) => mounts::read_only(&mounted),
        None => Ok(()),
    }
}

fn mount_dev(rooted: &mut Rooted) -> io::Result<OwnedFd> {
    let dev = Path::new("/dev");
    let target = rooted.place(dev, Want::Directory)?;
    // The nodes are mounts of their own: this is for what RUN makes here.
    let inert = rooted.protections.keep(Protection::InertNodes);
    let nodev = if inert { MsFlags::MS_NODEV } else { MsFlags::empty() };
    let flags = MsFlags::MS_NOSUID | nodev | MsFlags::MS_STRICTATIME;
    mounts::new("tmpfs", &target, flags, "mode=755,size=65536k")?;
    let mounted = rooted.place(dev, Want::Directory)?;
    let inside = link(&mounted);
    for name in NODES {
        // A build container without, say, /dev/tty has none to give.
        let Ok(node) = open_path(&dev.join(name)) else { continue };
        fs::File::create(inside.join(name))?;
        mounts::bind(&node, &open_path(&inside.join(name))?)?;
        fix_node(rooted, &dev.join(name))?;
    }
    for (name, target) in LINKS {
        // As runc does: not where the kernel has no /proc/kcore.
        if name == "core" && !Path::new("/proc/kcore").exists() {
            continue;
        }
        symlink(target, inside.join(name))?;
    }
    mount_below(&inside, "shm", "tmpfs", INERT, &["mode=1777,size=65536k"])?;
    let pts = ["newinstance,ptmxmode=0666,mode=0620,gid=5", "newinstance,ptmxmode=0666,mode=0620"];
    // Neither is needed by a build that does not ask for a terminal or a queue,
    // and some kernels are built without them.
    let _ = mount_below(&inside, "pts", "devpts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, &pts);
    let _ = mount_below(&inside, "mqueue", "mqueue", INERT, &[""]);
    Ok(mounted)
}

/// Mounts with the first of `options` that the kernel takes.
fn mount_below(dev: &Path, name: &str, kind: &str, flags: MsFlags, options: &[&str]) -> io::Result<()> {
    fs::create_dir(dev.join(name))?;
    let target = open_path(&dev.join(name))?;
    let mut result = Ok(());
    for options in options {
        result = mounts::new(kind, &target, flags, options);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn write_scripts(dev: &OwnedFd, scripts: &[(String, Vec<u8>)]) -> io::Result<()> {
    if scripts.is_empty() {
        return Ok(());
    }
    let pipes = link(dev).join("pipes");
    fs::create_dir(&pipes)?;
    for (name, body) in scripts {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = pipes.join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path)?;
        io::Write::write_all(&mut file, body)?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
