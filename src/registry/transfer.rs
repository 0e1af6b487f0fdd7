//! Telling how far a blob is, not more often than anyone can read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::image::{Descriptor, Reference};
use crate::progress::{Event, Reporter, TransferDirection};

/// Time between two reports of one blob.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// One blob on its way.
pub(super) struct Transfer {
    reporter: Arc<dyn Reporter>,
    direction: TransferDirection,
    what: String,
    total: u64,
    last: Option<Instant>,
}

impl Transfer {
    /// A blob that has not begun to move.
    pub(super) fn new(
        reporter: Arc<dyn Reporter>,
        direction: TransferDirection,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Self {
        let what = format!("{} {}", descriptor.digest.short(), reference.name());
        Self { reporter, direction, what, total: descriptor.size, last: None }
    }

    /// Reports `done` bytes unless it just did; the end is always reported.
    pub(super) fn at(&mut self, done: u64) {
        let due = self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if due || done >= self.total {
            self.last = Some(Instant::now());
            self.reporter.report(Event::Transfer {
                direction: self.direction,
                what: self.what.clone(),
                done,
                total: Some(self.total),
            });
        }
    }
}
