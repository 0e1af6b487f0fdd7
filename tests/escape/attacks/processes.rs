//! Other processes: their memory, their lives, their limits; and staying.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use super::{Done, got_in, show};
use crate::raw;
use crate::world::{HARMLESS, Target};

pub fn read_memory(target: &Target) -> Done {
    let mut bytes = vec![0; target.length];
    let remote = [RemoteIoVec { base: target.address, len: target.length }];
    process_vm_readv(Pid::from_raw(target.builder), &mut [IoSliceMut::new(&mut bytes)], &remote)?;
    show(&bytes)
}

pub fn write_memory(target: &Target) -> Done {
    let remote = [RemoteIoVec { base: target.address, len: 1 }];
    process_vm_writev(Pid::from_raw(target.builder), &[IoSlice::new(b"S")], &remote)?;
    Ok(())
}

pub fn trace(target: &Target) -> Done {
    const SEIZE: usize = 0x4206;
    raw::call(libc::SYS_ptrace, &[SEIZE, target.victim as usize, 0, 0])?;
    got_in()
}

pub fn end_by_kill(target: &Target) -> Done {
    Ok(kill(Pid::from_raw(target.victim), Signal::SIGKILL)?)
}

/// A storm of every signal, at everybody around who has a number.
pub fn storm_of_signals(target: &Target) -> Done {
    for _ in 0..200 {
        for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGCONT] {
            let _ = kill(Pid::from_raw(target.victim), signal);
        }
    }
    Ok(())
}

/// Everybody who may be signalled, at once.
pub fn signal_everybody(_: &Target) -> Done {
    Ok(kill(Pid::from_raw(-1), HARMLESS)?)
}

/// The builder's whole group; and from inside of it, which a session forbids.
pub fn signal_the_group(target: &Target) -> Done {
    let group = Pid::from_raw(target.group);
    if nix::unistd::setpgid(Pid::from_raw(0), group).is_ok() {
        kill(Pid::from_raw(0), HARMLESS)?;
    }
    Ok(kill(Pid::from_raw(-target.group), HARMLESS)?)
}

/// Whether two processes share their memory, which only says something to who
/// may trace both.
pub fn compare_with_the_builder(target: &Target) -> Done {
    const MEMORY: usize = 1;
    let own = std::process::id() as usize;
    raw::call(libc::SYS_kcmp, &[own, target.builder as usize, MEMORY, 0, 0])?;
    got_in()
}

/// Behind all others: SCHED_BATCH.
pub fn reschedule_others(target: &Target) -> Done {
    const BATCH: usize = 3;
    let priority = 0_i32;
    raw::call(libc::SYS_sched_setscheduler, &[target.victim as usize, BATCH, raw::at(&priority)]).map(drop)
}

fn pidfd(process: i32) -> io::Result<usize> {
    raw::call(libc::SYS_pidfd_open, &[process as usize, 0])
}

pub fn end_by_pidfd(target: &Target) -> Done {
    let fd = pidfd(target.victim)?;
    raw::call(libc::SYS_pidfd_send_signal, &[fd, libc::SIGKILL as usize, 0, 0]).map(drop)
}

pub fn take_a_descriptor(target: &Target) -> Done {
    let fd = pidfd(target.builder)?;
    let taken = raw::call(libc::SYS_pidfd_getfd, &[fd, target.descriptor as usize, 0])?;
    let name = c"secret".to_bytes_with_nul();
    let opened = raw::call(libc::SYS_openat, &[taken, raw::at(name), libc::O_RDONLY as usize])?;
    let mut bytes = vec![0_u8; 256];
    let count = raw::call(libc::SYS_read, &[opened, bytes.as_mut_ptr() as usize, bytes.len()])?;
    show(&bytes[..count])
}

/// The kernel signals the owner of a pipe when somebody writes to it.
pub fn end_as_owner(target: &Target) -> Done {
    const SET_SIGNAL: usize = 10;
    let (reader, writer) = io::pipe()?;
    let fd = reader.as_raw_fd() as usize;
    raw::call(libc::SYS_fcntl, &[fd, libc::F_SETOWN as usize, target.victim as usize])?;
    raw::call(libc::SYS_fcntl, &[fd, SET_SIGNAL, libc::SIGKILL as usize])?;
    raw::call(libc::SYS_fcntl, &[fd, libc::F_SETFL as usize, libc::O_ASYNC as usize])?;
    io::Write::write_all(&mut &writer, b"now")?;
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// Whoever has the same user may set limits: that of processor time kills.
pub fn limit_others(target: &Target) -> Done {
    let limit = libc::rlimit64 { rlim_cur: 77, rlim_max: 77 };
    let arguments = [target.victim as usize, libc::RLIMIT_NOFILE as usize, raw::at(&limit), 0];
    raw::call(libc::SYS_prlimit64, &arguments).map(drop)
}

pub fn slow_others_down(target: &Target) -> Done {
    raw::call(libc::SYS_setpriority, &[libc::PRIO_PROCESS as usize, target.victim as usize, 7]).map(drop)
}

/// As 32-bit programs say it.
#[cfg(target_arch = "x86_64")]
pub fn limit_others_32(target: &Target) -> Done {
    const PRLIMIT64: u32 = 340;
    // Two numbers of 64 bits, each 77.
    let limit = raw::low_text("M\0\0\0\0\0\0\0M\0\0\0\0\0\0\0")?;
    let resource = libc::RLIMIT_NOFILE;
    raw::call_32(PRLIMIT64, [target.victim.cast_unsigned(), resource, limit]).map(drop)
}

/// The process that watches over this RUN: once it is gone nobody ends us.
pub fn end_the_stub(_: &Target) -> Done {
    let parent = nix::unistd::getppid();
    if raw::fork()? {
        stay();
    }
    let ended = kill(parent, Signal::SIGKILL);
    std::thread::sleep(Duration::from_millis(100));
    Ok(ended?)
}

fn stay() -> ! {
    let _ = nix::unistd::setsid();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE] {
        // 1 is SIG_IGN; rt_sigaction(2) wants a structure of four words.
        let action = [1_usize, 0, 0, 0];
        let _ = raw::call(libc::SYS_rt_sigaction, &[signal as usize, raw::at(&action), 0, 8]);
    }
    std::thread::sleep(Duration::from_secs(60));
    std::process::exit(0)
}

