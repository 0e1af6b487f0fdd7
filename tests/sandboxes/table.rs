//! The result table of a long run.

use std::fs;
use std::path::Path;

use crate::bundle::SANDBOXES;
use crate::cases::CASES;

/// What a Dockerfile came to in a sandbox.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// As expected, with a remark.
    Ok(String),
    /// Not as expected.
    Failed(String),
    /// Not tried, and why.
    Skipped(String),
}

impl Default for Outcome {
    fn default() -> Self {
        Self::Skipped("not run".to_owned())
    }
}

/// One Dockerfile in one sandbox.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Of the sandbox.
    pub sandbox: &'static str,
    /// The rung that was taken.
    pub rung: String,
    /// Of the Dockerfile.
    pub case: &'static str,
    /// What it came to.
    pub outcome: Outcome,
    /// Of the image, if there is one.
    pub digest: String,
    /// From the start of doctor to the end of the comparison.
    pub seconds: f64,
}

/// All rows so far.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Takes a row.
    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Writes it as Markdown, sorted as the sandboxes and Dockerfiles are listed.
    pub fn write(&mut self, path: &Path) {
        let place = |row: &Row| {
            let sandbox = SANDBOXES.iter().position(|sandbox| sandbox.name == row.sandbox);
            (CASES.iter().position(|case| case.name == row.case), sandbox)
        };
        self.0.sort_by_key(place);
        let count = |wanted: fn(&Outcome) -> bool| self.0.iter().filter(|row| wanted(&row.outcome)).count();
        let ok = count(|outcome| matches!(outcome, Outcome::Ok(_)));
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        let mut text = format!(
            "# Sandboxes\n\nEvery Dockerfile of `tests/sandboxes/dockerfiles` in every sandbox, made by \
             `bench/sandboxes.sh` (`make soak`).\n{ok} ok, {failed} failed, {skipped} skipped. Digests under \
             SOURCE_DATE_EPOCH; `postgres` is compared by path, type,\nmode, owner, links and attributes.\n\n\
             | Dockerfile | sandbox | rung | result | digest | seconds |\n|---|---|---|---|---|---|\n"
        );
        self.0.iter().for_each(|row| text.push_str(&line(row)));
        fs::write(path, text).unwrap();
    }
}

fn line(row: &Row) -> String {
    let result = match &row.outcome {
        Outcome::Ok(note) if note.is_empty() => "ok".to_owned(),
        Outcome::Ok(note) => format!("ok: {note}"),
        Outcome::Failed(problem) => {
            format!("FAILED: {}", problem.lines().take(2).collect::<Vec<_>>().join(" "))
        }
        Outcome::Skipped(reason) => format!("skipped: {reason}"),
    };
    let digest = row.digest.strip_prefix("sha256:").unwrap_or("").get(..12).unwrap_or("");
    let Row { case, sandbox, rung, seconds, .. } = row;
    format!("| {case} | {sandbox} | {rung} | {} | {digest} | {seconds:.1} |\n", result.replace('|', "\\|"))
}
