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
    /// Not an id that a program can run as.
    #[error("the id {0} is out of range (at most {MOST})")]
    OutOfRange(u32),
    /// A name where there are no files to look it up in.
    #[error(
        "nobody is called `{0}` here: there is no `/etc/passwd` in `scratch`, and `--link` looks into nothing (use a number)"
    )]
    NoAccounts(String),
}

/// The highest id that runc takes.
const MOST: u32 = i32::MAX as u32;

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
            Some(group) => self.gid(group).map(|gid| (gid, vec![gid]))?,
            None => {
                let gid = entry.as_ref().map_or(0, |entry| entry.gid);
                (gid, self.memberships(entry.as_ref().map_or("", |entry| entry.name), gid))
            }
        };
        match [uid, gid].into_iter().find(|id| *id > MOST) {
            Some(id) => Err(IdentityError::OutOfRange(id)),
            None => Ok(Identity { uid, gid, groups, home }),
        }
    }

    /// What `--chown` means. A name that the stage does not know is 0, without
    /// an error, as BuildKit has it (dockerfile.md, row 95).
    pub(crate) fn owner(&self, chown: &str) -> (u32, u32) {
        let (name, group) = match chown.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (chown, None),
        };
        let (uid, own) = match (name.parse::<u32>(), self.user(name)) {
            // `--chown=1000` means 1000:1000, as in Docker.
            (Ok(number), _) => (number, number),
            (Err(_), Some(entry)) => (entry.uid, entry.gid),
            (Err(_), None) => (0, 0),
        };
        let gid = match group {
            None => own,
            Some("") => 0,
            // A group that the stage does not know changes nothing.
            Some(group) => self.gid(group).unwrap_or(own),
        };
        (known_id(uid), known_id(gid))
    }

    /// What of `chown` must be looked up, if anything: `root` is 0 everywhere.
    pub(crate) fn name_in(chown: &str) -> Option<&str> {
        chown.split(':').find(|part| !part.is_empty() && *part != "root" && part.parse::<u32>().is_err())
    }

    fn user<'a>(&'a self, wanted: &str) -> Option<User<'a>> {
        // A number is an id, even where somebody has that name.
        let number = wanted.parse::<u32>().ok();
        let matching = |user: &User<'_>| number.map_or(user.name == wanted, |number| user.uid == number);
        lines(&self.passwd).filter_map(parse_user).find(matching)
    }

    fn gid(&self, wanted: &str) -> Result<u32, IdentityError> {
        if let Ok(number) = wanted.parse() {
            return Ok(number);
        }
        let found = lines(&self.group).filter_map(parse_group).find(|group| group.name == wanted);
        found.map(|group| group.gid).ok_or_else(|| IdentityError::UnknownGroup(wanted.to_owned()))
    }

    /// In the order of the file, the primary group among them: BuildKit puts it
    /// in front where the file does not name it (CVE-2023-25173).
    fn memberships(&self, user: &str, primary: u32) -> Vec<u32> {
        let member = |group: &Group<'_>| group.members.split(',').any(|member| member.trim() == user);
        let named = lines(&self.group).filter_map(parse_group).filter(|_| !user.is_empty()).filter(member);
        let mut groups: Vec<u32> = Vec::new();
        for group in named {
            if !groups.contains(&group.gid) {
                groups.push(group.gid);
            }
        }
        if !groups.contains(&primary) {
            groups.insert(0, primary);
        }
        groups
    }
}

/// The number -1 leaves the owner as it is (chown(2)), which is root's.
fn known_id(id: u32) -> u32 {
    if id == u32::MAX { 0 } else { id }
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
    Some(User { name, uid, gid, home })
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
                b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:/bin/sh\nbob:x:1000:100::\n7:x:8:9::/seven:\n"
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
        check_run("", Ok((0, 0, &[0], "/root")));
        check_run("root", Ok((0, 0, &[0], "/root")));
        check_run("web", Ok((33, 33, &[4, 33], "/var/www")));
        check_run("bob", Ok((1000, 100, &[100, 4, 50], "")));
        check_run("bob:", Ok((1000, 100, &[100, 4, 50], "")));
        check_run("bob:staff", Ok((1000, 50, &[50], "")));
        check_run("33", Ok((33, 33, &[4, 33], "/var/www")));
        check_run("4242", Ok((4242, 0, &[0], "/")));
        check_run("4242:7", Ok((4242, 7, &[7], "/")));
        check_run("7", Ok((7, 0, &[0], "/")));
        check_run("2147483648", Err(IdentityError::OutOfRange(1 << 31)));
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
            ("bob:", (1000, 0)),
            ("4294967295", (0, 0)),
            ("7", (7, 7)),
        ] {
            assert_eq!(accounts().owner(chown), expected, "{chown}");
        }
    }
}
