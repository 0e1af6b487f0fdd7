//! What of /proc a RUN may see: an allow-list, and processes of its own.
//!
//! Nothing here opens anything; a [`Node`] says what may be opened and how.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc;

use super::host;
use super::task::{Identity, is_of_run, read_link};
use super::walk::Tree;

/// One name in /proc.
#[derive(Debug)]
pub(super) enum Node {
    /// A directory: its path below the real /proc, and as the RUN has it.
    Listing { path: String, shown: String },
    /// A file that may be read as it is.
    File { path: String, writable: bool },
    /// A file with a content of ours.
    Made { content: Cow<'static, str> },
    /// A file (`stat`, `status`) with numbers to translate, of a thread.
    Numbered { path: String, name: String, task: i32 },
    /// A link inside /proc.
    Link { text: PathBuf },
    /// `cwd`, `root`, `exe` and `fd/N`: a link to wherever the kernel says.
    Place { path: String, text: PathBuf },
}

/// Files for everybody.
const FILES: [&str; 22] = [
    "buddyinfo",
    "cgroups",
    "cmdline",
    "consoles",
    "cpuinfo",
    "crypto",
    "devices",
    "diskstats",
    "filesystems",
    "loadavg",
    "meminfo",
    "misc",
    "modules",
    "partitions",
    "softirqs",
    "stat",
    "swaps",
    "tty/drivers",
    "uptime",
    "version",
    "vmstat",
    "zoneinfo",
];

/// Links for everybody.
const LINKS: [(&str, &str); 2] = [("mounts", "self/mounts"), ("net", "self/net")];

/// Directories of settings, of which every file may be read.
const SETTINGS: [&str; 17] = [
    "tty",
    "sys",
    "sys/kernel",
    "sys/kernel/random",
    "sys/kernel/seccomp",
    "sys/vm",
    "sys/fs",
    "sys/fs/inotify",
    "sys/net",
    "sys/net/core",
    "sys/net/ipv4",
    "sys/net/ipv6",
    "sys/net/ipv6/conf",
    "sys/net/ipv6/conf/all",
    "sys/net/ipv6/conf/default",
    "sys/user",
    "sys/crypto",
];

/// Settings that tell more than a build needs.
const HIDDEN: [&str; 8] = [
    "sys/kernel/core_pattern",
    "sys/kernel/modprobe",
    "sys/kernel/hotplug",
    "sys/kernel/poweroff_cmd",
    "sys/net/ipv4/tcp_fastopen_key",
    "tty/driver",
    "tty/ldisc",
    "tty/ldiscs",
];

/// Files of a process or thread.
const OF_TASK: [&str; 29] = [
    "auxv",
    "cgroup",
    "cmdline",
    "comm",
    "coredump_filter",
    "environ",
    "gid_map",
    "io",
    "limits",
    "loginuid",
    "maps",
    "numa_maps",
    "oom_adj",
    "oom_score",
    "oom_score_adj",
    "personality",
    "sched",
    "schedstat",
    "sessionid",
    "setgroups",
    "smaps",
    "smaps_rollup",
    "stat",
    "statm",
    "status",
    "syscall",
    "uid_map",
    "wchan",
    "children",
];

/// Those that a process may write about itself.
const WRITABLE: [&str; 5] = ["comm", "coredump_filter", "loginuid", "oom_adj", "oom_score_adj"];

const OF_NET: [&str; 9] =
    ["dev", "if_inet6", "ipv6_route", "route", "tcp", "tcp6", "udp", "udp6", "sockstat"];

const MOUNTS: &str = "overlay / overlay rw,relatime 0 0\n\
    proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n\
    tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755 0 0\n\
    sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0\n";

const MOUNTINFO: &str = "21 20 0:21 / / rw,relatime - overlay overlay rw\n\
    22 21 0:22 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
    23 21 0:23 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755\n\
    24 21 0:24 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro\n";

/// What `path`, below /proc and without `..`, is for `thread`. Only the last
/// component is new: all before it are no links.
///
/// # Errors
/// `ENOENT` for everything that is not allowed.
pub(super) fn node(tree: &Tree, path: &Path, thread: i32) -> io::Result<Node> {
    let text = path.to_str().ok_or_else(absent)?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Ok(Node::Listing { path: String::new(), shown: String::new() }),
        ["self"] => Ok(Node::Link { text: tree.numbers.shown(process(thread)?)?.to_string().into() }),
        ["thread-self"] => {
            let (process, thread) = (tree.numbers.shown(process(thread)?)?, tree.numbers.shown(thread)?);
            Ok(Node::Link { text: format!("{process}/task/{thread}").into() })
        }
        [name, ..] if name.starts_with('.') => {
            tree.aliases.target(text).map(|text| Node::Link { text }).ok_or_else(absent)
        }
        [first, rest @ ..] => match first.parse::<i32>() {
            Ok(process) => of_process(tree, process, rest, thread),
            Err(_) if text == host::IN_PROC => Ok(Node::Made { content: format!("{}\n", tree.host).into() }),
            Err(_) => of_all(text),
        },
    }
}

