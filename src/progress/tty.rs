//! Bars and spinners for a person at a terminal.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;
use super::{Event, LogLevel, Reporter, StepId, StepOutcome, TransferDirection};

/// A spinner for every running step, a bar for every transfer, and above them
/// what steps print. When it is dropped the bars are gone.
pub struct Tty {
    bars: MultiProgress,
    state: Mutex<State>,
    colour: bool,
}

#[derive(Default)]
struct State {
    steps: BTreeMap<StepId, (String, ProgressBar)>,
    transfers: BTreeMap<String, ProgressBar>,
}

impl Tty {
    /// Draws on standard error.
    pub fn stderr(colour: bool) -> Self {
        Self::new(ProgressDrawTarget::stderr(), colour)
    }

    /// Draws on any target.
    pub fn new(target: ProgressDrawTarget, colour: bool) -> Self {
        Self { bars: MultiProgress::with_draw_target(target), state: Mutex::default(), colour }
    }

    /// A reporter must not fail: a terminal that is gone shows nothing.
    fn line(&self, line: impl AsRef<str>) {
        let _ = self.bars.println(line);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn started(&self, id: StepId, label: String) {
        let bar = self.bars.add(ProgressBar::new_spinner().with_style(spinner()));
        bar.set_message(label.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.state().steps.insert(id, (label, bar));
    }

    fn finished(&self, id: StepId, outcome: StepOutcome, elapsed: Duration) {
        let Some((label, bar)) = self.state().steps.remove(&id) else { return };
        bar.finish_and_clear();
        self.bars.remove(&bar);
        let elapsed = text::duration(elapsed);
        self.line(match outcome {
            StepOutcome::Done => format!("{label}  {elapsed}"),
            StepOutcome::Cached => format!("{label}  cached"),
            StepOutcome::Failed => format!("{label}  failed after {elapsed}"),
            StepOutcome::Cancelled => format!("{label}  cancelled"),
        });
    }

    fn moved(&self, direction: TransferDirection, what: String, done: u64, total: Option<u64>) {
        let mut state = self.state();
        let verb = match direction {
            TransferDirection::Pull => "pulling",
            TransferDirection::Push => "pushing",
        };
        let bar = state.transfers.entry(what.clone()).or_insert_with(|| {
            let bar = ProgressBar::no_length().with_style(transfer());
            bar.set_message(format!("{verb} {what}"));
            self.bars.add(bar)
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if total.is_some_and(|total| done >= total) {
            bar.finish_and_clear();
            self.bars.remove(bar);
            state.transfers.remove(&what);
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let state = std::mem::take(&mut *self.state());
        let steps = state.steps.into_values().map(|(_, bar)| bar);
        for bar in steps.chain(state.transfers.into_values()) {
            bar.finish_and_clear();
        }
    }
}

impl Reporter for Tty {
    fn report(&self, event: Event) {
        match event {
            Event::StepStarted { id, label } => self.started(id, text::line(&label, false)),
            Event::StepOutput { id, line, .. } => {
                let short = self.state().steps.get(&id).map(|(label, _)| text::short(label));
                let line = text::line(&line, self.colour);
                self.line(format!("{} | {line}", short.unwrap_or_default()));
            }
            Event::StepFinished { id, outcome, elapsed } => self.finished(id, outcome, elapsed),
            Event::Transfer { direction, what, done, total } => {
                self.moved(direction, text::line(&what, false), done, total);
            }
            Event::Message { level: LogLevel::Debug, .. } => {}
            Event::Message { level, text } => {
                let front = if level == LogLevel::Warning { "warning: " } else { "" };
                text::lines(&text, false).for_each(|line| self.line(format!("{front}{line}")));
            }
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}").expect("the template is well-formed")
}

fn transfer() -> ProgressStyle {
    ProgressStyle::with_template("  {wide_msg} {bar:20} {bytes}/{total_bytes}")
        .expect("the template is well-formed")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use indicatif::TermLike;

    use super::*;
    use crate::progress::Stream;
    use crate::progress::quiet::tests::Log;

    /// A terminal that keeps what is written and ignores the cursor.
    #[derive(Clone, Default)]
    struct Terminal(Log);

    impl std::fmt::Debug for Terminal {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Terminal")
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.0.clone().write_all(format!("{text}\n").as_bytes())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.clone().write_all(text.as_bytes())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn draws_steps_transfers_and_lines() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let tty = Tty::new(target, false);
        let id = StepId(3);
        tty.report(Event::StepStarted { id, label: "[a 1/2] RUN make".into() });
        tty.report(Event::StepOutput { id, stream: Stream::Stdout, line: "\u{1b}[2Jhello".into() });
        let transfer = |done| Event::Transfer {
            direction: TransferDirection::Pull,
            what: "abc".into(),
            done,
            total: Some(2),
        };
        tty.report(transfer(1));
        tty.report(transfer(2));
        tty.warn("careful".into());
        tty.report(Event::StepFinished { id, outcome: StepOutcome::Done, elapsed: Duration::from_secs(2) });
        drop(tty);
        let shown = terminal.0.text();
        for expected in ["[a 1/2] | hello", "warning: careful", "[a 1/2] RUN make  2.0s"] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
        assert!(!shown.contains("\u{1b}[2J"));
    }
}
