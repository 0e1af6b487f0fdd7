//! What a build says while it runs.
//!
//! The library never prints: it hands [`Event`]s to a [`Reporter`] that it was
//! given, and the binary picks how they look: plain lines for a CI log, bars
//! on a terminal, nothing. Reporters must be quick and must not fail.

mod event;

pub use event::{Event, LogLevel, Reporter, Silent, StepId, StepOutcome, Stream, TransferDirection};
