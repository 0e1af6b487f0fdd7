//! The events themselves; nothing here draws.

use std::time::Duration;

/// Identifies one step of one build in its events: unique within the process'
/// build, in the order in which steps were announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// Which of a step's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It was executed.
    Done,
    /// Its result was known; nothing ran.
    Cached,
    /// It failed; the error itself is returned, not reported.
    Failed,
    /// Another step's failure or a signal stopped it.
    Cancelled,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferDirection {
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
}

/// How loud a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For people who debug coracle.
    Debug,
    /// Worth a line in every log.
    Info,
    /// Something the user should change.
    Warning,
}

/// One thing that happened. Text in an event never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    StepStarted {
        /// Which step.
        id: StepId,
        /// `[build 2/5] RUN make`: stage, position, instruction (one line).
        label: String,
    },
    /// A line that a step printed, without its line end.
    StepOutput {
        /// Which step.
        id: StepId,
        /// Which output.
        stream: Stream,
        /// The line, lossily decoded.
        line: String,
    },
    /// A step ended.
    StepFinished {
        /// Which step.
        id: StepId,
        /// How.
        outcome: StepOutcome,
        /// Since its start.
        elapsed: Duration,
    },
    /// A blob begins to move, or goes on.
    Transfer {
        /// Which way.
        direction: TransferDirection,
        /// Short digest and repository, for a human; also identifies the transfer.
        what: String,
        /// Bytes moved so far.
        done: u64,
        /// All bytes, where known.
        total: Option<u64>,
    },
    /// A line of text.
    Message {
        /// How loud.
        level: LogLevel,
        /// One or more lines, no line end.
        text: String,
    },
}

/// Takes events. Implementations are shared between threads.
pub trait Reporter: Send + Sync {
    /// Takes one event.
    fn report(&self, event: Event);

    /// `text` without the secrets this reporter hides: for errors that repeat
    /// what a step printed.
    fn clean(&self, text: String) -> String {
        text
    }

    /// Shorthand for an informational message.
    fn info(&self, text: String) {
        self.report(Event::Message { level: LogLevel::Info, text });
    }

    /// Shorthand for a warning.
    fn warn(&self, text: String) {
        self.report(Event::Message { level: LogLevel::Warning, text });
    }
}

impl<R: Reporter + ?Sized> Reporter for std::sync::Arc<R> {
    fn report(&self, event: Event) {
        (**self).report(event);
    }

    fn clean(&self, text: String) -> String {
        (**self).clean(text)
    }
}

impl<R: Reporter + ?Sized> Reporter for Box<R> {
    fn report(&self, event: Event) {
        (**self).report(event);
    }

    fn clean(&self, text: String) -> String {
        (**self).clean(text)
    }
}

/// A reporter that drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _event: Event) {}
}
