//! The seccomp filters of a RUN.
//!
//! Four of them, because a compiled filter has one answer, and the kernel
//! takes the strictest answer of all:
//! - syncs succeed without doing anything. A step's files are packed right
//!   after it; what a crash would lose is the whole step anyway;
//! - what Docker's default profile refuses and missing capabilities do not;
//! - clone3 does not exist, because a filter cannot see its flags (libc falls
//!   back to clone, as under Docker);
//! - the same refusals for programs of another architecture, which have other
//!   numbers ([`filter_foreign`](super::filter_foreign)).

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::sys;

const SUCCEED: [i64; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
];

/// What of Docker's refusals counts without capabilities.
const REFUSE: [i64; 25] = [
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_setns,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// ioctl(2) requests; libc has them in types that differ between C libraries.
pub(super) const TIOCSTI: u64 = 0x5412;
pub(super) const TIOCLINUX: u64 = 0x541c;

/// What Docker lets personality(2) ask for: Linux, as a 32-bit machine, as 2.6,
/// both, and which it is. Others make memory executable or its places known.
pub(super) const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];

/// Installs them on this thread, which needs CAP_SYS_ADMIN.
pub(super) fn install() -> io::Result<()> {
    for program in programs()? {
        sys::install_filter(&program)?;
    }
    Ok(())
}

fn programs() -> io::Result<[BpfProgram; 4]> {
    let succeed = SUCCEED.map(|call| (call, Vec::new())).into();
    let mut refuse: BTreeMap<i64, Vec<SeccompRule>> = REFUSE.map(|call| (call, Vec::new())).into();
    let new_user = u64::try_from(libc::CLONE_NEWUSER).expect("a positive flag");
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        refuse.insert(call, vec![rule(0, SeccompCmpOp::MaskedEq(new_user), new_user)?]);
    }
    // A terminal that the builder shares must not be typed into (TIOCSTI), nor
    // pasted into (TIOCLINUX).
    let ioctls = [TIOCSTI, TIOCLINUX]
        .into_iter()
        .map(|request| rule(1, SeccompCmpOp::MaskedEq(0xffff_ffff), request))
        .collect::<io::Result<_>>()?;
    refuse.insert(libc::SYS_ioctl, ioctls);
    // The hypervisor's sockets, and the kernel's ciphers: Docker has neither.
    let families = [libc::AF_VSOCK, libc::AF_ALG]
        .map(|family| rule(0, SeccompCmpOp::MaskedEq(0xffff_ffff), u64::from(family.cast_unsigned())));
    refuse.insert(libc::SYS_socket, families.into_iter().collect::<io::Result<_>>()?);
    let others = PERSONALITIES.map(|known| condition(0, SeccompCmpOp::Ne, known.into()));
    let others = others.into_iter().collect::<io::Result<_>>()?;
    refuse.insert(libc::SYS_personality, vec![SeccompRule::new(others).map_err(io::Error::other)?]);
    let absent = [(libc::SYS_clone3, Vec::new())].into();
    Ok([
        compile(succeed, 0)?,
        compile(refuse, libc::EPERM)?,
        compile(absent, libc::ENOSYS)?,
        super::filter_foreign::program(),
    ])
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(io::Error::other)
}

/// About the low half of an argument.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(io::Error::other)
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> io::Result<BpfProgram> {
    let errno = SeccompAction::Errno(errno.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture);
    let mut program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
    let_foreign_pass(&mut program)?;
    Ok(program)
}

/// seccompiler's programs begin: load the architecture, skip one if it is
/// ours, kill. The third instruction becomes "allow".
fn let_foreign_pass(program: &mut BpfProgram) -> io::Result<()> {
    const RETURN: u16 = 0x06;
    match program.get_mut(2) {
        Some(instruction)
            if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_KILL_PROCESS =>
        {
            instruction.k = libc::SECCOMP_RET_ALLOW;
            Ok(())
        }
        _ => Err(io::Error::other("the compiled filter has another shape than expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles() {
        for program in programs().unwrap() {
            assert!(program.len() < 4096, "the kernel's limit is BPF_MAXINSNS");
            assert!(program.iter().all(|step| step.code != 0x06 || step.k != libc::SECCOMP_RET_KILL_PROCESS));
        }
    }
}
