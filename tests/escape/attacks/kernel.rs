//! Doors of the kernel that a build has no use for.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Done, got_in, show};
use crate::raw;
use crate::world::{self, Target};

const NEW_USER: usize = libc::CLONE_NEWUSER as usize;

fn opens(number: libc::c_long, arguments: &[usize]) -> Done {
    raw::call(number, arguments)?;
    got_in()
}

pub fn unshare_users(_: &Target) -> Done {
    opens(libc::SYS_unshare, &[NEW_USER])
}

pub fn clone_users(_: &Target) -> Done {
    if raw::call(libc::SYS_clone, &[NEW_USER | libc::SIGCHLD as usize])? == 0 {
        std::process::exit(0);
    }
    got_in()
}

/// Its flags lie in memory, where no filter can look.
pub fn clone3_users(_: &Target) -> Done {
    let mut arguments = [0_u64; 11];
    (arguments[0], arguments[4]) = (NEW_USER as u64, libc::SIGCHLD as u64);
    if raw::call(libc::SYS_clone3, &[raw::at(&arguments), size_of_val(&arguments)])? == 0 {
        std::process::exit(0);
    }
    got_in()
}

#[cfg(target_arch = "x86_64")]
pub fn unshare_users_32(_: &Target) -> Done {
    const UNSHARE: u32 = 310;
    raw::call_32(UNSHARE, [libc::CLONE_NEWUSER.cast_unsigned(), 0, 0])?;
    got_in()
}

const SESSION: isize = -3;

fn read_key(id: usize) -> Done {
    const READ: usize = 11;
    let mut bytes = vec![0_u8; 256];
    let count = raw::call(libc::SYS_keyctl, &[READ, id, bytes.as_mut_ptr() as usize, bytes.len()])?;
    show(&bytes[..count.min(256)])
}

pub fn search_keys(_: &Target) -> Done {
    const SEARCH: usize = 10;
    let [kind, name] = [c"user".to_bytes_with_nul(), c"coracle-escape".to_bytes_with_nul()];
    let arguments = [SEARCH, SESSION as usize, raw::at(kind), raw::at(name), 0];
    read_key(raw::call(libc::SYS_keyctl, &arguments)?)
}

pub fn request_key(_: &Target) -> Done {
    let [kind, name] = [c"user".to_bytes_with_nul(), c"coracle-escape".to_bytes_with_nul()];
    raw::call(libc::SYS_request_key, &[raw::at(kind), raw::at(name), 0, 0])?;
    got_in()
}

#[cfg(target_arch = "x86_64")]
pub fn request_key_32(_: &Target) -> Done {
    const REQUEST_KEY: u32 = 287;
    raw::call_32(REQUEST_KEY, [raw::low_text("user")?, raw::low_text("coracle-escape")?, 0])?;
    got_in()
}

/// For those who come later.
pub fn leave_a_key(_: &Target) -> Done {
    let [kind, name] = [c"user".to_bytes_with_nul(), c"coracle-left".to_bytes_with_nul()];
    let value = b"left";
    let arguments = [raw::at(kind), raw::at(name), raw::at(value), value.len(), SESSION as usize];
    opens(libc::SYS_add_key, &arguments)
}

/// Where everything lies is no chance any more, for setuid programs neither.
const NO_RANDOMISATION: u32 = 0x004_0000;

pub fn change_personality(_: &Target) -> Done {
    opens(libc::SYS_personality, &[NO_RANDOMISATION as usize])
}

/// With bits above those that the kernel reads.
pub fn change_personality_high(_: &Target) -> Done {
    opens(libc::SYS_personality, &[NO_RANDOMISATION as usize | 1 << 40])
}

#[cfg(target_arch = "x86_64")]
pub fn change_personality_32(_: &Target) -> Done {
    const PERSONALITY: u32 = 136;
    // What every byte that can be read can be executed with.
    const READ_IMPLIES_EXEC: u32 = 0x040_0000;
    raw::call_32(PERSONALITY, [READ_IMPLIES_EXEC])?;
    got_in()
}

/// FAN_REPORT_FID, which needs no right since Linux 5.13.
const WITH_HANDLES: usize = 0x200;

pub fn watch_everything(_: &Target) -> Done {
    opens(libc::SYS_fanotify_init, &[WITH_HANDLES, 0])
}

#[cfg(target_arch = "x86_64")]
pub fn watch_everything_32(_: &Target) -> Done {
    const FANOTIFY_INIT: u32 = 338;
    raw::call_32(FANOTIFY_INIT, [WITH_HANDLES as u32, 0])?;
    got_in()
}

/// The ports of the machine.
#[cfg(target_arch = "x86_64")]
pub fn ports(_: &Target) -> Done {
    opens(libc::SYS_iopl, &[3])
}

pub fn io_uring(_: &Target) -> Done {
    let parameters = [0_u8; 120];
    opens(libc::SYS_io_uring_setup, &[4, raw::at(&parameters)])
}

