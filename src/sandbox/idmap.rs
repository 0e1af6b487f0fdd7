//! Which ids a user namespace holds, and how its map is written.
//!
//! A process with CAP_SETUID in its own namespace maps everything it has to
//! itself: same ids, no power over anything outside. Anybody else asks
//! newuidmap and newgidmap for the ranges of /etc/subuid and /etc/subgid, with
//! their own id as root (user_namespaces(7), subuid(5)).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use caps::{CapSet, Capability};
use nix::unistd::{Gid, Pid, Uid, User};

use super::refusal::{Attempt, Circumstances, explain};
use super::{Refusal, Rung};

/// An image has owners up to 65,534 (nobody) at least.
const ENOUGH: u64 = 65_536;

/// `count` ids that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first one, as seen inside.
    pub inside: u32,
    /// The first one, as seen from the parent namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The ids that exist in a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Of users.
    pub uids: Vec<IdRange>,
    /// Of groups.
    pub gids: Vec<IdRange>,
}

impl IdMap {
    /// The map of this process.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn current() -> io::Result<Self> {
        Self::of("self")
    }

    /// The map of a process, by its number or `self`.
    pub(super) fn of(process: &str) -> io::Result<Self> {
        Ok(Self {
            uids: parse_map(&fs::read_to_string(format!("/proc/{process}/uid_map"))?),
            gids: parse_map(&fs::read_to_string(format!("/proc/{process}/gid_map"))?),
        })
    }

    /// Whether files can belong to user `uid` here.
    pub fn has_uid(&self, uid: u32) -> bool {
        self.uids.iter().any(|range| range.has(uid))
    }

    /// Whether files can belong to group `gid` here.
    pub fn has_gid(&self, gid: u32) -> bool {
        self.gids.iter().any(|range| range.has(gid))
    }
}

impl IdRange {
    fn has(&self, id: u32) -> bool {
        id.checked_sub(self.inside).is_some_and(|offset| offset < self.count)
    }
}

/// `inside outside count` on each line.
fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines().filter_map(parse_map_line).collect()
}

fn parse_map_line(line: &str) -> Option<IdRange> {
    let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
    let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(IdRange { inside, outside, count })
}

/// Writes the map of `child`, which waits in a fresh user namespace.
///
/// # Errors
/// The refusal to report.
pub(super) fn write(child: Pid, around: Circumstances) -> Result<(), Refusal> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    if has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID) {
        return write_identity(child, around);
    }
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
    for (helper, file, id) in
        [("newgidmap", "/etc/subgid", gid.as_raw()), ("newuidmap", "/etc/subuid", uid.as_raw())]
    {
        let ranges = fs::read_to_string(file)
            .map(|text| subordinate(&text, user.as_deref(), uid.as_raw()))
            .unwrap_or_default();
        let map = with_root(id, &ranges);
        if count(&map) < ENOUGH {
            return Err(no_range(file, user.as_deref().unwrap_or("this user"), uid.as_raw()));
        }
        run_helper(helper, child, &map, around)?;
    }
    Ok(())
}

/// Writes the map of one id, which needs no right at all once setgroups(2) is
/// given up (user_namespaces(7)).
///
/// # Errors
/// What the kernel answers.
pub(super) fn write_single(child: Pid) -> io::Result<()> {
    fs::write(format!("/proc/{child}/setgroups"), "deny")?;
    fs::write(format!("/proc/{child}/gid_map"), format!("0 {} 1\n", Gid::effective()))?;
    fs::write(format!("/proc/{child}/uid_map"), format!("0 {} 1\n", Uid::effective()))
}

fn write_identity(child: Pid, around: Circumstances) -> Result<(), Refusal> {
    let refused = |error: &io::Error| explain(Attempt::WriteMap, error.raw_os_error().unwrap_or(0), around);
    let map = IdMap::current().map_err(|error| refused(&error))?;
    for (file, ranges) in [("gid_map", &map.gids), ("uid_map", &map.uids)] {
        if count(ranges) < ENOUGH || !ranges.iter().any(|range| range.has(0)) {
            return Err(Refusal {
                rung: Rung::Namespaces,
                call: format!("reading /proc/self/{file}"),
                errno: 0,
                cause: format!("only {} ids exist in this container", count(ranges)),
                change: "give its user namespace 65536 ids".to_owned(),
            });
        }
        let text: String =
            ranges.iter().map(|range| format!("{0} {0} {1}\n", range.inside, range.count)).collect();
        fs::write(format!("/proc/{child}/{file}"), text).map_err(|error| refused(&error))?;
    }
    Ok(())
}

fn count(ranges: &[IdRange]) -> u64 {
    ranges.iter().map(|range| u64::from(range.count)).sum()
}

/// The ranges that a line of `/etc/subuid` gives to this user, by name or number.
fn subordinate(text: &str, user: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (Some(owner) == user || owner == number).then_some(range)
        })
        .collect()
}

/// The caller as root, then the subordinate ids from 1 on.
fn with_root(id: u32, subordinate: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange { inside: 0, outside: id, count: 1 }];
    let mut inside = 1_u32;
    for &(outside, count) in subordinate {
        // Ids end at 2^32 - 2: a range that would pass that is cut there.
        let count = count.min(u32::MAX - inside).min(u32::MAX - outside);
        if count > 0 {
            map.push(IdRange { inside, outside, count });
            inside += count;
        }
    }
    map
}

