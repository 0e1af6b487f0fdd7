//! The seccomp profiles of container engines as far as a build meets them, said
//! as what they refuse.
//!
//! The engines list what is allowed; here everything else is refused by name,
//! which is shorter and comes to the same for every call that x86-64 and arm64
//! know today. Not modelled: the few values personality(2) may have, and
//! 32-bit calls.

use serde_json::{Value, json};

/// Whose profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `seccomp=unconfined`.
    None,
    /// Docker's and containerd's default.
    Docker,
    /// The default of containers-common: podman and buildah.
    Podman,
    /// The same in CRI-O, which refuses unshare(2) besides.
    Crio,
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Calls that need a capability of the container, by capability.
const DOCKER_BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "settimeofday"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

/// Calls that Docker allows to no container.
const DOCKER_NEVER: &[&str] = &[
    "add_key",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "pivot_root",
    "request_key",
    "swapoff",
    "swapon",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
];

const PODMAN_BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "lookup_dcookie",
            "perf_event_open",
            "quotactl",
            "setdomainname",
            "sethostname",
            "setns",
        ],
    ),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "settimeofday"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

const PODMAN_NEVER: &[&str] = &[
    "kexec_file_load",
    "kexec_load",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "swapoff",
    "swapon",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
    "vmsplice",
];

/// Not in the list of containers-common at all, whose default is ENOSYS.
const PODMAN_UNKNOWN: &[&str] = &[
    "add_key",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "quotactl_fd",
    "request_key",
    "set_mempolicy_home_node",
];

/// The flags of clone(2) that make a namespace: NEWNS, NEWCGROUP, NEWUTS,
/// NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: [u64; 7] =
    [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

impl Profile {
    /// `linux.seccomp` for a container with `capabilities` in its bounding set.
    pub fn seccomp(self, capabilities: &[String]) -> Option<Value> {
        let has = |name: &str| capabilities.iter().any(|capability| capability == name);
        let missing = |table: &'static [(&str, &'static [&str])]| -> Vec<&'static str> {
            let refused = table.iter().filter(|(capability, _)| !has(capability));
            refused.flat_map(|(_, calls)| calls.iter().copied()).collect()
        };
        let mut rules = match self {
            Self::None => return None,
            Self::Docker => {
                let mut rules =
                    vec![refuse(&missing(DOCKER_BY_CAPABILITY), EPERM), refuse(DOCKER_NEVER, EPERM)];
                if !has("CAP_SYS_ADMIN") {
                    // clone3 keeps its flags in memory, where a filter cannot look.
                    rules.push(refuse(&["clone3"], ENOSYS));
                    rules.extend(NAMESPACE_FLAGS.map(|flag| refuse_flag("clone", flag)));
                }
                // AF_ALG and AF_VSOCK.
                rules.extend([38, 40].map(|family| refuse_value("socket", family)));
                rules
            }
            Self::Podman | Self::Crio => vec![
                refuse(&missing(PODMAN_BY_CAPABILITY), EPERM),
                refuse(PODMAN_NEVER, EPERM),
                refuse(PODMAN_UNKNOWN, ENOSYS),
            ],
        };
        if self == Self::Crio && !has("CAP_SYS_ADMIN") {
            rules.push(refuse(&["unshare"], EPERM));
        }
        Some(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures(), "syscalls": rules}))
    }
}

fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    }
}

fn refuse(names: &[&str], errno: u32) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno})
}

fn refuse_flag(name: &str, flag: u64) -> Value {
    let argument = json!({"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"});
    json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [argument]})
}

fn refuse_value(name: &str, value: u64) -> Value {
    let argument = json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"});
    json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [argument]})
}
