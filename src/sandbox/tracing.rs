//! Having a process make one call of its own accord: prctl(PR_SET_DUMPABLE).
//!
//! A process that changes its ids can be read by nobody without CAP_SYS_PTRACE
//! until it executes a program, and neither can what it forks (commit_creds() in
//! the kernel's cred.c, fs.suid_dumpable is 0). Whoever may trace it before that
//! change may set its registers after it: it goes back to the instruction of its
//! call, makes the other call there, and goes on as if nothing had been
//! (ptrace(2)). Its memory is not touched.

#![expect(unsafe_code, reason = "ptrace(2) has no safe wrapper in any crate we use")]

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// linux/ptrace.h; libc has them in types that differ between C libraries.
const DETACH: u32 = 17;
const SYSCALL: u32 = 24;
const GETREGSET: u32 = 0x4204;
const SETREGSET: u32 = 0x4205;
const SEIZE: u32 = 0x4206;
const INTERRUPT: u32 = 0x4207;
const GETSIGMASK: u32 = 0x420a;
const SETSIGMASK: u32 = 0x420b;
const GET_SYSCALL_INFO: u32 = 0x420e;
const NT_PRSTATUS: usize = 1;

/// `ptrace_syscall_info`: its first byte, and its size.
const ENTERS: u8 = 1;
const LEAVES: u8 = 2;
const SYSCALL_INFO: usize = 88;

/// A thread that this one traces and that is about to stop.
pub(super) struct Traced(i32);

type Registers = libc::user_regs_struct;

impl Traced {
    /// `thread` stops as soon as its present call is over, which must not be
    /// one that a stop interrupts.
    ///
    /// # Errors
    /// `EPERM` when this thread may not, or somebody else traces it.
    pub(super) fn seize(thread: i32) -> io::Result<Self> {
        const SAY_CALLS: usize = 1;
        request(SEIZE, thread, 0, SAY_CALLS)?;
        let traced = Self(thread);
        request(INTERRUPT, thread, 0, 0)?;
        Ok(traced)
    }

    /// After its call was answered: if that succeeded the process becomes
    /// readable again. In any case it is let go.
    pub(super) fn make_dumpable(self) {
        // Whatever fails here fails because the process is gone.
        let _ = self.stopped().and_then(|registers| {
            let _ = if succeeded(&registers) { self.insert_call(&registers) } else { Ok(()) };
            self.resume(DETACH)
        });
        self.bury();
    }

    /// As it is, whatever it is doing.
    pub(super) fn let_go(self) {
        let _ = self.stopped().and_then(|_| self.resume(DETACH));
        self.bury();
    }

    fn insert_call(&self, registers: &Registers) -> io::Result<()> {
        let mut before = 0_u64;
        let all = u64::MAX;
        request(GETSIGMASK, self.0, size_of::<u64>(), (&raw mut before).addr())?;
        request(SETSIGMASK, self.0, size_of::<u64>(), (&raw const all).addr())?;
        self.set_registers(&at_the_call(registers))?;
        let called = self.reach(ENTERS).and_then(|()| self.reach(LEAVES));
        self.set_registers(registers)?;
        request(SETSIGMASK, self.0, size_of::<u64>(), (&raw const before).addr())?;
        called
    }

    /// Runs until it enters a call or leaves it. Only SIGSTOP can come in between,
    /// and is lost.
    fn reach(&self, wanted: u8) -> io::Result<()> {
        loop {
            self.resume(SYSCALL)?;
            let mut info = [0_u8; SYSCALL_INFO];
            self.wait(|| request(GET_SYSCALL_INFO, self.0, SYSCALL_INFO, info.as_mut_ptr().addr()))?;
            if info[0] == wanted {
                return Ok(());
            }
        }
    }

