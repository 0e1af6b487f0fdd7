//! The disk behind [`Files`].

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use coracle::ci::Files;

/// Files larger than this are not what settings and `.git` name.
const LARGEST: u64 = 64 << 20;

/// Files relative to the working directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkingDirectory;

impl Files for WorkingDirectory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_at(path, 0, usize::try_from(LARGEST).unwrap_or(usize::MAX))
    }

    fn read_at(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        // A fifo would wait for a writer for ever.
        if !path.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn names(&self, path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }
}
