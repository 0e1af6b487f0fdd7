//! Records of what takes no attribute: terminals, pipes, and files in memory of
//! older kernels. They live as long as the RUN, and no layer has any of them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat};

use super::call::kind;
use crate::metadata::Record;
use crate::sandbox::supervisor::walk::Inode;

/// More at once no build needs; each holds a descriptor.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Loose(Mutex<VecDeque<Known>>);

struct Known {
    inode: Inode,
    /// Held, so that its number cannot become another one's.
    handle: OwnedFd,
    record: Record,
}

impl Known {
    /// Whether it was a terminal: the next one of its number has its inode number
    /// too, though this one is held.
    fn is_closed(&self) -> bool {
        rustix::fs::fstat(&self.handle)
            .is_ok_and(|stat| kind(&stat) == FileType::CharacterDevice && stat.st_nlink == 0)
    }
}

impl Loose {
    pub(super) fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    pub(super) fn of(&self, stat: &Stat) -> Option<Record> {
        let known = self.known();
        let found = known.iter().find(|known| known.inode == (stat.st_dev, stat.st_ino))?;
        (!found.is_closed()).then(|| found.record.clone())
    }

    /// The oldest is forgotten when there are too many.
    pub(super) fn put(&self, record: Record, stat: &Stat, handle: OwnedFd) {
        let inode = (stat.st_dev, stat.st_ino);
        let mut known = self.known();
        known.retain(|known| known.inode != inode);
        if known.len() >= MOST {
            known.pop_front();
        }
        known.push_back(Known { inode, handle, record });
    }

    /// A panic elsewhere leaves the list whole.
    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_pipes_and_forgets_the_oldest() {
        let loose = Loose::default();
        let record = |uid| Record { owner: Some((uid, 7)), ..Record::default() };
        let (first, _writer) = rustix::pipe::pipe().unwrap();
        let stat = rustix::fs::fstat(&first).unwrap();
        assert_eq!(loose.of(&stat), None);
        loose.put(record(1), &stat, first.try_clone().unwrap());
        loose.put(record(2), &stat, first);
        assert_eq!(loose.of(&stat), Some(record(2)));
        for number in 0..MOST {
            let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            let stat = rustix::fs::fstat(&memory).unwrap();
            loose.put(record(u32::try_from(number).unwrap()), &stat, memory);
        }
        assert_eq!(loose.of(&stat), None);
    }
}