fn process(thread: i32) -> io::Result<i32> {
    Ok(Identity::of(thread)?.process)
}

fn of_all(text: &str) -> io::Result<Node> {
    if FILES.contains(&text) {
        return Ok(Node::File { path: text.to_owned(), writable: false });
    }
    if let Some((_, link)) = LINKS.iter().find(|(name, _)| *name == text) {
        return Ok(Node::Link { text: link.into() });
    }
    if SETTINGS.contains(&text) {
        return Ok(Node::Listing { path: text.to_owned(), shown: text.to_owned() });
    }
    let parent = text.rsplit_once('/').map_or("", |(parent, _)| parent);
    if SETTINGS.contains(&parent) && !HIDDEN.contains(&text) && is_file(text) {
        return Ok(Node::File { path: text.to_owned(), writable: false });
    }
    Err(absent())
}

/// `shown` and the numbers in `rest` are the RUN's.
fn of_process(tree: &Tree, shown: i32, rest: &[&str], thread: i32) -> io::Result<Node> {
    let numbers = &tree.numbers;
    let process = numbers.ours(shown)?;
    let (task, own, shown, rest) = match rest {
        ["task", task, rest @ ..] => {
            let task: i32 = task.parse().map_err(|_| absent())?;
            let number = numbers.thread(process, task)?;
            (number, format!("{process}/task/{number}"), format!("{shown}/task/{task}"), rest)
        }
        rest => (process, process.to_string(), shown.to_string(), rest),
    };
    let joined = || format!("{own}/{}", rest.join("/"));
    match rest {
        [] => Ok(Node::Listing { path: own, shown }),
        ["task" | "fd" | "fdinfo" | "net"] => {
            Ok(Node::Listing { path: joined(), shown: format!("{shown}/{}", rest.join("/")) })
        }
        ["mounts"] if !numbers.differ() => Ok(Node::Made { content: MOUNTS.into() }),
        ["mountinfo"] if !numbers.differ() => Ok(Node::Made { content: MOUNTINFO.into() }),
        ["mounts" | "mountinfo" | "mountstats"] => Ok(Node::File { path: joined(), writable: false }),
        ["cwd" | "root" | "exe"] => place(joined(), thread, process),
        ["fd", number] if is_number(number) => place(joined(), thread, process),
        ["fdinfo", number] if is_number(number) => Ok(Node::File { path: joined(), writable: false }),
        ["net", name] if OF_NET.contains(name) => Ok(Node::File { path: joined(), writable: false }),
        [name @ ("stat" | "status")] if numbers.differ() => {
            Ok(Node::Numbered { path: joined(), name: (*name).to_owned(), task })
        }
        ["sched" | "children"] if numbers.differ() => Err(absent()),
        [name] if OF_TASK.contains(name) => {
            let own = Identity::of(thread)?.process == process;
            Ok(Node::File { path: joined(), writable: own && WRITABLE.contains(name) })
        }
        _ => Err(absent()),
    }
}

