//! The instructions of which seccomp filters are written (classic BPF over
//! `struct seccomp_data`, Documentation/userspace-api/seccomp_filter.rst), where
//! seccompiler has no word for what is needed.

use nix::libc;
use seccompiler::sock_filter;

pub(super) const LOAD: u16 = 0x20;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const AT_LEAST: u16 = 0x35;
pub(super) const ANY_BIT: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`; arguments are 8 bytes each, low half first.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_…` of this program (linux/audit.h).
#[cfg(target_arch = "x86_64")]
pub(super) const OWN: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const OWN: u32 = 0xc000_00b7;

/// One instruction, as the kernel reads it.
pub(super) fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Ends with this action.
pub(super) fn give(action: u32) -> sock_filter {
    step(RETURN, 0, 0, action)
}

/// The low half of an argument.
pub(super) fn load(argument: u32) -> sock_filter {
    step(LOAD, 0, 0, ARGUMENTS + 8 * argument)
}

/// Goes on if it is this call, else over `skip` steps.
pub(super) fn is(call: libc::c_long, skip: u8) -> sock_filter {
    step(EQUAL, 0, skip, u32::try_from(call).expect("system calls have small numbers"))
}