fn run_helper(helper: &str, child: Pid, map: &[IdRange], around: Circumstances) -> Result<(), Refusal> {
    let numbers = map.iter().flat_map(|range| [range.inside, range.outside, range.count]);
    let output = Command::new(helper)
        .arg(child.to_string())
        .args(numbers.map(|number| number.to_string()))
        .env_clear()
        .env("PATH", HELPER_PATH)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(helper_refused(helper, &String::from_utf8_lossy(&output.stderr), around)),
        Err(error) => Err(helper_not_started(helper, &error)),
    }
}

const HELPER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A program with file capabilities outside the bounding set is not even
/// started (capabilities(7), "Safety checking for capability-dumb binaries").
fn helper_not_started(helper: &str, error: &io::Error) -> Refusal {
    let (cause, change) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            format!("this container has dropped the capabilities that {helper} needs"),
            "do not drop SETUID and SETGID, and set allowPrivilegeEscalation to true",
        ),
        _ => (
            format!("an ordinary user cannot map ids without {helper}"),
            "install it (Debian and Alpine: package `uidmap` or `shadow-uidmap`)",
        ),
    };
    let errno = error.raw_os_error().unwrap_or(0);
    let (call, change) = (format!("execve({helper})"), change.to_owned());
    Refusal { rung: Rung::Namespaces, call, errno, cause, change }
}

/// newuidmap says what went wrong in words only.
fn helper_refused(helper: &str, stderr: &str, around: Circumstances) -> Refusal {
    let (cause, change) = if stderr.contains("not allowed") {
        ("this user may not map that range", "check the user's lines in /etc/subuid and /etc/subgid")
    } else if around.no_new_privileges {
        (
            "no_new_privs is set (allowPrivilegeEscalation is false), so newuidmap has no power",
            "set allowPrivilegeEscalation to true for the build container",
        )
    } else if is_setuid(helper) {
        (
            "a setuid newuidmap has no power here",
            "give it file capabilities instead: `setcap cap_setuid+ep` newuidmap, `setcap cap_setgid+ep` \
             newgidmap, and take the setuid bit away",
        )
    } else {
        ("newuidmap has no power here", "see its own message above the cause")
    };
    let said = stderr.trim().lines().last().unwrap_or_default();
    Refusal {
        rung: Rung::Namespaces,
        call: helper.to_owned(),
        errno: nix::libc::EPERM,
        cause: if said.is_empty() { cause.to_owned() } else { format!("{cause} (`{said}`)") },
        change: change.to_owned(),
    }
}

fn is_setuid(helper: &str) -> bool {
    HELPER_PATH
        .split(':')
        .find_map(|directory| fs::metadata(format!("{directory}/{helper}")).ok())
        .is_some_and(|metadata| metadata.permissions().mode() & 0o4000 != 0)
}

fn no_range(file: &str, user: &str, uid: u32) -> Refusal {
    Refusal {
        rung: Rung::Namespaces,
        call: format!("reading {file}"),
        errno: 0,
        cause: format!("{file} has no range of 65536 ids for {user} (uid {uid})"),
        change: format!("add a line `{user}:100000:65536` to /etc/subuid and /etc/subgid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_maps() {
        let map = parse_map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(map.len(), 2);
        assert_eq!(map[1], IdRange { inside: 1, outside: 100_000, count: 65_536 });
        assert!(map[1].has(65_536) && !map[1].has(65_537) && !map[1].has(0));
        assert_eq!(count(&parse_map("0 0 4294967295\n")), 4_294_967_295);
    }

    #[test]
    fn finds_subordinate_ranges_by_name_and_number() {
        let text = "alice:100000:65536\n# no\nbob:165536:65536\n1000:300000:10\nalice:x:1\n";
        assert_eq!(subordinate(text, Some("alice"), 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(subordinate(text, None, 1001), []);
    }

    #[test]
    fn puts_the_caller_first() {
        let map = with_root(1000, &[(100_000, 65_536), (300_000, 10)]);
        assert_eq!(
            map,
            [
                IdRange { inside: 0, outside: 1000, count: 1 },
                IdRange { inside: 1, outside: 100_000, count: 65_536 },
                IdRange { inside: 65_537, outside: 300_000, count: 10 },
            ]
        );
        let all: u64 = count(&with_root(0, &[(1, u32::MAX), (5, u32::MAX)]));
        assert!(all <= 1 << 32, "ids do not wrap around");
    }

    #[test]
    fn tells_what_newuidmap_meant() {
        let quiet = Circumstances::default();
        let text = helper_refused("newuidmap", "newuidmap: uid range [0-1) -> [0-1) not allowed\n", quiet);
        assert!(text.to_string().contains("/etc/subuid"), "{text}");
        let text = helper_not_started("newuidmap", &io::Error::from_raw_os_error(nix::libc::EPERM));
        assert!(text.to_string().contains("do not drop SETUID"), "{text}");
        let text = helper_not_started("newuidmap", &io::Error::from_raw_os_error(nix::libc::ENOENT));
        assert!(text.to_string().contains("install it"), "{text}");
        let sealed = Circumstances { no_new_privileges: true, seccomp: false };
        let text = helper_refused("newuidmap", "newuidmap: write to uid_map failed", sealed);
        assert!(text.to_string().contains("allowPrivilegeEscalation"), "{text}");
    }
}
