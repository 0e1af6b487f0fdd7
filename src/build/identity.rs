//! Who a `USER` or `--chown` means: names looked up in the stage's own
//! `/etc/passwd` and `/etc/group`, never in the builder's.
//!
//! Pure: the two files arrive as bytes. They are written by hostile steps, so
//! a line that does not parse is no line.

use thiserror::Error;

/// The two files of a stage; empty where it has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    /// `/etc/passwd`.
    pub(crate) passwd: Vec<u8>,
    /// `/etc/group`.
    pub(crate) group: Vec<u8>,
}

/// What a RUN runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Why there is no such identity.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not in `/etc/passwd`.
    #[error("the stage's `/etc/passwd` has no user `{0}` (create it in an earlier RUN, or use a number)")]
    UnknownUser(String),
    /// Not in `/etc/group`.
    #[error("the stage's `/etc/group` has no group `{0}` (create it in an earlier RUN, or use a number)")]
    UnknownGroup(String),
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    /// What `USER user[:group]` means for a RUN; empty means root. A group
    /// given by hand takes the place of the supplementary groups, as in Docker.
    pub(crate) fn run_as(&self, user: &str) -> Result<Identity, IdentityError> {
        let (name, group) = split(user);
        let name = if name.is_empty() { "0" } else { name };
        let entry = self.user(name);
        let uid = match (&entry, name.parse()) {
            (Some(entry), _) => entry.uid,
            (None, Ok(uid)) => uid,
            (None, Err(_)) => return Err(IdentityError::UnknownUser(name.to_owned())),
        };
        let home = entry.as_ref().map_or(if uid == 0 { "/root" } else { "/" }, |entry| entry.home).to_owned();
        let (gid, groups) = match group {
            Some(group) => (self.gid(group)?, Vec::new()),
            None => {
                let gid = entry.as_ref().map_or(0, |entry| entry.gid);
                (gid, entry.map_or_else(Vec::new, |entry| self.memberships(entry.name, gid)))
            }
        };
        Ok(Identity { uid, gid, groups, home })
    }

    /// What `--chown` means. A name that the stage does not know is 0, without
    /// an error, as BuildKit has it (dockerfile.md, row 95).
    pub(crate) fn owner(&self, chown: &str) -> (u32, u32) {
        let (name, group) = split(chown);
        let entry = self.user(name);
        let uid = entry.as_ref().map(|entry| entry.uid).or_else(|| name.parse().ok()).unwrap_or(0);
        let own = match name.parse::<u32>() {
            // `--chown=1000` means 1000:1000, as in Docker.
            Ok(number) => number,
            Err(_) => entry.map_or(0, |entry| entry.gid),
        };
        // A group that the stage does not know changes nothing.
        (uid, group.and_then(|group| self.gid(group).ok()).unwrap_or(own))
    }

    fn user<'a>(&'a self, wanted: &str) -> Option<User<'a>> {
        let number = wanted.parse::<u32>().ok();
        let matching = |user: &User<'_>| user.name == wanted || Some(user.uid) == number;
        lines(&self.passwd).filter_map(parse_user).find(matching)
    }

    fn gid(&self, wanted: &str) -> Result<u32, IdentityError> {
        if let Ok(number) = wanted.parse() {
            return Ok(number);
        }
        let found = lines(&self.group).filter_map(parse_group).find(|group| group.name == wanted);
        found.map(|group| group.gid).ok_or_else(|| IdentityError::UnknownGroup(wanted.to_owned()))
    }

    fn memberships(&self, user: &str, primary: u32) -> Vec<u32> {
        let member = |group: &Group<'_>| group.members.split(',').any(|member| member.trim() == user);
        let mut groups: Vec<u32> =
            lines(&self.group).filter_map(parse_group).filter(member).map(|group| group.gid).collect();
        groups.retain(|gid| *gid != primary);
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

fn split(user: &str) -> (&str, Option<&str>) {
    match user.split_once(':') {
        Some((user, "")) => (user, None),
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

fn parse_user(line: &str) -> Option<User<'_>> {
    let mut fields = line.trim_end_matches('\r').split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (_comment, home) = (fields.next(), fields.next().unwrap_or(""));
    Some(User { name, uid, gid, home: if home.is_empty() { "/" } else { home } })
}

fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim_end_matches('\r').split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    Some(Group { name, gid: fields.next()?.parse().ok()?, members: fields.next().unwrap_or("") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd:
                b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:/bin/sh\nbob:x:1000:100::\n"
                    .to_vec(),
            group: b"root:x:0:\nadm:x:4:bob,web\nweb:x:33:web\nstaff:x:50:bob\n".to_vec(),
        }
    }

    fn check_run(user: &str, expected: Result<(u32, u32, &[u32], &str), IdentityError>) {
        let found = accounts().run_as(user);
        let expected = expected.map(|(uid, gid, groups, home)| Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        });
        assert_eq!(found, expected, "USER {user}");
    }

    #[test]
    fn users_of_a_run() {
        check_run("", Ok((0, 0, &[], "/root")));
        check_run("root", Ok((0, 0, &[], "/root")));
        check_run("web", Ok((33, 33, &[4], "/var/www")));
        check_run("bob", Ok((1000, 100, &[4, 50], "/")));
        check_run("bob:", Ok((1000, 100, &[4, 50], "/")));
        check_run("bob:staff", Ok((1000, 50, &[], "/")));
        check_run("33", Ok((33, 33, &[4], "/var/www")));
        check_run("4242", Ok((4242, 0, &[], "/")));
        check_run("4242:7", Ok((4242, 7, &[], "/")));
        check_run("nobody", Err(IdentityError::UnknownUser("nobody".into())));
        check_run("web:none", Err(IdentityError::UnknownGroup("none".into())));
    }

    #[test]
    fn owners_of_a_copy() {
        for (chown, expected) in [
            ("web", (33, 33)),
            ("bob:adm", (1000, 4)),
            ("12", (12, 12)),
            ("12:13", (12, 13)),
            (":adm", (0, 4)),
            ("nobody", (0, 0)),
            ("nobody:nogroup", (0, 0)),
            ("bob:nogroup", (1000, 100)),
            ("12:nogroup", (12, 12)),
            (":", (0, 0)),
        ] {
            assert_eq!(accounts().owner(chown), expected, "{chown}");
        }
    }
}
