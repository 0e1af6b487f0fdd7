//! Variables: what is visible where, and expanding words with it.

use std::collections::BTreeSet;

use super::report::Report;
use crate::dockerfile::word::{self, WordError};
use crate::dockerfile::{Span, Word, nearest};

/// Names and values in the order of first definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Variables(Vec<(String, String)>);

impl Variables {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// A word, and the variables it took its value from.
#[derive(Debug)]
pub(super) struct Expansion {
    pub(super) value: String,
    pub(super) matched: BTreeSet<String>,
    /// Used without a value; `${…-…}` is no excuse, as in BuildKit.
    pub(super) unmatched: BTreeSet<String>,
}

/// Expands one word and says what it used.
pub(super) fn expand(text: &str, escape: char, variables: &Variables) -> Result<Expansion, WordError> {
    let (mut matched, mut unmatched) = (BTreeSet::new(), BTreeSet::new());
    let value = word::expand(text, escape, &mut |name| {
        let value = variables.get(name);
        if value.is_some() {
            matched.insert(name.to_owned());
        } else {
            unmatched.insert(name.to_owned());
        }
        value.map(str::to_owned)
    })?;
    Ok(Expansion { value, matched, unmatched })
}

/// Expands the words of one instruction in a stage.
pub(super) struct Expander<'a> {
    pub(super) variables: &'a Variables,
    /// Names of all ARGs declared so far, with or without a value.
    pub(super) declared: &'a [(String, Option<String>)],
    pub(super) escape: char,
    /// False while the base's config is missing: then an unset variable may have a value.
    pub(super) complete: bool,
    pub(super) report: &'a mut Report,
}

impl Expander<'_> {
    /// One value; `None` when it cannot be expanded, which is said.
    pub(super) fn word(&mut self, word: &Word) -> Option<String> {
        self.text(&word.text, word.span)
    }

    /// The same for each; `None` when one fails.
    pub(super) fn words(&mut self, words: &[Word]) -> Option<Vec<String>> {
        // Collected first: every mistake is said, not just the first.
        let values: Vec<Option<String>> = words.iter().map(|word| self.word(word)).collect();
        values.into_iter().collect()
    }

    pub(super) fn text(&mut self, text: &str, span: Span) -> Option<String> {
        let escape = self.escape;
        self.with(text, span, |text, lookup| word::expand(text, escape, lookup))
    }

    /// Split at unquoted blanks. Of undefined variables nothing is said, as in BuildKit.
    pub(super) fn split(&mut self, word: &Word) -> Option<Vec<String>> {
        let known = self.variables;
        let complete = self.complete;
        let mut doubt = false;
        let words = word::expand_words(&word.text, self.escape, &mut |name| {
            let value = known.get(name).map(str::to_owned);
            doubt |= value.is_none() && !complete;
            value
        });
        if doubt {
            self.report.doubt();
        }
        self.report.take(word.span, words)
    }

    /// The body of an inline file. Always with a backslash, as in BuildKit.
    pub(super) fn heredoc(&mut self, text: &str, span: Span) -> Option<String> {
        self.with(text, span, |text, lookup| word::expand_heredoc(text, '\\', lookup))
    }

    fn with<T>(
        &mut self,
        text: &str,
        span: Span,
        expand: impl FnOnce(&str, word::Lookup<'_>) -> Result<T, WordError>,
    ) -> Option<T> {
        let mut missing = BTreeSet::new();
        let result = expand(text, &mut |name| {
            let value = self.variables.get(name);
            if value.is_none() {
                missing.insert(name.to_owned());
            }
            value.map(str::to_owned)
        });
        self.undefined(span, &missing);
        self.report.take(span, result)
    }

    fn undefined(&mut self, span: Span, missing: &BTreeSet<String>) {
        for name in missing {
            if !self.complete {
                self.report.doubt();
            }
            let declared = self.declared.iter().any(|(known, _)| known == name);
            if !declared {
                let guess = guess(name, &self.variables.names());
                self.report.warning("UndefinedVar", span, format!("`${name}` is not defined{guess}"));
            }
        }
    }
}

/// `, did you mean …?` where something similar is known.
pub(super) fn guess(name: &str, known: &[&str]) -> String {
    nearest(name, known).map(|known| format!(", did you mean `{known}`?")).unwrap_or_default()
}
