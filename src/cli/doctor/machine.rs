//! What a build meets besides isolation: the state volume, the clock, proxies.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

/// Proxies and their exceptions, in the two spellings in use.
const PROXY_VARIABLES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// A clock that is further off than this breaks TLS and tokens.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// 2025-01-01: coracle is younger.
const BEFORE_US: u64 = 1_735_689_600;

/// Space on the state volume, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// What this user can still write.
    pub(super) free: u64,
    /// All there is.
    pub(super) total: u64,
    /// Files that can still be made; 0 where the file system does not count.
    pub(super) free_files: u64,
}

impl Space {
    /// Of the volume that `directory` lies on.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(directory)?;
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free_files: found.f_favail,
        })
    }

    /// Hardly any base image fits into less.
    pub(super) fn is_small(self) -> bool {
        self.free < 1 << 30
    }
}

/// What time it is, and what is wrong with that.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) now: Timestamp,
    pub(super) problems: Vec<String>,
}

impl Clock {
    /// Compares this machine's clock with the age of this program and with the
    /// `Date` headers of registries.
    pub(super) fn check<'a>(now: SystemTime, dates: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(since).unwrap_or(i64::MAX);
        let now = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let mut problems = Vec::new();
        if since < BEFORE_US {
            problems.push("the clock is before the time this program was made: set it".to_owned());
        }
        problems.extend(dates.filter_map(|(host, date)| {
            let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
            let apart = theirs.abs_diff(seconds);
            (apart > SKEW.as_secs())
                .then(|| format!("the clock is {apart} seconds apart from that of `{host}`: set it"))
        }));
        Self { now, problems }
    }
}

/// The proxy variables that are set, without passwords.
pub(super) fn proxies(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    PROXY_VARIABLES
        .into_iter()
        .flat_map(|name| [name.to_owned(), name.to_ascii_uppercase()])
        .filter_map(|name| {
            let value = environment.get(&name).filter(|value| !value.is_empty())?;
            let shown = if name.eq_ignore_ascii_case("no_proxy") { value.clone() } else { redacted(value) };
            Some((name, shown))
        })
        .collect()
}

fn redacted(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else {
        // `user:password@host` is no URL, and used all the same.
        return address.rsplit_once('@').map_or(address, |(_, host)| host).to_owned();
    };
    let refused = (!url.username().is_empty() && url.set_username("***").is_err())
        || (url.password().is_some() && url.set_password(Some("***")).is_err());
    if refused || url.cannot_be_a_base() {
        return address.rsplit_once('@').map_or(address, |(_, host)| host).to_owned();
    }
    url.to_string()
}

impl Space {
    pub(super) fn to_json(self) -> Value {
        json!({"free_bytes": self.free, "total_bytes": self.total, "free_files": self.free_files})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_shown_without_passwords() {
        let environment: BTreeMap<String, String> = [
            ("HTTPS_PROXY", "http://me:secret@proxy:3128"),
            ("http_proxy", "me:secret@proxy:3128"),
            ("NO_PROXY", ".local,10.0.0.0/8"),
            ("ALL_PROXY", ""),
            ("OTHER", "x"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let shown = proxies(&environment);
        assert_eq!(shown["HTTPS_PROXY"], "http://***:***@proxy:3128/");
        assert_eq!(shown["http_proxy"], "proxy:3128");
        assert_eq!(shown["NO_PROXY"], ".local,10.0.0.0/8");
        assert_eq!(shown.len(), 3);
    }

    #[test]
    fn a_clock_is_compared() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let check = |seconds, date, expected: &str| {
            let problems = Clock::check(at(seconds), [("r.io", date)].into_iter()).problems.join("; ");
            assert!(problems.contains(expected) && problems.is_empty() == expected.is_empty(), "{problems}");
        };
        check(1_800_000_000, "Fri, 15 Jan 2027 08:00:00 GMT", "");
        check(1_800_000_000, "Fri, 15 Jan 2027 09:00:00 GMT", "3600 seconds apart from that of `r.io`");
        check(1_800_000_000, "nonsense", "");
        check(1_000_000, "nonsense", "before the time");
    }
}
