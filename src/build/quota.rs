//! How much a build may have on disk that is not finished: what its RUNs write,
//! layers in the making, downloads.
//!
//! While a RUN runs its build's directory is measured again and again, and a RUN
//! that passes the quota is ended; after each step it is measured once more.
//! Between two looks it can be passed by what is written in that time. What is
//! finished (layers, trees, cache mounts) is not counted.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::error::StepError;

/// A number of bytes, written as `500m` or `20 GiB`: binary multiples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskQuota(pub u64);

/// Words that are no size.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("disk quota `{0}` is not a size such as `500m` or `20g`")]
pub struct BadQuota(String);

impl FromStr for DiskQuota {
    type Err = BadQuota;

    fn from_str(text: &str) -> Result<Self, BadQuota> {
        let text = text.trim();
        let wrong = || BadQuota(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let amount: u64 = text[..end].parse().map_err(|_| wrong())?;
        let unit = text[end..].trim_start().to_ascii_lowercase();
        let letters = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
        let place = ["", "k", "m", "g", "t"].iter().position(|known| *known == letters).ok_or_else(wrong)?;
        let bytes = (0..place).try_fold(amount, |bytes, _| bytes.checked_mul(1024)).ok_or_else(wrong)?;
        if bytes == 0 { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for DiskQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

/// The quota of one build and the directory it is about.
#[derive(Debug)]
pub(super) struct Quota {
    limit: Option<DiskQuota>,
    directory: PathBuf,
}

impl Quota {
    pub(super) fn new(limit: Option<DiskQuota>, directory: PathBuf) -> Self {
        Self { limit, directory }
    }

    /// Measures once.
    ///
    /// # Errors
    /// When the quota is passed.
    pub(super) fn check(&self) -> Result<(), StepError> {
        match self.limit {
            Some(limit) if bytes_below(&self.directory) > limit.0 => Err(StepError::DiskQuota(limit)),
            _ => Ok(()),
        }
    }

    /// Measures until the watch is dropped.
    pub(super) fn watch(&self) -> Watch {
        let passed = Arc::new(AtomicBool::new(false));
        let running = self.limit.map(|limit| {
            let (stop, stopped) = mpsc::channel::<()>();
            let (directory, passed) = (self.directory.clone(), Arc::clone(&passed));
            let thread = std::thread::spawn(move || {
                let mut pause = SHORTEST;
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    let started = Instant::now();
                    passed.store(bytes_below(&directory) > limit.0, Ordering::Relaxed);
                    pause = SHORTEST.max(started.elapsed() * 10);
                }
            });
            (stop, thread)
        });
        Watch { passed, running }
    }
}

/// Never oftener, and never more than a tenth of one processor's time.
const SHORTEST: Duration = Duration::from_millis(200);

/// Somebody is looking.
#[derive(Debug)]
pub(super) struct Watch {
    passed: Arc<AtomicBool>,
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watch {
    pub(super) fn is_passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A panic in it has been printed; there is nothing to clean up.
            let _ = thread.join();
        }
    }
}

/// What the files below `path` take on disk; hard links count once. A place too
/// deep to be measured counts as full: a RUN could hide anything there.
fn bytes_below(path: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut seen = HashSet::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        // What is gone in between counts as nothing.
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return u64::MAX,
            Err(_) => continue,
            Ok(found) => found,
        };
        if found.is_dir() || found.nlink() < 2 || seen.insert((found.dev(), found.ino())) {
            bytes = bytes.saturating_add(found.blocks().saturating_mul(512));
        }
        if found.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            pending.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("5k", Some(5 << 10)),
            ("500 MiB", Some(500 << 20)),
            ("2GB", Some(2 << 30)),
            ("1t", Some(1 << 40)),
            ("", None),
            ("0", None),
            ("-1", None),
            ("1.5g", None),
            ("9x", None),
            ("99999999999t", None),
        ] {
            assert_eq!(text.parse::<DiskQuota>().ok().map(|quota| quota.0), expected, "{text}");
        }
    }

    #[test]
    fn counts_what_is_there_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("d")).unwrap();
        fs::write(directory.path().join("d/a"), vec![1; 300_000]).unwrap();
        fs::hard_link(directory.path().join("d/a"), directory.path().join("b")).unwrap();
        let bytes = bytes_below(directory.path());
        assert!((300_000..600_000).contains(&bytes), "{bytes}");
        let quota = |limit| Quota::new(Some(DiskQuota(limit)), directory.path().to_owned());
        assert!(quota(bytes).check().is_ok());
        assert!(matches!(quota(bytes - 1).check(), Err(StepError::DiskQuota(_))));
        let watch = quota(1).watch();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !watch.is_passed() {
            assert!(Instant::now() < deadline, "nobody looks");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
