//! Every attempt: what is tried, on which rungs, and which protections must be
//! gone for it to succeed there. Where several stand behind each other, all of
//! them are named.

use std::io;

use coracle::sandbox::{Protection as P, RunSpec, Rung};

use crate::attacks::{self, Done, files, kernel, mounts, processes, records};
use crate::builder::Scene;
use crate::world::{Target, World};

/// How an attempt is shown to bite.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    /// It succeeds without these.
    Without(&'static [P]),
    /// It cannot be made to succeed here, for this reason; it does not count.
    Refused(&'static str),
    /// It means nothing there.
    Untried,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub name: &'static str,
    /// Inside the RUN.
    pub attack: fn(&Target) -> Done,
    pub namespaces: Control,
    pub mounts: Control,
    pub chroot: Control,
    /// Where it differs from `namespaces`.
    pub single: Option<Control>,
    /// Outside, before it.
    pub arrange: fn(&mut Scene<'_>) -> io::Result<()>,
    /// Signs of this attempt alone.
    pub also: fn(&World, &RunSpec) -> Vec<String>,
    pub user: u32,
    /// What matters was arranged: the RUN may not even start.
    pub passive: bool,
    /// Made once, on this machine: it is hard on everybody else there.
    pub heavy: bool,
    /// The kernel that has the protection.
    pub since: (u32, u32),
    /// How long to wait for what it left, in milliseconds.
    pub patience: u64,
}

impl Attempt {
    pub fn control(&self, rung: Rung) -> Control {
        match rung {
            Rung::Namespaces => self.namespaces,
            Rung::Single => self.single.unwrap_or(self.namespaces),
            Rung::Mounts => self.mounts,
            Rung::Chroot => self.chroot,
            _ => Untried,
        }
    }

    const fn arranged(self, arrange: fn(&mut Scene<'_>) -> io::Result<()>) -> Self {
        Self { arrange, ..self }
    }

    const fn passive(self) -> Self {
        Self { passive: true, ..self }
    }

    const fn heavy(self) -> Self {
        Self { heavy: true, ..self }
    }

    const fn on_single(self, control: Control) -> Self {
        Self { single: Some(control), ..self }
    }

    const fn also(self, also: fn(&World, &RunSpec) -> Vec<String>) -> Self {
        Self { also, ..self }
    }

    const fn by(self, user: u32) -> Self {
        Self { user, ..self }
    }

    const fn since(self, major: u32, minor: u32) -> Self {
        Self { since: (major, minor), ..self }
    }

    const fn patient(self, patience: u64) -> Self {
        Self { patience, ..self }
    }
}

const fn attempt(
    name: &'static str,
    attack: fn(&Target) -> Done,
    namespaces: Control,
    mounts: Control,
    chroot: Control,
) -> Attempt {
    let (arrange, also) = (mounts::as_it_is, mounts::nothing_else);
    let single = None;
    Attempt {
        name,
        attack,
        namespaces,
        mounts,
        chroot,
        single,
        arrange,
        also,
        user: 0,
        passive: false,
        heavy: false,
        since: (0, 0),
        patience: 0,
    }
}

use Control::{Refused, Untried, Without};

const IPC: Control = Without(&[P::Ipc]);

/// /proc/PID of the builder, its memory, and tracing it.
/// Where no new /proc can be mounted, the supervisor serves it.
const READING: Control = Without(&[P::Processes, P::Undumpable, P::Capabilities, P::Scopes, P::ServedProc]);
const LISTING: Control = Without(&[P::Processes, P::ServedProc]);
const READING_IN_CHROOT: Control =
    Without(&[P::Undumpable, P::Capabilities, P::Scopes, P::Files, P::Neighbours]);
const SERVED: Control = Without(&[P::ServedProc]);
const SIGNALS: Control = Without(&[P::Processes, P::Scopes]);
const SCOPES: Control = Without(&[P::Scopes]);
const PROCESSES: Control = Without(&[P::Processes]);
const NEIGHBOURS: Control = Without(&[P::Neighbours]);
/// Who has fewer capabilities may not slow down who has more.
const SLOWING: Control = Without(&[P::Processes, P::Capabilities]);
const SLOWING_IN_CHROOT: Control = Without(&[P::Neighbours, P::Capabilities]);
const SECCOMP: Control = Without(&[P::Seccomp]);
const PRIVILEGED: Control = Without(&[P::Seccomp, P::Capabilities]);
const MOUNTING: Control = Without(&[P::Capabilities]);
const MOUNTING_IN_CHROOT: Control = Without(&[P::Capabilities, P::Files]);
const MASKS: Control = Without(&[P::Masks]);
const TARGETS: Control = Without(&[P::Targets]);
const NEW_ROOT: Control = Without(&[P::NewRoot]);
const DESCRIPTORS: Control = Without(&[P::Descriptors]);

const TASKS: Control = Without(&[P::TaskLimit]);
const RECORDS: Control = Without(&[P::Attributes]);

const CHROOTED: Control = Refused("the kernel makes no user namespace in a chroot");
const FOREIGN_MOUNTS: Control =
    Refused("the builder's mount namespace belongs to the initial user namespace");
const INITIAL: Control = Refused("needs a right in the initial user namespace, on this kernel");
const SERVED_FILES: Control = Refused("/proc is served there, and no socket of it");
const OWN_MOUNT: Control = Refused("what is covered there is seen by this RUN alone, or put back");
const NOT_OWNED: Control = Refused("the network belongs to another user namespace: no right over it exists");

const ONE_ID: Control =
    Refused("the kernel takes every process for root there: a user of a RUN is no border");
const CONSOLES: Control = Refused("it means something on consoles alone");
const LENT: Control = Refused("the supervisor lends names of the tree alone");
const NO_PROC: Control = Refused("there is no /proc whose files could be changed");
const SOME_KERNELS: Control = Refused("not every kernel has it");
const OWN_WAY: Control = Refused("the kernel looks for an interpreter in the tree");

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    // Out of the root.
    attempt(
        "second_root_read",
        files::second_root_read,
        NEW_ROOT,
        NEW_ROOT,
        Without(&[P::OneRoot, P::Capabilities, P::Files]),
    ),
    attempt(
        "second_root_chmod",
        files::second_root_chmod,
        NEW_ROOT,
        NEW_ROOT,
        Without(&[P::OneRoot, P::Capabilities]),
    ),
    attempt(
        "second_root_connect",
        files::second_root_connect,
        NEW_ROOT,
        NEW_ROOT,
        Without(&[P::OneRoot, P::Capabilities]),
    ),
    attempt(
        "second_root_watch",
        files::second_root_watch,
        NEW_ROOT,
        NEW_ROOT,
        Without(&[P::OneRoot, P::Capabilities]),
    ),
    attempt("inherited_descriptors", files::inherited_descriptors, DESCRIPTORS, DESCRIPTORS, DESCRIPTORS),
    attempt("open_by_handle", files::open_by_handle, INITIAL, PRIVILEGED, MOUNTING_AND_SECCOMP),
    // Through /proc.
    attempt("root_of_builder", files::root_of_builder, READING, READING, SERVED),
    attempt("root_of_builders_task", files::root_of_builders_task, READING, READING, SERVED),
    attempt("directory_of_builder", files::directory_of_builder, READING, READING, SERVED),
    attempt("descriptor_of_builder", files::descriptor_of_builder, READING, READING, SERVED),
    attempt("environment_of_builder", files::environment_of_builder, READING, READING, SERVED),
    attempt("memory_of_builder", files::memory_of_builder, READING, READING, SERVED),
    attempt("write_memory_of_builder", files::write_memory_of_builder, READING, READING, SERVED),
    attempt("socket_by_path", files::socket_by_path, SERVED_FILES, READING, Untried),
    attempt("change_through_proc", files::change_through_proc, READING, READING, SERVED),
    attempt("command_line_of_others", files::command_line_of_others, LISTING, LISTING, SERVED),
    attempt("list_of_processes", files::list_of_processes, LISTING, LISTING, SERVED),
    attempt("up_from_own_directory", files::up_from_own_directory, Untried, Untried, SERVED),
    attempt("up_from_own_root", files::up_from_own_root, Untried, Untried, SERVED),
    attempt("climb_and_chmod", files::climb_and_chmod, Untried, Untried, SERVED),
    attempt("climb_and_touch", files::climb_and_touch, Untried, Untried, SERVED),
    attempt("climb_and_connect", files::climb_and_connect, Untried, Untried, SERVED),
    attempt("watch_outside", files::watch_outside, READING, READING, LENT),
    attempt("interpreter_outside", files::interpreter_outside, READING, READING, OWN_WAY).passive(),
    attempt("racing_path", files::racing_path, Untried, Untried, SERVED),
    attempt("racing_rename", files::racing_rename, READING, READING, SERVED),
    attempt("endless_paths", kernel::endless_paths, READING, READING, SERVED),
    attempt("own_listener", kernel::own_listener, READING, READING, SERVED),
    // Other processes.
    attempt("read_memory", processes::read_memory, READING, READING, READING_IN_CHROOT),
    attempt("write_memory", processes::write_memory, READING, READING, READING_IN_CHROOT),
    attempt("trace", processes::trace, READING, READING, READING_IN_CHROOT),
    attempt("take_a_descriptor", processes::take_a_descriptor, READING, READING, READING_IN_CHROOT),
    attempt("end_by_kill", processes::end_by_kill, SIGNALS, SIGNALS, SCOPES).patient(50),
    attempt("end_by_pidfd", processes::end_by_pidfd, SIGNALS, SIGNALS, SCOPES).patient(50),
    attempt("end_as_owner", processes::end_as_owner, SIGNALS, SIGNALS, SCOPES).patient(50),
    attempt("storm_of_signals", processes::storm_of_signals, SIGNALS, SIGNALS, SCOPES).patient(50),
    attempt("signal_everybody", processes::signal_everybody, SIGNALS, SIGNALS, SCOPES).patient(50),
    attempt("signal_the_group", processes::signal_the_group, SIGNALS, SIGNALS, SCOPES).patient(50),
    attempt(
        "compare_with_the_builder",
        processes::compare_with_the_builder,
        READING,
        READING,
        READING_IN_CHROOT,
    ),
    attempt("reschedule_others", processes::reschedule_others, SLOWING, SLOWING, SLOWING_IN_CHROOT),
    attempt("limit_others", processes::limit_others, PROCESSES, PROCESSES, NEIGHBOURS),
    attempt("slow_others_down", processes::slow_others_down, SLOWING, SLOWING, SLOWING_IN_CHROOT),
    #[cfg(target_arch = "x86_64")]
    attempt("limit_others_32", processes::limit_others_32, PROCESSES, PROCESSES, NEIGHBOURS),
    attempt("abstract_socket", files::abstract_socket, SCOPES, SCOPES, SCOPES),
    attempt("shared_memory", processes::shared_memory, IPC, IPC, IPC),
    attempt("shared_memory_by_number", processes::shared_memory_by_number, IPC, IPC, IPC),
    attempt("enter_the_builder", processes::enter_the_builder, FOREIGN_MOUNTS, ENTERING, Untried),
    attempt(
        "enter_the_builder_by_pidfd",
        processes::enter_the_builder_by_pidfd,
        FOREIGN_MOUNTS,
        ENTERING,
        Untried,
    ),
    // Staying.
    attempt("outlive", processes::outlive, PROCESSES, PROCESSES, Without(&[P::KillAll])).patient(50),
    attempt("outrun", processes::outrun, PROCESSES, PROCESSES, Without(&[P::KillAll]))
        .also(mounts::still_writing),
    attempt("end_the_stub", processes::end_the_stub, Untried, Untried, SCOPES).passive().patient(50),
    attempt(
        "fork_bomb",
        processes::fork_bomb,
        Without(&[P::ProcessLimit]),
        Without(&[P::ProcessLimit]),
        Without(&[P::ProcessLimit]),
    )
    .passive()
    .heavy(),
    attempt("thread_bomb", processes::thread_bomb, TASKS, TASKS, Untried).heavy().since(6, 14),
    // The kernel.
    attempt("unshare_users", kernel::unshare_users, SECCOMP, SECCOMP, CHROOTED),
    attempt("clone_users", kernel::clone_users, SECCOMP, SECCOMP, CHROOTED),
    attempt("clone3_users", kernel::clone3_users, SECCOMP, SECCOMP, CHROOTED),
    #[cfg(target_arch = "x86_64")]
    attempt("unshare_users_32", kernel::unshare_users_32, SECCOMP, SECCOMP, CHROOTED),
    attempt("search_keys", kernel::search_keys, SECCOMP, SECCOMP, SECCOMP),
    attempt("request_key", kernel::request_key, SECCOMP, SECCOMP, SECCOMP),
    #[cfg(target_arch = "x86_64")]
    attempt("request_key_32", kernel::request_key_32, SECCOMP, SECCOMP, SECCOMP),
    attempt("leave_a_key", kernel::leave_a_key, SECCOMP, SECCOMP, SECCOMP),
    attempt("change_personality", kernel::change_personality, SECCOMP, SECCOMP, SECCOMP),
    attempt("change_personality_high", kernel::change_personality_high, SECCOMP, SECCOMP, SECCOMP),
    #[cfg(target_arch = "x86_64")]
    attempt("change_personality_32", kernel::change_personality_32, SECCOMP, SECCOMP, SECCOMP),
    attempt("watch_everything", kernel::watch_everything, SECCOMP, SECCOMP, SECCOMP),
    #[cfg(target_arch = "x86_64")]
    attempt("watch_everything_32", kernel::watch_everything_32, SECCOMP, SECCOMP, SECCOMP),
    #[cfg(target_arch = "x86_64")]
    attempt("ports", kernel::ports, SOME_KERNELS, SOME_KERNELS, SOME_KERNELS),
    attempt("io_uring", kernel::io_uring, SECCOMP, SECCOMP, SECCOMP),
    #[cfg(target_arch = "x86_64")]
    attempt("io_uring_32", kernel::io_uring_32, SECCOMP, SECCOMP, SECCOMP),
    attempt("bpf", kernel::bpf, INITIAL, PRIVILEGED, PRIVILEGED),
    attempt("performance_events", kernel::performance_events, SECCOMP, SECCOMP, SECCOMP),
    attempt("user_faults", kernel::user_faults, SECCOMP, SECCOMP, SECCOMP),
    attempt("kernel_log", kernel::kernel_log, INITIAL, PRIVILEGED, PRIVILEGED),
    #[cfg(target_arch = "x86_64")]
    attempt("kernel_log_32", kernel::kernel_log_32, INITIAL, PRIVILEGED, PRIVILEGED),
    attempt("hypervisor_socket", kernel::hypervisor_socket, SECCOMP, SECCOMP, SECCOMP),
    attempt("hypervisor_socket_high", kernel::hypervisor_socket_high, SECCOMP, SECCOMP, SECCOMP),
    attempt("packets", kernel::packets, NOT_OWNED, MOUNTING, MOUNTING),
    attempt("raw_socket", kernel::raw_socket, NOT_OWNED, MOUNTING, MOUNTING),
    attempt("loopback", kernel::loopback, Without(&[P::Network]), Without(&[P::Network]), Untried)
        .arranged(mounts::without_a_network),
    attempt("type_into_a_terminal", kernel::type_into_a_terminal, SECCOMP, SECCOMP, PRIVILEGED),
    attempt("paste_into_a_terminal", kernel::paste_into_a_terminal, CONSOLES, CONSOLES, CONSOLES),
    attempt("type_into_a_terminal_high", kernel::type_into_a_terminal_high, SECCOMP, SECCOMP, PRIVILEGED),
    #[cfg(target_arch = "x86_64")]
    attempt("type_into_a_terminal_32", kernel::type_into_a_terminal_32, SECCOMP, SECCOMP, PRIVILEGED),
    attempt("mount_something", kernel::mount_something, MOUNTING, MOUNTING, MOUNTING_IN_CHROOT),
    attempt("bind_something", kernel::bind_something, MOUNTING, MOUNTING, MOUNTING_IN_CHROOT),
    attempt("mount_by_descriptors", kernel::mount_by_descriptors, MOUNTING, MOUNTING, MOUNTING_IN_CHROOT),
    attempt("mount_as_another_root", kernel::mount_as_another_root, SECCOMP, SECCOMP, CHROOTED),
    attempt("clone_the_rest", kernel::clone_the_rest, MOUNTING, MOUNTING, MOUNTING),
    attempt("unmount_a_mask", kernel::unmount_a_mask, MOUNTING, MOUNTING, Untried),
    attempt("remount_writable", kernel::remount_writable, MOUNTING, MOUNTING, Untried),
    attempt("open_a_tree", kernel::open_a_tree, MOUNTING, MOUNTING, MOUNTING_IN_CHROOT),
    attempt("open_a_file_system", kernel::open_a_file_system, MOUNTING, MOUNTING, MOUNTING_IN_CHROOT),
    attempt("change_attributes", kernel::change_attributes, MOUNTING, MOUNTING, Untried),
    attempt("new_mount_namespace", kernel::new_mount_namespace, MOUNTING, MOUNTING, MOUNTING),
    // Devices and settings of the host.
    attempt(
        "device_in_the_root",
        files::device_in_the_root,
        Refused("no user namespace makes device nodes"),
        Without(&[P::InertNodes]),
        Without(&[P::ServedNodes, P::Capabilities]),
    ),
    attempt(
        "device_in_dev",
        files::device_in_dev,
        Refused("no user namespace makes device nodes"),
        Without(&[P::InertNodes]),
        Without(&[P::ServedNodes, P::Capabilities]),
    ),
    attempt(
        "change_a_device",
        files::change_a_device,
        Without(&[P::FixedNodes]),
        Without(&[P::FixedNodes]),
        Untried,
    ),
    attempt("setting", files::setting, MASKS, MASKS, SERVED),
    attempt("change_what_is_shared", files::change_what_is_shared, MASKS, MASKS, NO_PROC)
        .also(mounts::changed_for_everybody),
    attempt("kernel_helpers", files::kernel_helpers, MASKS, MASKS, SERVED),
    attempt("magic_key", files::magic_key, SOME_KERNELS, SOME_KERNELS, SOME_KERNELS),
    attempt("kernel_memory", files::kernel_memory, SOME_KERNELS, SOME_KERNELS, SOME_KERNELS),
    attempt("sys_setting", files::sys_setting, MASKS, MASKS, Untried),
    attempt("control_group", files::control_group, MASKS, MASKS, Untried),
    // What the image will say.
    attempt("copy_records", records::copy_records, RECORDS, RECORDS, RECORDS)
        .on_single(ONE_ID)
        .by(1000)
        .arranged(records::in_the_image)
        .also(records::forged),
    attempt("race_a_record", records::race_a_record, RECORDS, RECORDS, RECORDS)
        .on_single(ONE_ID)
        .by(1000)
        .arranged(records::in_the_image)
        .also(records::forged),
    #[cfg(target_arch = "x86_64")]
    attempt("copy_records_32", records::copy_records_32, RECORDS, RECORDS, RECORDS)
        .on_single(Untried)
        .by(1000)
        .arranged(records::in_the_image)
        .also(records::forged),
    // Rights by executing.
    attempt(
        "change_the_carrier",
        files::change_the_carrier,
        Without(&[P::SealedProgram]),
        Without(&[P::SealedProgram]),
        Refused("the supervisor serves no program from outside the tree"),
    )
    .passive()
    .arranged(mounts::execute_the_carrier),
    attempt(
        "become_root_by_file",
        processes::become_root_by_file,
        Untried,
        Untried,
        Without(&[P::NoNewPrivileges]),
    )
    .by(1000)
    .arranged(mounts::setuid_file),
    attempt(
        "gain_a_capability",
        processes::gain_a_capability,
        Untried,
        Untried,
        Without(&[P::NoNewPrivileges]),
    )
    .by(1000)
    .arranged(mounts::capable_file),
    // Links where the builder makes something.
    attempt("link_resolv_conf", attacks::nothing, TARGETS, TARGETS, TARGETS)
        .arranged(mounts::link_resolv_conf)
        .passive(),
    attempt("link_etc", attacks::nothing, TARGETS, TARGETS, TARGETS).arranged(mounts::link_etc).passive(),
    attempt("link_etc_upwards", attacks::nothing, TARGETS, TARGETS, TARGETS)
        .arranged(mounts::link_etc_upwards)
        .passive(),
    attempt("link_dev", attacks::nothing, OWN_MOUNT, OWN_MOUNT, OWN_MOUNT)
        .arranged(mounts::link_dev)
        .passive(),
    attempt("link_proc", attacks::nothing, OWN_MOUNT, OWN_MOUNT, OWN_MOUNT)
        .arranged(mounts::link_proc)
        .passive(),
    attempt("link_secret", attacks::nothing, TARGETS, TARGETS, TARGETS)
        .arranged(mounts::link_secret)
        .passive(),
    attempt("link_tmpfs", attacks::nothing, TARGETS, TARGETS, TARGETS).arranged(mounts::link_tmpfs).passive(),
    attempt("link_bind", attacks::nothing, TARGETS, TARGETS, TARGETS).arranged(mounts::link_bind).passive(),
    attempt("link_working_directory", attacks::nothing, Untried, Untried, Untried)
        .arranged(mounts::link_working_directory)
        .passive(),
    attempt(
        "write_a_read_only_mount",
        files::write_a_read_only_mount,
        Without(&[P::ReadOnlyMounts]),
        Without(&[P::ReadOnlyMounts]),
        Untried,
    )
    .arranged(mounts::lend_read_only)
    .also(mounts::written_in_what_was_lent),
];

const MOUNTING_AND_SECCOMP: Control = Without(&[P::Seccomp, P::Capabilities, P::Files]);
const ENTERING: Control =
    Without(&[P::Processes, P::Undumpable, P::Capabilities, P::Scopes, P::Seccomp, P::NewRoot]);
