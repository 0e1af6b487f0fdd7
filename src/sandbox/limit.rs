//! `--ulimit`: resource limits of a RUN (getrlimit(2)), as Docker writes them.

use std::io;
use std::str::FromStr;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Docker's names (go-units).
const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// One limit: `nofile=1024:4096`, `core=-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ulimit {
    name: &'static str,
    resource: Resource,
    soft: u64,
    hard: u64,
}

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "expected NAME=SOFT[:HARD], -1 for no limit".to_owned();
        let (name, limits) = text.split_once('=').ok_or_else(form)?;
        let found = NAMES.iter().find(|(known, _)| *known == name);
        let Some((name, resource)) = found else {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!("`{name}` is no limit (there are {})", names.join(", ")));
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (value(soft), value(hard)),
            None => (value(limits), value(limits)),
        };
        let (soft, hard) = soft.zip(hard).ok_or_else(form)?;
        match soft <= hard {
            true => Ok(Self { name, resource: *resource, soft, hard }),
            false => Err("the soft limit is above the hard one".to_owned()),
        }
    }
}

fn value(text: &str) -> Option<u64> {
    if text == "-1" { Some(RLIM_INFINITY) } else { text.parse().ok() }
}

impl std::fmt::Display for Ulimit {
    /// As it can be parsed again.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: u64| if value == RLIM_INFINITY { "-1".to_owned() } else { value.to_string() };
        write!(f, "{}={}:{}", self.name, shown(self.soft), shown(self.hard))
    }
}

impl Ulimit {
    /// Limits this process and what it becomes.
    pub(super) fn apply(&self) -> io::Result<()> {
        Ok(setrlimit(self.resource, self.soft, self.hard)?)
    }

    /// Whether it limits this resource.
    pub(super) fn is_of(&self, resource: Resource) -> bool {
        self.resource == resource
    }

    /// The highest value that a process without CAP_SYS_RESOURCE may ask for here.
    pub(super) fn highest(&self) -> String {
        match getrlimit(self.resource) {
            Ok((_, RLIM_INFINITY)) => "unlimited".to_owned(),
            Ok((_, hard)) => hard.to_string(),
            Err(errno) => errno.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        let check = |text: &str, expected: &str| {
            let limit: Ulimit = text.parse().unwrap();
            assert_eq!(limit.to_string(), expected);
            assert_eq!(limit, expected.parse().unwrap());
        };
        check("nofile=1024", "nofile=1024:1024");
        check("nofile=1024:4096", "nofile=1024:4096");
        check("core=-1", "core=-1:-1");
        check("stack=8:-1", "stack=8:-1");
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<Ulimit>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("nofile", "NAME=SOFT");
        check("nofile=x", "NAME=SOFT");
        check("nofile=1:2:3", "NAME=SOFT");
        check("as=1", "no limit (there are core,");
        check("nofile=2:1", "above");
        check("nofile=-1:1", "above");
    }
}
