//! One JSON object per line, for programs. Text is as it came: JSON escapes
//! what a terminal would act on.

use std::io::Write;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::{Event, LogLevel, Reporter, StepOutcome, Stream, TransferDirection};

/// Writes `{"type":…}` lines.
pub struct RawJson {
    out: Mutex<Box<dyn Write + Send>>,
}

impl RawJson {
    /// A reporter that writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Mutex::new(Box::new(out)) }
    }
}

impl Reporter for RawJson {
    fn report(&self, event: Event) {
        let line = format!("{}\n", object(&event));
        let mut out = self.out.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // A reporter must not fail: who closes the log does not want the lines.
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    }
}

fn object(event: &Event) -> Value {
    match event {
        Event::StepStarted { id, label } => json!({ "type": "step-started", "step": id.0, "label": label }),
        Event::StepOutput { id, stream, line } => {
            let stream = match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            };
            json!({ "type": "step-output", "step": id.0, "stream": stream, "line": line })
        }
        Event::StepFinished { id, outcome, elapsed } => {
            let outcome = match outcome {
                StepOutcome::Done => "done",
                StepOutcome::Cached => "cached",
                StepOutcome::Failed => "failed",
                StepOutcome::Cancelled => "cancelled",
            };
            let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            json!({ "type": "step-finished", "step": id.0, "outcome": outcome, "milliseconds": milliseconds })
        }
        Event::Transfer { direction, what, done, total } => {
            let direction = match direction {
                TransferDirection::Pull => "pull",
                TransferDirection::Push => "push",
            };
            json!({ "type": "transfer", "direction": direction, "what": what, "done": done, "total": total })
        }
        Event::Message { level, text } => {
            let level = match level {
                LogLevel::Debug => "debug",
                LogLevel::Info => "info",
                LogLevel::Warning => "warning",
            };
            json!({ "type": "message", "level": level, "text": text })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::progress::StepId;
    use crate::progress::quiet::tests::Log;

    #[test]
    fn one_object_per_line() {
        let log = Log::default();
        let reporter = RawJson::new(log.clone());
        let id = StepId(7);
        reporter.report(Event::StepStarted { id, label: "a \"b\"\nc".into() });
        reporter.report(Event::StepOutput { id, stream: Stream::Stderr, line: "\u{1b}[2J".into() });
        reporter.report(Event::StepFinished {
            id,
            outcome: StepOutcome::Done,
            elapsed: Duration::from_secs(1),
        });
        reporter.report(Event::Transfer {
            direction: TransferDirection::Push,
            what: "x".into(),
            done: 1,
            total: None,
        });
        reporter.warn("careful".into());
        let expected = [
            json!({ "type": "step-started", "step": 7, "label": "a \"b\"\nc" }),
            json!({ "type": "step-output", "step": 7, "stream": "stderr", "line": "\u{1b}[2J" }),
            json!({ "type": "step-finished", "step": 7, "outcome": "done", "milliseconds": 1000 }),
            json!({ "type": "transfer", "direction": "push", "what": "x", "done": 1, "total": null }),
            json!({ "type": "message", "level": "warning", "text": "careful" }),
        ];
        let found: Vec<Value> = log.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found, expected);
        assert!(!log.text().contains('\u{1b}'));
    }
}
