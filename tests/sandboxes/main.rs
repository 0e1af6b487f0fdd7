//! The isolation ladder in the sandboxes of CI systems, made with runc: which
//! rung is taken in each, and the same image from all.
//!
//! `cargo test --test sandboxes` runs all of them; where root or runc is
//! missing each is shown as ignored, with the reason. By hand:
//!
//! ```text
//! cargo test --test sandboxes -- run docker-default coracle doctor
//! cargo test --test sandboxes -- run docker-default STATE_DIRECTORY CONTEXT coracle build /work
//! ```
//!
//! runs a command in a sandbox, with a state directory (one of its own if none
//! is named by an absolute path) at `/state` and a context at `/work`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what is meant")]
#![expect(unreachable_pub, reason = "one program: nothing here is seen from outside")]

mod bundle;
mod profile;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bundle::{Kit, SANDBOXES, Sandbox, Volume};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, run, name, rest @ ..] = &arguments[..]
        && run == "run"
    {
        return by_hand(name, rest);
    }
    let arguments = Arguments::from_args();
    let kit: &'static Result<Kit, String> = Box::leak(Box::new(Kit::new(program())));
    let trials = SANDBOXES.iter().map(|sandbox| trial(sandbox, kit)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    conclusion.exit_code()
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_coracle"))
}

fn by_hand(name: &str, rest: &[String]) -> ExitCode {
    let sandbox = Sandbox::named(name).expect("the name of a sandbox");
    let kit = Kit::new(program()).expect("sandboxes can be made here");
    let directories = rest.iter().take_while(|argument| argument.starts_with('/')).count().min(2);
    let (given, command) = rest.split_at(directories);
    let state = given.first().map_or_else(|| kit.volume(&sandbox), PathBuf::from);
    let mut volumes = vec![Volume { source: state, target: "/state", read_only: false }];
    volumes.extend(given.get(1).map(|context| Volume {
        source: context.into(),
        target: "/work",
        read_only: true,
    }));
    let (mut command, _bundle) = kit.command(&sandbox, &volumes, command);
    let status = command.status().unwrap();
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn trial(sandbox: &'static Sandbox, kit: &'static Result<Kit, String>) -> Trial {
    Trial::ignorable_test(sandbox.name, move || match kit {
        Ok(kit) => judge(sandbox, kit),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// The sandbox is what it says.
fn judge(sandbox: &Sandbox, kit: &Kit) -> Result<Completion, Failed> {
    let state = Volume { source: kit.volume(sandbox), target: "/state", read_only: false };
    let output = kit.run(sandbox, &[state], &["coracle", "version"]);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(Completion::Completed)
}
