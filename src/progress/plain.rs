//! Lines for a log: no carriage returns, the step in front of every line, and a
//! sign of life while a step is silent.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::text;
use super::{Event, LogLevel, Reporter, StepId, StepOutcome, TransferDirection};

/// How plain lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainOptions {
    /// Keep the colours of step output.
    pub colour: bool,
    /// Show messages for people who debug coracle.
    pub debug: bool,
    /// After how much silence a running step is named again.
    pub heartbeat: Duration,
}

impl Default for PlainOptions {
    fn default() -> Self {
        Self { colour: false, debug: false, heartbeat: Duration::from_secs(10) }
    }
}

/// What a CI system wants around the lines of a step: the seam for foldable
/// sections. Each function returns text that is written as it is.
pub trait Dialect: Send {
    /// Before a step's first line.
    fn open(&mut self, id: StepId, label: &str) -> String;
    /// After its last; a failed step's section is left open by those that fold.
    fn close(&mut self, id: StepId, outcome: StepOutcome) -> String;
}

/// Nothing around a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDialect;

impl Dialect for NoDialect {
    fn open(&mut self, _id: StepId, _label: &str) -> String {
        String::new()
    }

    fn close(&mut self, _id: StepId, _outcome: StepOutcome) -> String {
        String::new()
    }
}

/// Writes plain lines. A thread of its own gives the signs of life; it ends when
/// the reporter is dropped.
pub struct Plain {
    shared: Arc<Shared>,
    heart: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
    options: PlainOptions,
}

struct State {
    out: Box<dyn Write + Send>,
    dialect: Box<dyn Dialect>,
    steps: BTreeMap<StepId, Running>,
    transfers: BTreeMap<String, Moving>,
    stop: bool,
}

struct Running {
    short: String,
    started: Instant,
    last_line: Instant,
}

struct Moving {
    direction: TransferDirection,
    done: u64,
    total: Option<u64>,
    last_line: Instant,
}

impl Plain {
    /// A reporter that writes to `out`.
    pub fn new(out: impl Write + Send + 'static, options: PlainOptions) -> Self {
        Self::with_dialect(out, options, Box::new(NoDialect))
    }

    /// The same with something around each step.
    pub fn with_dialect(
        out: impl Write + Send + 'static,
        options: PlainOptions,
        dialect: Box<dyn Dialect>,
    ) -> Self {
        let state = State {
            out: Box::new(out),
            dialect,
            steps: BTreeMap::new(),
            transfers: BTreeMap::new(),
            stop: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), stopped: Condvar::new(), options });
        let heart = {
            let shared = shared.clone();
            // Without a thread there is no sign of life, and everything else works.
            std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || shared.beat()).ok()
        };
        Self { shared, heart }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.stopped.notify_all();
        if let Some(heart) = self.heart.take() {
            // A panic there has been reported by the panic itself.
            let _ = heart.join();
        }
    }
}

