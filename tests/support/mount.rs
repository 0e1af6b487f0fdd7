//! A file system for a test, gone with it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounted until dropped. It stays only when the test program itself is killed.
pub struct Mounted(PathBuf);

impl Mounted {
    /// A tmpfs at `path` with these mount options. `Err` says why there is none.
    pub fn tmpfs(path: &Path, options: &str) -> Result<Self, String> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).status();
        match mounted {
            Ok(status) if status.success() => Ok(Self(path.to_owned())),
            _ => Err("mount is not allowed here".to_owned()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