/// Twice forked, in a session of its own, deaf to signals.
pub fn outlive(_: &Target) -> Done {
    if raw::fork()? {
        let _ = nix::unistd::setsid();
        if !raw::fork().unwrap_or(false) {
            std::process::exit(0);
        }
        stay();
    }
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// Where those who outrun say that they live.
pub const ALIVE: &str = "/tmp/alive";

/// A new process every moment, each in a session of its own; none stays long
/// enough to be met in a list.
pub fn outrun(_: &Target) -> Done {
    // Opened now: without a supervisor nothing can be opened later.
    let alive = File::create(ALIVE)?;
    for _ in 0..4 {
        if raw::fork()? {
            // Three seconds at most, should nobody end it.
            let started = std::time::Instant::now();
            let mut hops = 0_u32;
            while started.elapsed() < Duration::from_secs(3) {
                if hops.is_multiple_of(8) {
                    let _ = alive.write_at(format!("{:?}", started.elapsed()).as_bytes(), 0);
                }
                hops += 1;
                match raw::fork() {
                    Ok(true) => drop(nix::unistd::setsid()),
                    Ok(false) => std::process::exit(0),
                    Err(_) => {}
                }
            }
            std::process::exit(0);
        }
    }
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// More processes than any build has. Those of a bomb that nobody ends wait only
/// a moment, so that the machine stays usable.
pub fn fork_bomb(_: &Target) -> Done {
    const MANY: usize = 4096 + 600;
    for count in 0..MANY {
        if raw::fork()? {
            std::thread::sleep(Duration::from_secs(20));
            std::process::exit(0);
        }
        if count % 256 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // Nobody looks all the time.
    std::thread::sleep(Duration::from_secs(3));
    got_in()
}

/// Threads, whom nobody counts: more than the kernel gives to one RUN.
pub fn thread_bomb(_: &Target) -> Done {
    for _ in 0..8_600 {
        std::thread::Builder::new()
            .stack_size(16 << 10)
            .spawn(|| std::thread::sleep(Duration::from_secs(20)))?;
    }
    got_in()
}

pub fn shared_memory(target: &Target) -> Done {
    attach(target, raw::call(libc::SYS_shmget, &[target.memory_key as usize, 0, 0])?)
}

/// Whoever has no key goes through all there are.
pub fn shared_memory_by_number(target: &Target) -> Done {
    const SHM_STAT: usize = 13;
    let mut status = [0_u64; 64];
    for index in 0..1000 {
        let found = raw::call(libc::SYS_shmctl, &[index, SHM_STAT, status.as_mut_ptr().addr()]);
        // The kernel's numbers of the first objects are small, too. Others have some.
        let _ = attach(target, found.unwrap_or(index));
    }
    Ok(())
}

fn attach(target: &Target, id: usize) -> Done {
    let place = raw::call(libc::SYS_shmat, &[id, 0, libc::SHM_RDONLY as usize])?;
    let mut bytes = vec![0; target.length];
    let remote = [RemoteIoVec { base: place, len: target.length }];
    process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut bytes)], &remote)?;
    show(&bytes)
}

/// Root through a file that belongs to it (the mode was set before).
pub fn become_root_by_file(_: &Target) -> Done {
    if nix::unistd::geteuid().is_root() {
        return got_in();
    }
    if std::env::args().next().is_some_and(|name| name.ends_with("setuid")) {
        return Ok(());
    }
    use std::os::unix::process::CommandExt;
    Err(std::process::Command::new("/bin/setuid").args(std::env::args_os().skip(1)).exec())
}

/// Rights from a file that has them.
pub fn gain_a_capability(_: &Target) -> Done {
    // Version 3: header, and effective, permitted, inheritable twice.
    let (header, mut sets) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    raw::call(libc::SYS_capget, &[raw::at(&header), &raw mut sets as usize])?;
    if sets[0] != 0 {
        return got_in();
    }
    if std::env::args().next().is_some_and(|name| name.ends_with("capable")) {
        return Ok(());
    }
    use std::os::unix::process::CommandExt;
    Err(std::process::Command::new("/bin/capable").args(std::env::args_os().skip(1)).exec())
}

/// The namespaces of the builder.
pub fn enter_the_builder(target: &Target) -> Done {
    let space = File::open(format!("/proc/{}/ns/mnt", target.builder))?;
    raw::call(libc::SYS_setns, &[space.as_raw_fd() as usize, libc::CLONE_NEWNS as usize])?;
    show(&fs::read(&target.secret)?)
}

pub fn enter_the_builder_by_pidfd(target: &Target) -> Done {
    let fd = pidfd(target.builder)?;
    raw::call(libc::SYS_setns, &[fd, libc::CLONE_NEWNS as usize])?;
    show(&fs::read(&target.secret)?)
}