impl Reporter for Plain {
    fn report(&self, event: Event) {
        let options = &self.shared.options;
        let mut state = self.shared.lock();
        match event {
            Event::StepStarted { id, label } => state.started(id, &text::line(&label, false)),
            Event::StepOutput { id, line, .. } => state.output(id, &text::line(&line, options.colour)),
            Event::StepFinished { id, outcome, elapsed } => state.finished(id, outcome, elapsed),
            Event::Transfer { direction, what, done, total } => state.moved(direction, what, done, total),
            Event::Message { level: LogLevel::Debug, .. } if !options.debug => {}
            Event::Message { level, text } => state.message(level, &text),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn beat(&self) {
        let mut state = self.lock();
        while !state.stop {
            let wait = state.next_sign(self.options.heartbeat);
            let waited = self.stopped.wait_timeout(state, wait);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            if !state.stop {
                state.signs(self.options.heartbeat);
            }
        }
    }
}

impl State {
    /// A reporter must not fail: who closes the log does not want the lines.
    fn line(&mut self, line: &str) {
        let _ = self.out.write_all(format!("{line}\n").as_bytes());
        let _ = self.out.flush();
    }

    fn frame(&mut self, frame: &str) {
        if !frame.is_empty() {
            // As in `line`.
            let _ = self.out.write_all(frame.as_bytes());
        }
    }

    fn started(&mut self, id: StepId, label: &str) {
        let frame = self.dialect.open(id, label);
        self.frame(&frame);
        self.line(label);
        let now = Instant::now();
        self.steps.insert(id, Running { short: text::short(label), started: now, last_line: now });
    }

    fn output(&mut self, id: StepId, line: &str) {
        let short = match self.steps.get_mut(&id) {
            Some(step) => {
                step.last_line = Instant::now();
                step.short.clone()
            }
            None => format!("[step {}]", id.0),
        };
        self.line(format!("{short} | {line}").trim_end());
    }

    fn finished(&mut self, id: StepId, outcome: StepOutcome, elapsed: Duration) {
        let short = self.steps.remove(&id).map_or_else(|| format!("[step {}]", id.0), |step| step.short);
        let elapsed = text::duration(elapsed);
        self.line(&match outcome {
            StepOutcome::Done => format!("{short} done in {elapsed}"),
            StepOutcome::Cached => format!("{short} cached"),
            StepOutcome::Failed => format!("{short} failed after {elapsed}"),
            StepOutcome::Cancelled => format!("{short} cancelled after {elapsed}"),
        });
        let frame = self.dialect.close(id, outcome);
        self.frame(&frame);
    }

    /// One line when all is there; the signs of life name what takes long.
    fn moved(&mut self, direction: TransferDirection, what: String, done: u64, total: Option<u64>) {
        let what = text::line(&what, false);
        if total.is_some_and(|total| done >= total) {
            self.transfers.remove(&what);
            let verb = match direction {
                TransferDirection::Pull => "pulled",
                TransferDirection::Push => "pushed",
            };
            self.line(&format!("{verb} {what}, {}", text::bytes(done)));
            return;
        }
        let now = Instant::now();
        let moving = Moving { direction, done, total, last_line: now };
        let entry = self.transfers.entry(what).or_insert(moving);
        (entry.done, entry.total) = (done, total);
    }

    fn message(&mut self, level: LogLevel, text: &str) {
        let front = match level {
            LogLevel::Debug => "debug: ",
            LogLevel::Info => "",
            LogLevel::Warning => "warning: ",
        };
        let mut front = front.to_owned();
        for line in text::lines(text, false) {
            self.line(&format!("{front}{line}"));
            front = " ".repeat(front.len());
        }
    }

    /// How long until something has been silent for `heartbeat`.
    fn next_sign(&self, heartbeat: Duration) -> Duration {
        let steps = self.steps.values().map(|step| step.last_line);
        let transfers = self.transfers.values().map(|moving| moving.last_line);
        let oldest = steps.chain(transfers).map(|last| last.elapsed()).max().unwrap_or_default();
        heartbeat.saturating_sub(oldest).max(Duration::from_millis(1))
    }

    fn signs(&mut self, heartbeat: Duration) {
        let now = Instant::now();
        let mut lines = Vec::new();
        for step in self.steps.values_mut().filter(|step| now - step.last_line >= heartbeat) {
            step.last_line = now;
            lines.push(format!("{} still running after {}", step.short, text::duration(now - step.started)));
        }
        for (what, moving) in
            self.transfers.iter_mut().filter(|(_, moving)| now - moving.last_line >= heartbeat)
        {
            moving.last_line = now;
            let verb = match moving.direction {
                TransferDirection::Pull => "pulling",
                TransferDirection::Push => "pushing",
            };
            let total = moving.total.map(|total| format!(" of {}", text::bytes(total))).unwrap_or_default();
            lines.push(format!("{verb} {what}: {}{total}", text::bytes(moving.done)));
        }
        for line in lines {
            self.line(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Stream;
    use crate::progress::quiet::tests::Log;

    const ID: StepId = StepId(1);

    fn started() -> Event {
        Event::StepStarted { id: ID, label: "[build 2/5] RUN make\u{1b}[2J".into() }
    }

    fn output(line: &str) -> Event {
        Event::StepOutput { id: ID, stream: Stream::Stdout, line: line.into() }
    }

    fn finished(outcome: StepOutcome) -> Event {
        Event::StepFinished { id: ID, outcome, elapsed: Duration::from_millis(1234) }
    }

    fn check(options: PlainOptions, events: Vec<Event>, expected: &[&str]) {
        let log = Log::default();
        let plain = Plain::new(log.clone(), options);
        for event in events {
            plain.report(event);
        }
        drop(plain);
        assert_eq!(log.text().lines().collect::<Vec<_>>(), expected);
        assert!(!log.text().contains('\r'));
    }

    #[test]
    fn a_step_is_told_line_by_line() {
        check(
            PlainOptions::default(),
            vec![
                started(),
                output("10%\r\u{1b}[32mok\u{1b}[0m"),
                output(""),
                finished(StepOutcome::Done),
                started(),
                finished(StepOutcome::Cached),
                finished(StepOutcome::Failed),
                output("late"),
            ],
            &[
                "[build 2/5] RUN make",
                "[build 2/5] | ok",
                "[build 2/5] |",
                "[build 2/5] done in 1.2s",
                "[build 2/5] RUN make",
                "[build 2/5] cached",
                "[step 1] failed after 1.2s",
                "[step 1] | late",
            ],
        );
    }

    #[test]
    fn colours_are_kept_when_wanted() {
        check(
            PlainOptions { colour: true, ..PlainOptions::default() },
            vec![started(), output("\u{1b}[32mok"), finished(StepOutcome::Cancelled)],
            &[
                "[build 2/5] RUN make",
                "[build 2/5] | \u{1b}[32mok\u{1b}[0m",
                "[build 2/5] cancelled after 1.2s",
            ],
        );
    }

    #[test]
    fn transfers_and_messages() {
        let transfer = |done, total| Event::Transfer {
            direction: TransferDirection::Pull,
            what: "abc of debian".into(),
            done,
            total,
        };
        let message = |level, text: &str| Event::Message { level, text: text.into() };
        check(
            PlainOptions::default(),
            vec![
                transfer(0, Some(2_000_000)),
                transfer(1_000_000, Some(2_000_000)),
                transfer(2_000_000, Some(2_000_000)),
                message(LogLevel::Debug, "hidden"),
                message(LogLevel::Info, "one\ntwo"),
                message(LogLevel::Warning, "one\ntwo"),
            ],
            &["pulled abc of debian, 2.0 MB", "one", "two", "warning: one", "         two"],
        );
    }

    #[test]
    fn a_silent_step_gives_signs_of_life() {
        let log = Log::default();
        let options = PlainOptions { heartbeat: Duration::from_millis(30), ..PlainOptions::default() };
        let plain = Plain::new(log.clone(), options);
        plain.report(started());
        let began = Instant::now();
        while log.text().matches("still running after").count() < 2 {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", log.text());
            std::thread::sleep(Duration::from_millis(5));
        }
        plain.report(finished(StepOutcome::Done));
        let lines = log.text().lines().count();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(log.text().lines().count(), lines, "no sign after the end");
    }

    #[test]
    fn a_dialect_frames_a_step() {
        struct Fold;
        impl Dialect for Fold {
            fn open(&mut self, _: StepId, label: &str) -> String {
                format!("::group::{label}\n")
            }
            fn close(&mut self, _: StepId, _: StepOutcome) -> String {
                "::endgroup::\n".into()
            }
        }
        let log = Log::default();
        let plain = Plain::with_dialect(log.clone(), PlainOptions::default(), Box::new(Fold));
        plain.report(started());
        plain.report(finished(StepOutcome::Cached));
        let expected =
            "::group::[build 2/5] RUN make\n[build 2/5] RUN make\n[build 2/5] cached\n::endgroup::\n";
        assert_eq!(log.text(), expected);
    }
}
