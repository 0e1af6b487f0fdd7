//! The seccomp profiles of container engines, put together from what each of
//! them refuses: `linux.seccomp` of a container's config.json.
//!
//! As the engines' own, a profile lists what is allowed, so that a call newer
//! than the list is refused too. `sandboxes::original` compares with the
//! engines' files where it is given them. Not modelled: 32-bit calls that the
//! engines treat otherwise than the 64-bit ones.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Whose profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `seccomp=unconfined`.
    None,
    /// Docker's and containerd's default.
    Docker,
    /// The same on a kernel that has no Landlock.
    DockerWithoutLandlock,
    /// The default of containers-common: podman and buildah.
    Podman,
    /// The same in CRI-O, which refuses unshare(2) besides.
    Crio,
}

/// Refused calls by the capability that opens them.
type ByCapability = &'static [(&'static str, &'static [&'static str])];

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

const CALLS: &str = include_str!("calls.txt");

const DOCKER_BY_CAPABILITY: ByCapability = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount",
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
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

/// Opened by either of two capabilities.
const DOCKER_BY_EITHER: [([&str; 2], &str); 3] = [
    (["CAP_SYS_ADMIN", "CAP_BPF"], "bpf"),
    (["CAP_SYS_ADMIN", "CAP_PERFMON"], "perf_event_open"),
    (["CAP_SYS_ADMIN", "CAP_SYSLOG"], "syslog"),
];

/// Calls that Docker allows to no container.
const DOCKER_NEVER: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "bdflush",
    "break",
    "create_module",
    "ftime",
    "get_kernel_syms",
    "getpmsg",
    "gtty",
    "idle",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lock",
    "migrate_pages",
    "move_pages",
    "mpx",
    "nfsservctl",
    "nice",
    "oldfstat",
    "oldlstat",
    "oldolduname",
    "oldstat",
    "olduname",
    "pivot_root",
    "prof",
    "profil",
    "putpmsg",
    "query_module",
    "readdir",
    "request_key",
    "security",
    "sgetmask",
    "sigaction",
    "signal",
    "sigpending",
    "sigsuspend",
    "ssetmask",
    "stty",
    "swapoff",
    "swapon",
    "sysfs",
    "tuxcall",
    "ulimit",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
    "vserver",
];

const PODMAN_BY_CAPABILITY: ByCapability = &[
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
        ],
    ),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module", "query_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

const PODMAN_NEVER: &[&str] = &[
    "bdflush",
    "io_pgetevents",
    "kexec_file_load",
    "kexec_load",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "nice",
    "oldfstat",
    "oldlstat",
    "oldolduname",
    "oldstat",
    "olduname",
    "sgetmask",
    "ssetmask",
    "swapoff",
    "swapon",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
    "vmsplice",
];

/// Not in the list of containers-common at all, whose default is ENOSYS.
const PODMAN_UNKNOWN: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "break",
    "create_module",
    "ftime",
    "get_kernel_syms",
    "getpmsg",
    "gtty",
    "idle",
    "io_pgetevents_time64",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "lock",
    "mpx",
    "prof",
    "profil",
    "putpmsg",
    "quotactl_fd",
    "request_key",
    "security",
    "set_mempolicy_home_node",
    "stty",
    "tuxcall",
    "ulimit",
    "vserver",
];

/// The flags of clone(2) that make a namespace: NEWNS, NEWCGROUP, NEWUTS,
/// NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// personality(2) may ask for Linux (0), UNAME26 with and without Linux on
/// 32 bits (0x20000, 8) and what there is (all ones).
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// AF_ALG is 38 and AF_VSOCK 40; what is between them is allowed.
const DOCKER_SOCKETS: [(&str, u64); 3] = [("SCMP_CMP_LT", 38), ("SCMP_CMP_EQ", 39), ("SCMP_CMP_GT", 40)];

const AF_NETLINK: u64 = 16;
const NETLINK_AUDIT: u64 = 9;

