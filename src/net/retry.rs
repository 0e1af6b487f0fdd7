//! When to try again, and how long to wait before: exponential backoff with
//! jitter, the server's `Retry-After` honoured up to a limit.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How often and how patiently a request is repeated.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub attempts: u32,
    /// Wait before the second try; doubles each time.
    pub first_delay: Duration,
    /// No computed wait is longer.
    pub longest_delay: Duration,
    /// A longer `Retry-After` than this is cut to it: CI minutes cost money.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(20),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

/// The tries of one piece of work.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    failed: u32,
}

impl Backoff {
    /// No try has failed yet.
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed: 0 }
    }

    /// Counts a failure. The wait before the next try, or `None` when there is none left.
    pub fn failed(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= self.policy.attempts {
            return None;
        }
        let doubled = self.policy.first_delay.saturating_mul(1 << (self.failed - 1).min(16));
        let computed = jitter(doubled.min(self.policy.longest_delay));
        let asked = retry_after.map(|wait| wait.min(self.policy.longest_retry_after));
        Some(asked.map_or(computed, |wait| wait.max(computed)))
    }

    /// Forgets earlier failures, after progress was made.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// How many tries failed.
    pub fn failures(&self) -> u32 {
        self.failed
    }
}

/// Whether a server that answers so may answer otherwise in a moment
/// (RFC 9110 section 15.6, RFC 6585 section 4). 501 and 505 never change.
pub(super) fn worth_repeating(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error() && !matches!(status.as_u16(), 501 | 505))
}

/// `Retry-After`: seconds, or an HTTP date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    SystemTime::from(date.timestamp()).duration_since(SystemTime::now()).ok()
}

/// Between half of `delay` and all of it, so that jobs that failed together do
/// not come back together. The standard library's hash seeds are random enough.
fn jitter(delay: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1024;
    delay / 2 + delay.mul_f64(random as f64 / 2048.0)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let policy = RetryPolicy {
            attempts: 4,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(3),
            longest_retry_after: Duration::from_secs(9),
        };
        let mut backoff = Backoff::new(policy);
        for (least, most) in [(500, 1000), (1000, 2000), (1500, 3000)] {
            let wait = backoff.failed(None).expect("a try is left").as_millis();
            assert!((least..=most).contains(&wait), "{wait} is not in {least}..={most}");
        }
        assert_eq!(backoff.failed(None), None);
        backoff.reset();
        assert_eq!(backoff.failed(Some(Duration::from_secs(100))), Some(Duration::from_secs(9)));
    }

    #[test]
    fn retry_after_in_both_forms() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert!(read("Tue, 31 Dec 2199 23:59:59 GMT").is_some_and(|wait| wait.as_secs() > 1_000_000));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn only_passing_failures_are_repeated() {
        for (status, expected) in
            [(429, true), (500, true), (503, true), (501, false), (404, false), (401, false)]
        {
            assert_eq!(worth_repeating(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