#[cfg(target_arch = "x86_64")]
pub fn io_uring_32(_: &Target) -> Done {
    const SETUP: u32 = 425;
    let parameters = raw::low_text("")?;
    raw::call_32(SETUP, [4, parameters, 0])?;
    got_in()
}

pub fn bpf(_: &Target) -> Done {
    // BPF_MAP_CREATE of an array: type 2, key 4, value 4, one entry.
    let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    opens(libc::SYS_bpf, &[0, raw::at(&attributes), size_of_val(&attributes)])
}

pub fn performance_events(_: &Target) -> Done {
    // PERF_TYPE_SOFTWARE, cpu clock, of this process, user side alone.
    let mut attributes = [0_u8; 112];
    attributes[..4].copy_from_slice(&1_u32.to_ne_bytes());
    attributes[4..8].copy_from_slice(&112_u32.to_ne_bytes());
    // exclude_kernel and exclude_hv.
    attributes[40] = 0b110_0000;
    opens(libc::SYS_perf_event_open, &[raw::at(&attributes), 0, usize::MAX, usize::MAX, 0])
}

pub fn user_faults(_: &Target) -> Done {
    const USER_MODE_ONLY: usize = 1;
    opens(libc::SYS_userfaultfd, &[USER_MODE_ONLY])
}

pub fn kernel_log(_: &Target) -> Done {
    const SIZE: usize = 10;
    opens(libc::SYS_syslog, &[SIZE, 0, 0])
}

#[cfg(target_arch = "x86_64")]
pub fn kernel_log_32(_: &Target) -> Done {
    const SYSLOG: u32 = 103;
    raw::call_32(SYSLOG, [10, 0, 0])?;
    got_in()
}

pub fn hypervisor_socket(_: &Target) -> Done {
    opens(libc::SYS_socket, &[libc::AF_VSOCK as usize, libc::SOCK_STREAM as usize, 0])
}

/// With bits above those that the kernel reads.
pub fn hypervisor_socket_high(_: &Target) -> Done {
    let family = libc::AF_VSOCK as usize | 1 << 40;
    opens(libc::SYS_socket, &[family, libc::SOCK_STREAM as usize, 0])
}

pub fn packets(_: &Target) -> Done {
    opens(libc::SYS_socket, &[libc::AF_PACKET as usize, libc::SOCK_RAW as usize, 0])
}

pub fn raw_socket(_: &Target) -> Done {
    let arguments = [libc::AF_INET as usize, libc::SOCK_RAW as usize, libc::IPPROTO_TCP as usize];
    opens(libc::SYS_socket, &arguments)
}

/// Made for a RUN that has no network.
pub fn loopback(target: &Target) -> Done {
    show(&world::hear(TcpStream::connect((Ipv4Addr::LOCALHOST, target.port))?)?)
}

/// A terminal of our own stands for one that the builder shares.
fn terminal() -> io::Result<std::fs::File> {
    nix::unistd::setsid().or_else(|error| {
        if error == nix::errno::Errno::EPERM { Ok(nix::unistd::Pid::this()) } else { Err(error) }
    })?;
    let master = std::fs::File::options().read(true).write(true).open("/dev/ptmx")?;
    let unlocked = 0_i32;
    const UNLOCK: usize = 0x4004_5431;
    const NUMBER: usize = 0x8004_5430;
    let fd = master.as_raw_fd() as usize;
    raw::call(libc::SYS_ioctl, &[fd, UNLOCK, raw::at(&unlocked)])?;
    let mut number = 0_u32;
    raw::call(libc::SYS_ioctl, &[fd, NUMBER, &raw mut number as usize])?;
    let slave = std::fs::File::options().read(true).write(true).open(format!("/dev/pts/{number}"))?;
    // It becomes the controlling one by being opened.
    std::mem::forget(master);
    Ok(slave)
}

fn type_into(request: usize) -> Done {
    let slave = terminal()?;
    let letter = b'x';
    opens(libc::SYS_ioctl, &[slave.as_raw_fd() as usize, request, raw::at(&letter)])
}

const TIOCSTI: usize = 0x5412;
const TIOCLINUX: usize = 0x541c;

pub fn type_into_a_terminal(_: &Target) -> Done {
    type_into(TIOCSTI)
}

/// The selection of a console.
pub fn paste_into_a_terminal(_: &Target) -> Done {
    type_into(TIOCLINUX)
}

/// With bits above those that the kernel reads.
pub fn type_into_a_terminal_high(_: &Target) -> Done {
    type_into(TIOCSTI | 1 << 32)
}

#[cfg(target_arch = "x86_64")]
pub fn type_into_a_terminal_32(_: &Target) -> Done {
    const IOCTL: u32 = 54;
    let slave = terminal()?;
    let letter = raw::low_text("x")?;
    raw::call_32(IOCTL, [slave.as_raw_fd().cast_unsigned(), TIOCSTI as u32, letter])?;
    got_in()
}