impl Profile {
    /// `linux.seccomp` for a container with `capabilities` in its bounding set.
    pub fn seccomp(self, capabilities: &[String]) -> Option<Value> {
        let has = |name: &str| capabilities.iter().any(|capability| capability == name);
        let (default, rules) = match self {
            Self::None => return None,
            Self::Docker => (EPERM, docker(&has, &[])),
            Self::DockerWithoutLandlock => (EPERM, docker(&has, &LANDLOCK)),
            Self::Podman => (ENOSYS, podman(&has, &[])),
            Self::Crio if has("CAP_SYS_ADMIN") => (ENOSYS, podman(&has, &[])),
            Self::Crio => (ENOSYS, podman(&has, &["unshare"])),
        };
        Some(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": default,
            "architectures": architectures(), "syscalls": rules,
        }))
    }
}

const LANDLOCK: [&str; 3] = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];

fn docker(has: &dyn Fn(&str) -> bool, absent: &[&'static str]) -> Vec<Value> {
    let mut refused = closed(DOCKER_BY_CAPABILITY, has);
    refused.extend(absent);
    let either = DOCKER_BY_EITHER.iter().filter(|(opening, _)| !opening.iter().any(|name| has(name)));
    refused.extend(either.map(|(_, call)| *call));
    refused.extend(DOCKER_NEVER);
    let mut rules = Vec::new();
    if !has("CAP_SYS_ADMIN") {
        refused.extend(["clone", "clone3"]);
        rules.push(allow_if(
            "clone",
            &[json!({"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"})],
        ));
        // clone3 keeps its flags in memory, where a filter cannot look.
        rules.push(refuse(&["clone3"], ENOSYS));
    }
    if !absent.is_empty() {
        rules.push(refuse(absent, ENOSYS));
    }
    refused.extend(["personality", "socket"]);
    rules.extend(personalities());
    rules.extend(DOCKER_SOCKETS.map(|(op, value)| allow_if("socket", &[compare(0, op, value)])));
    rules.push(allow_but(&refused));
    rules
}

fn podman(has: &dyn Fn(&str) -> bool, besides: &[&'static str]) -> Vec<Value> {
    let mut refused = closed(PODMAN_BY_CAPABILITY, has);
    refused.extend(PODMAN_NEVER);
    refused.extend(besides);
    let mut rules = vec![refuse(&refused, EPERM)];
    refused.extend(PODMAN_UNKNOWN);
    refused.insert("personality");
    rules.extend(personalities());
    if !has("CAP_AUDIT_WRITE") {
        refused.insert("socket");
        // Said in another way than the engine does, and in this order: libseccomp
        // takes it for all architectures at once only so.
        let netlink = |op| compare(0, op, AF_NETLINK);
        let audit = |op| compare(2, op, NETLINK_AUDIT);
        rules.push(allow_if("socket", &[netlink("SCMP_CMP_NE")]));
        rules.push(allow_if("socket", &[netlink("SCMP_CMP_EQ"), audit("SCMP_CMP_NE")]));
        rules.push(json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": EINVAL,
            "args": [netlink("SCMP_CMP_EQ"), audit("SCMP_CMP_EQ")]}));
    }
    rules.push(allow_but(&refused));
    rules
}

fn closed(table: ByCapability, has: &dyn Fn(&str) -> bool) -> BTreeSet<&'static str> {
    let closed = table.iter().filter(|(capability, _)| !has(capability));
    closed.flat_map(|(_, calls)| calls.iter().copied()).collect()
}

/// Every call that Linux has.
pub fn calls() -> impl Iterator<Item = &'static str> {
    CALLS.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace)
}

fn personalities() -> impl Iterator<Item = Value> {
    PERSONALITIES.iter().map(|value| allow_if("personality", &[compare(0, "SCMP_CMP_EQ", *value)]))
}

fn allow_but(refused: &BTreeSet<&str>) -> Value {
    let names: Vec<&str> = calls().filter(|call| !refused.contains(call)).collect();
    json!({"names": names, "action": "SCMP_ACT_ALLOW"})
}

fn allow_if(name: &str, arguments: &[Value]) -> Value {
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": arguments})
}

fn refuse<'a>(names: impl IntoIterator<Item = &'a &'a str>, errno: u32) -> Value {
    let names: Vec<&str> = names.into_iter().copied().collect();
    json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno})
}

fn compare(index: u32, op: &str, value: u64) -> Value {
    json!({"index": index, "value": value, "op": op})
}

fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    }
}
