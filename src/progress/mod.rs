//! What a build says while it runs.
//!
//! The library never prints: it hands [`Event`]s to a [`Reporter`] that it was
//! given, and the binary picks how they look: [`Plain`] lines for a CI log,
//! bars on a terminal ([`Tty`]), [`RawJson`] for programs, [`Quiet`], nothing
//! ([`Silent`]). [`Redacting`] goes around any of them. Reporters must be quick
//! and must not fail.
//!
//! The log dialects of CI systems (foldable sections and the like) have their
//! place in [`Plain`]: a [`Dialect`] frames a step's lines.

mod event;
mod json;
mod lines;
mod plain;
mod quiet;
mod redact;
mod text;
mod tty;

pub use event::{Event, LogLevel, Reporter, Silent, StepId, StepOutcome, Stream, TransferDirection};
pub use json::RawJson;
pub use lines::LineBuffer;
pub use plain::{Dialect, NoDialect, Plain, PlainOptions};
pub use quiet::Quiet;
pub use redact::Redacting;
pub use tty::Tty;
