//! The enemy's side: each function is one attempt, made inside a RUN.
//!
//! What it finds it prints; the builder knows what it should not have found.

pub mod files;
pub mod kernel;
pub mod mounts;
pub mod processes;
pub mod records;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::table::ATTEMPTS;
use crate::world::{GOT_IN, Target};

/// Makes this program an enemy.
pub const MARK: &str = "--attack";
/// A script in a RUN that this program outside is the interpreter of.
pub const INTERPRETED: &str = "/tmp/interpreted";
/// The variable that tells it everything.
pub const TARGET: &str = "TARGET";
/// Said when it has been tried.
pub const MADE: &str = "the attempt was made";

pub type Done = io::Result<()>;

#[expect(clippy::disallowed_methods, reason = "an enemy has nobody who hands it an environment")]
pub fn make(words: &str) -> ExitCode {
    if words == INTERPRETED {
        println!("{MADE}: {:?}", got_in());
        return ExitCode::SUCCESS;
    }
    let Some(attempt) = ATTEMPTS.iter().find(|attempt| attempt.name == words) else { return 2.into() };
    let target = std::env::var(TARGET).unwrap_or_default();
    let Ok(target) = serde_json::from_str::<Target>(&target) else { return 3.into() };
    let done = (attempt.attack)(&target);
    println!("{MADE}: {done:?}");
    ExitCode::SUCCESS
}

/// What was found.
pub fn show(bytes: &[u8]) -> Done {
    io::stdout().write_all(bytes)?;
    println!();
    io::stdout().flush()
}

/// For what only this process can know.
pub fn got_in() -> Done {
    show(GOT_IN.as_bytes())
}

/// Nothing is done inside: what matters was arranged before.
pub fn nothing(_: &Target) -> Done {
    Ok(())
}
