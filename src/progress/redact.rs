//! Keeping secrets out of every reporter: `***` in place of what was registered.
//!
//! A net under the rope: secrets do not reach an event by our doing, but a step
//! may print what it was given. A secret is found within one line, as it is and
//! in base64, also inside a longer encoded text (`user:secret`). Secrets come as
//! bytes, because this room stands beside the one that wraps them.

use std::sync::RwLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::{Event, Reporter};

/// Anything shorter is found everywhere and protects nothing.
const SHORTEST: usize = 6;

/// Hands events on without the secrets in them.
pub struct Redacting<R> {
    inner: R,
    /// Longest first, so that a form is not hidden by a part of it.
    words: RwLock<Vec<String>>,
}

impl<R: Reporter> Redacting<R> {
    /// Wraps `inner`; no secret is known yet.
    pub fn new(inner: R) -> Self {
        Self { inner, words: RwLock::default() }
    }

    /// Registers one more secret. One shorter than six characters is not.
    pub fn add(&self, secret: &[u8]) {
        let mut words = self.words.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        words.extend(forms(secret));
        words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        words.dedup();
    }

    fn without_secrets(&self, mut text: String) -> String {
        let words = self.words.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        for word in words.iter() {
            if text.contains(word) {
                text = text.replace(word, "***");
            }
        }
        text
    }
}

impl<R: Reporter> Reporter for Redacting<R> {
    fn clean(&self, text: String) -> String {
        self.without_secrets(text)
    }

    fn report(&self, event: Event) {
        self.inner.report(match event {
            Event::StepStarted { id, label } => Event::StepStarted { id, label: self.without_secrets(label) },
            Event::StepOutput { id, stream, line } => {
                Event::StepOutput { id, stream, line: self.without_secrets(line) }
            }
            Event::Transfer { direction, what, done, total } => {
                Event::Transfer { direction, what: self.without_secrets(what), done, total }
            }
            Event::Message { level, text } => Event::Message { level, text: self.without_secrets(text) },
            finished @ Event::StepFinished { .. } => finished,
        });
    }
}

/// The texts by which a secret is known: itself, its lines if it has several,
/// and what base64 makes of it.
fn forms(secret: &[u8]) -> Vec<String> {
    let trimmed = secret.trim_ascii();
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(trimmed) {
        forms.push(text.to_owned());
        forms.extend(text.lines().map(|line| line.trim().to_owned()));
    }
    if trimmed.len() >= SHORTEST {
        for bytes in [secret, trimmed] {
            forms.extend([STANDARD.encode(bytes), URL_SAFE.encode(bytes)]);
        }
        for offset in 0..3 {
            forms.extend(inside_longer(trimmed, offset));
        }
    }
    forms.retain(|form| form.chars().count() >= SHORTEST);
    forms
}

/// What is always there when `secret` is encoded behind a text whose length is
/// `offset` more than a multiple of three: base64 turns three bytes into four
/// characters, and the first and last may mix with the neighbours.
fn inside_longer(secret: &[u8], offset: usize) -> Vec<String> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(secret);
    let mixed_front = (offset * 8).div_ceil(6);
    let mixed_back = usize::from(!bytes.len().is_multiple_of(3));
    let core = |encoded: String| encoded[mixed_front..encoded.len() - mixed_back].to_owned();
    vec![core(STANDARD_NO_PAD.encode(&bytes)), core(URL_SAFE_NO_PAD.encode(&bytes))]
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::progress::{Silent, StepId, Stream, TransferDirection};

    #[derive(Default)]
    struct Kept(Mutex<Vec<Event>>);

    impl Reporter for &Kept {
        fn report(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    fn redact(secret: &str, text: &str) -> String {
        let redacting = Redacting::new(Silent);
        redacting.add(secret.as_bytes());
        redacting.clean(text.to_owned())
    }

    #[test]
    fn secrets_become_stars() {
        for (secret, text, expected) in [
            ("hunter2", "password hunter2!", "password ***!"),
            ("hunter2", "hunter2hunter2", "******"),
            ("hunter2", "hunter", "hunter"),
            ("hunter2\n", "x hunter2", "x ***"),
            ("short", "short", "short"),
            ("", "anything", "anything"),
            ("hunter2", "aHVudGVyMg==", "***"),
            ("hunter2", "aHVudGVyMg", "***g"),
            ("line one\nline two", "see line two", "see ***"),
            ("pässwört", "pässwört", "***"),
        ] {
            assert_eq!(redact(secret, text), expected, "{secret:?} in {text:?}");
        }
    }

    #[test]
    fn also_inside_longer_base64() {
        let secret = "correct-horse?>battery";
        for front in ["", "u", "us", "use", "user:"] {
            for back in ["", "x", "xy", "xyz"] {
                for engine in [STANDARD, URL_SAFE] {
                    let encoded = engine.encode(format!("{front}{secret}{back}"));
                    let shown = redact(secret, &encoded);
                    assert!(shown.contains("***") && shown.len() < 25, "{encoded} → {shown}");
                }
            }
        }
    }

    #[test]
    fn every_text_of_every_event() {
        let kept = Kept::default();
        let redacting = Redacting::new(&kept);
        redacting.add(b"hunter2");
        let text = || "a hunter2 b".to_owned();
        redacting.report(Event::StepStarted { id: StepId(0), label: text() });
        redacting.report(Event::StepOutput { id: StepId(0), stream: Stream::Stdout, line: text() });
        redacting.report(Event::Transfer {
            direction: TransferDirection::Pull,
            what: text(),
            done: 0,
            total: None,
        });
        redacting.info(text());
        let events = kept.0.lock().unwrap();
        assert_eq!(events.len(), 4);
        for event in events.iter() {
            let shown = format!("{event:?}");
            assert!(shown.contains("a *** b") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
