//! Nothing, unless a step fails: then what it printed last.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Mutex;

use super::text;
use super::{Event, Reporter, StepId, StepOutcome};

/// How many lines of a step are kept for the case that it fails.
const KEPT: usize = 100;

/// Says nothing of builds that work.
pub struct Quiet {
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    steps: BTreeMap<StepId, (String, VecDeque<String>)>,
}

impl Quiet {
    /// A reporter that writes to `out` when it must.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { state: Mutex::new(State { out: Box::new(out), steps: BTreeMap::new() }) }
    }
}

impl Reporter for Quiet {
    fn report(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match event {
            Event::StepStarted { id, label } => {
                state.steps.insert(id, (text::line(&label, false), VecDeque::new()));
            }
            Event::StepOutput { id, line, .. } => {
                if let Some((_, lines)) = state.steps.get_mut(&id) {
                    lines.push_back(text::line(&line, false));
                    lines.drain(..lines.len().saturating_sub(KEPT));
                }
            }
            Event::StepFinished { id, outcome, .. } => {
                if let Some((label, lines)) = state.steps.remove(&id)
                    && outcome == StepOutcome::Failed
                {
                    state.tell(&label, &lines);
                }
            }
            Event::Transfer { .. } | Event::Message { .. } => {}
        }
    }
}

impl State {
    fn tell(&mut self, label: &str, lines: &VecDeque<String>) {
        let short = text::short(label);
        let mut told = format!("{label}\n");
        for line in lines {
            told.push_str(format!("{short} | {line}").trim_end());
            told.push('\n');
        }
        // A reporter must not fail: who closes the log does not want the lines.
        let _ = self.out.write_all(told.as_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::progress::Stream;

    /// A log in memory that the test can read while the reporter writes.
    #[derive(Clone, Default)]
    pub(in crate::progress) struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        pub(in crate::progress) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_failure_speaks() {
        let log = Log::default();
        let quiet = Quiet::new(log.clone());
        for (id, outcome) in [(StepId(1), StepOutcome::Done), (StepId(2), StepOutcome::Failed)] {
            quiet.report(Event::StepStarted { id, label: "[a 1/1] RUN x".into() });
            for number in 0..150 {
                let line = format!("line {number}");
                quiet.report(Event::StepOutput { id, stream: Stream::Stderr, line });
            }
            quiet.warn("not shown".into());
            quiet.report(Event::StepFinished { id, outcome, elapsed: Duration::ZERO });
        }
        let text = log.text();
        assert_eq!(text.lines().count(), KEPT + 1);
        assert!(text.starts_with("[a 1/1] RUN x\n[a 1/1] | line 50\n") && text.ends_with("| line 149\n"));
    }
}
