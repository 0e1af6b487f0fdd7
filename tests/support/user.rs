//! Who runs the program under test.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{getegid, geteuid};

/// The account that root's tests use for an ordinary user; made when missing.
const NAME: &str = "coracle-test";

/// Ids that a RUN needs besides the user's own (subuid(5)).
const RANGE: u32 = 65_536;

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

impl User {
    /// Whoever runs the tests.
    pub fn caller() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// Root, when that is the caller.
    pub fn root() -> Result<Self, String> {
        match Self::caller() {
            caller if caller.uid == 0 => Ok(caller),
            _ => Err("not root".to_owned()),
        }
    }

    /// An ordinary user with subordinate ids: the caller, or one that root makes.
    pub fn ordinary() -> Result<Self, String> {
        static FOUND: OnceLock<Result<User, String>> = OnceLock::new();
        FOUND.get_or_init(Self::find_ordinary).clone()
    }

    fn find_ordinary() -> Result<Self, String> {
        if !["/usr/bin/newuidmap", "/bin/newuidmap"].iter().any(|path| fs::exists(path).unwrap_or(false)) {
            return Err("newuidmap is not installed (package uidmap)".to_owned());
        }
        let caller = Self::caller();
        let (user, name) = match caller.uid {
            0 => (Self::named(NAME).or_else(|_| Self::make(NAME))?, NAME.to_owned()),
            uid => (caller, uid.to_string()),
        };
        user.subordinate(&name).then_some(user).ok_or_else(|| {
            format!("user {} has no {RANGE} subordinate ids in /etc/subuid and /etc/subgid", user.uid)
        })
    }

    fn named(name: &str) -> Result<Self, String> {
        let passwd = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
        let fields: Option<Vec<&str>> =
            passwd.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<_>| fields[0] == name);
        let number = |index: usize| fields.as_ref()?.get(index)?.parse().ok();
        match (number(2), number(3)) {
            (Some(uid), Some(gid)) => Ok(Self { uid, gid }),
            _ => Err(format!("there is no user {name}")),
        }
    }

    fn make(name: &str) -> Result<Self, String> {
        let status = Command::new("useradd").args(["--create-home", name]).status();
        match status {
            Ok(status) if status.success() => Self::named(name),
            other => Err(format!("useradd {name} does not work: {other:?}")),
        }
    }

    fn subordinate(self, name: &str) -> bool {
        let names = [name.to_owned(), self.uid.to_string(), Self::name_of(self.uid)];
        ["/etc/subuid", "/etc/subgid"].iter().all(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().any(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let count = fields.get(2).and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
                names.iter().any(|name| name == fields[0]) && count >= RANGE
            })
        })
    }

    fn name_of(uid: u32) -> String {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let found = lines.find(|fields| fields.get(2) == Some(&uid.to_string().as_str()));
        found.map(|fields| fields[0].to_owned()).unwrap_or_default()
    }
}