pub fn mount_something(_: &Target) -> Done {
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    // Without a mount namespace it would stay.
    let _ = umount2("/tmp", MntFlags::MNT_DETACH);
    got_in()
}

pub fn bind_something(_: &Target) -> Done {
    mount(Some("/home"), "/tmp", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let _ = umount2("/tmp", MntFlags::MNT_DETACH);
    got_in()
}

/// A mount that is made without mount(2), and then put somewhere.
pub fn mount_by_descriptors(_: &Target) -> Done {
    const CREATE: usize = 6;
    const EMPTY_FROM: usize = 4;
    let here = libc::AT_FDCWD as isize as usize;
    let [kind, nothing, place] = [c"tmpfs", c"", c"/tmp"].map(|text| raw::at(text.to_bytes_with_nul()));
    let context = raw::call(libc::SYS_fsopen, &[kind, 0])?;
    raw::call(libc::SYS_fsconfig, &[context, CREATE, 0, 0, 0])?;
    let mounted = raw::call(libc::SYS_fsmount, &[context, 0, 0])?;
    raw::call(libc::SYS_move_mount, &[mounted, nothing, here, place, EMPTY_FROM])?;
    let _ = umount2("/tmp", MntFlags::MNT_DETACH);
    got_in()
}

/// As root of a namespace of its own.
pub fn mount_as_another_root(_: &Target) -> Done {
    raw::call(libc::SYS_unshare, &[NEW_USER | libc::CLONE_NEWNS as usize])?;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    got_in()
}

/// All namespaces but that of users.
pub fn clone_the_rest(_: &Target) -> Done {
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    if raw::call(libc::SYS_clone, &[(flags | libc::SIGCHLD) as usize])? == 0 {
        std::process::exit(0);
    }
    got_in()
}

/// What hides the host's settings, taken away.
pub fn unmount_a_mask(target: &Target) -> Done {
    umount2("/proc/sys", MntFlags::MNT_DETACH)?;
    let _ = super::files::setting(target);
    got_in()
}

pub fn remount_writable(_: &Target) -> Done {
    mount(None::<&str>, "/sys", None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REMOUNT, None::<&str>)?;
    got_in()
}

pub fn open_a_tree(_: &Target) -> Done {
    const CLONE: usize = 1;
    let here = libc::AT_FDCWD as isize as usize;
    opens(libc::SYS_open_tree, &[here, raw::at(c"/".to_bytes_with_nul()), CLONE])
}

pub fn open_a_file_system(_: &Target) -> Done {
    opens(libc::SYS_fsopen, &[raw::at(c"tmpfs".to_bytes_with_nul()), 0])
}

pub fn change_attributes(_: &Target) -> Done {
    // Nothing set, nothing cleared, but private: attr_set, attr_clr, propagation.
    let attributes = [0_u64, 0, 1 << 18, 0];
    let here = libc::AT_FDCWD as isize as usize;
    let path = raw::at(c"/proc".to_bytes_with_nul());
    opens(libc::SYS_mount_setattr, &[here, path, 0, raw::at(&attributes), 32])
}

pub fn new_mount_namespace(_: &Target) -> Done {
    opens(libc::SYS_unshare, &[libc::CLONE_NEWNS as usize])
}

/// A filter of its own, with a listener that answers everything.
pub fn own_listener(target: &Target) -> Done {
    const SET_FILTER: usize = 1;
    const NEW_LISTENER: usize = 1 << 3;
    // Everything is notified: code, jt and jf, k.
    let filter = [(0x06_u16, 0_u8, 0_u8, libc::SECCOMP_RET_ALLOW)];
    let instruction: Vec<u8> = filter
        .iter()
        .flat_map(|(code, jt, jf, k)| [&code.to_ne_bytes()[..], &[*jt, *jf], &k.to_ne_bytes()].concat())
        .collect();
    let program = [1_usize, raw::at(instruction.as_slice())];
    let installed = raw::call(libc::SYS_seccomp, &[SET_FILTER, NEW_LISTENER, raw::at(&program)]);
    io::stdout().write_all(format!("{installed:?}\n").as_bytes())?;
    super::files::environment_of_builder(target)
}

/// Paths without an end, and of no memory.
pub fn endless_paths(target: &Target) -> Done {
    let long = vec![b'/'; 1 << 20];
    let here = libc::AT_FDCWD as isize as usize;
    for place in [raw::at(long.as_slice()), 1, usize::MAX - 8, usize::MAX / 2] {
        for _ in 0..200 {
            let _ = raw::call(libc::SYS_openat, &[here, place, 0, 0]);
        }
    }
    let deep = format!("/proc/self/{}", "cwd/".repeat(800));
    let _ = std::fs::read(&deep);
    let own = std::fs::read_to_string("/proc/self/status")?;
    if !own.starts_with("Name:") {
        return got_in();
    }
    super::files::environment_of_builder(target)
}