    fn stopped(&self) -> io::Result<Registers> {
        let mut registers = MaybeUninit::<Registers>::zeroed();
        let mut vector =
            libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of::<Registers>() };
        self.wait(|| request(GETREGSET, self.0, NT_PRSTATUS, (&raw mut vector).addr()))?;
        // SAFETY: integers only, all zero or written by the kernel.
        Ok(unsafe { registers.assume_init() })
    }

    fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        let mut registers = *registers;
        let vector = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
        request(SETREGSET, self.0, NT_PRSTATUS, (&raw const vector).addr())
    }

    fn resume(&self, how: u32) -> io::Result<()> {
        request(how, self.0, 0, 0)
    }

    /// Asks until it has stopped. Not waitpid(2): the stub waits for all of its
    /// children, and of those that it traces itself takes every stop away.
    fn wait(&self, mut ask: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut pause = Duration::from_micros(10);
        loop {
            match ask() {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) && self.is_alive() => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    fn is_alive(&self) -> bool {
        !matches!(self.stat().as_deref(), None | Some([b'Z' | b'X', ..]))
    }

    /// proc_pid_stat(5) from the state on.
    fn stat(&self) -> Option<Vec<u8>> {
        let stat = fs::read(format!("/proc/{}/stat", self.0)).ok()?;
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        Some(stat.get(end + 2..)?.to_vec())
    }

    /// Who died while it was traced is its parent's only when its tracer has
    /// heard of it. A child of the stub is the stub's to wait for.
    fn bury(&self) {
        let Some(stat) = self.stat() else { return };
        let parent = std::str::from_utf8(&stat).ok().and_then(|stat| stat.split_whitespace().nth(1));
        if stat.first() == Some(&b'Z') && parent != Some(std::process::id().to_string().as_str()) {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let _ = waitpid(Pid::from_raw(self.0), Some(flags));
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn succeeded(registers: &Registers) -> bool {
    registers.rax == 0
}

/// Two bytes back lies the instruction `syscall`.
#[cfg(target_arch = "x86_64")]
fn at_the_call(registers: &Registers) -> Registers {
    Registers {
        rip: registers.rip - 2,
        rax: libc::SYS_prctl.cast_unsigned(),
        // Not to be taken for the return of a call that starts again.
        orig_rax: u64::MAX,
        rdi: u64::from(libc::PR_SET_DUMPABLE.cast_unsigned()),
        rsi: 1,
        rdx: 0,
        r10: 0,
        r8: 0,
        ..*registers
    }
}

#[cfg(target_arch = "aarch64")]
fn succeeded(registers: &Registers) -> bool {
    registers.regs[0] == 0
}

/// Four bytes back lies the instruction `svc`.
#[cfg(target_arch = "aarch64")]
fn at_the_call(registers: &Registers) -> Registers {
    let mut changed = *registers;
    changed.pc -= 4;
    changed.regs[8] = libc::SYS_prctl.cast_unsigned();
    changed.regs[..5].copy_from_slice(&[u64::from(libc::PR_SET_DUMPABLE.cast_unsigned()), 1, 0, 0, 0]);
    changed
}

fn request(what: u32, thread: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: every address that is passed on is of a value that lives through
    // the call and is as large as the request says.
    let result = unsafe {
        libc::syscall(libc::SYS_ptrace, libc::c_ulong::from(what), i64::from(thread), address, data)
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// Whoever is traced for a moment, not after a change of ids, goes on as it was.
    #[test]
    fn leaves_a_process_as_it_was() {
        let mut child =
            Command::new("sh").args(["-c", "read line; exit 7"]).stdin(Stdio::piped()).spawn().unwrap();
        let thread = child.id().cast_signed();
        match Traced::seize(thread) {
            Ok(traced) => traced.let_go(),
            // Yama, or a seccomp filter.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        }
        assert!(fs::read_to_string(format!("/proc/{thread}/status")).unwrap().contains("TracerPid:\t0\n"));
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().into_raw(), 7 << 8);
    }

    #[test]
    fn forgets_who_is_gone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let thread = child.id().cast_signed();
        child.kill().unwrap();
        if let Ok(traced) = Traced::seize(thread) {
            traced.make_dumpable();
        }
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