/// The caller must be allowed to look, as the kernel would ask it: its own
/// user, or root.
fn place(path: String, thread: i32, process: i32) -> io::Result<Node> {
    let (caller, asked) = (Identity::of(thread)?, Identity::of(process)?);
    if caller.uid != 0 && caller.uid != asked.uid {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    let text = read_link(process, &format!("/proc/{path}"))?;
    Ok(Node::Place { path, text })
}

/// The names to show in the directory that lies at `path` in the real /proc
/// and is `shown` to the RUN, with their type.
pub(super) fn names(tree: &Tree, path: &str, shown: &str, thread: i32) -> io::Result<Vec<(String, Node)>> {
    let mut names: Vec<String> = if path.is_empty() {
        let own = FILES.iter().filter(|name| !name.contains('/') && is_file(name));
        own.chain(&["sys", "self", "thread-self", "tty"])
            .chain(LINKS.iter().map(|(name, _)| name))
            .map(ToString::to_string)
            .collect()
    } else {
        Vec::new()
    };
    // Numbers of processes and threads are translated, those of files are not.
    let are_tasks = path.is_empty() || path.ends_with("/task");
    for entry in std::fs::read_dir(Path::new("/proc").join(path))? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        match name.parse::<i32>() {
            Ok(ours) if are_tasks && tree.numbers.differ() => {
                if is_of_run(ours) || !path.is_empty() {
                    names.extend(tree.numbers.shown(ours).ok().map(|shown| shown.to_string()));
                }
            }
            Ok(_) => names.push(name),
            Err(_) if !path.is_empty() => names.push(name),
            Err(_) => {}
        }
    }
    let kind = |name: String| {
        let node = node(tree, &Path::new(shown).join(&name), thread).ok()?;
        Some((name, node))
    };
    Ok(names.into_iter().filter_map(kind).collect())
}

/// Devices of the container that a RUN has under the same name.
pub(super) fn known_device(text: &Path) -> Option<PathBuf> {
    let name = text.strip_prefix("/dev").ok()?.to_str()?;
    ["null", "zero", "full", "random", "urandom", "tty"].contains(&name).then(|| text.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_file(path: &str) -> bool {
    std::fs::symlink_metadata(Path::new("/proc").join(path)).is_ok_and(|found| found.is_file())
}

fn absent() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::super::numbers::Numbers;
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let own = std::process::id().cast_signed();
        let root = crate::sandbox::mounts::open_path(Path::new("/")).unwrap();
        let tree = Tree::open(root, Numbers::Ours, None).unwrap();
        let found = match node(&tree, Path::new(path), own) {
            Ok(Node::Listing { .. }) => "listing",
            Ok(Node::File { .. }) => "file",
            Ok(Node::Made { .. } | Node::Numbered { .. }) => "made",
            Ok(Node::Link { .. }) => "link",
            Ok(Node::Place { .. }) => "place",
            Err(_) => "absent",
        };
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn allows_what_is_listed_and_nothing_else() {
        check("", "listing");
        check("self", "link");
        check("mounts", "link");
        check("meminfo", "file");
        check("sys/kernel/osrelease", "file");
        check("sys/kernel", "listing");
        for path in
            ["kcore", "kallsyms", "sysrq-trigger", "sys/kernel/core_pattern", "keys", "1", "1/environ"]
        {
            check(path, "absent");
        }
        // This process is not of a RUN: it does not exist.
        check(&std::process::id().to_string(), "absent");
    }

    #[test]
    fn shows_a_child_with_an_allow_list() {
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        let id = child.id();
        for (name, expected) in [
            ("", "listing"),
            ("status", "file"),
            ("cwd", "place"),
            ("fd/0", "place"),
            ("mountinfo", "made"),
            ("mem", "absent"),
            ("ns/mnt", "absent"),
            ("map_files", "absent"),
            ("task", "listing"),
        ] {
            check(&format!("{id}/{name}"), expected);
        }
        check(&format!("{id}/task/{id}/comm"), "file");
        check(&format!("{id}/task/1/comm"), "absent");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
