//! The isolation ladder in the sandboxes of CI systems, made with runc: which
//! rung is taken in each, and the same image from all.
//!
//! `cargo test --test sandboxes` builds a small Dockerfile and a combined one in
//! each of them (`CORACLE_SOAK=1`: every one of `dockerfiles/`); where root, runc
//! or the package pool (`pool.sh`) is missing it is shown as ignored, with the
//! reason. `CORACLE_SANDBOX_TABLE` names a file for the result table. By hand:
//!
//! ```text
//! cargo test --test sandboxes -- run docker-default coracle doctor
//! cargo test --test sandboxes -- run docker-default STATE_DIRECTORY CONTEXT coracle build /context
//! ```
//!
//! runs a command in a sandbox, with a state directory (one of its own if none
//! is named by an absolute path) at `/state` and a context at `/context`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what is meant")]
#![expect(unreachable_pub, reason = "one program: nothing here is seen from outside")]

mod agent;
mod bundle;
mod cases;
mod matrix;
mod original;
mod pool;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "this program uses a part of it")]
mod support;
mod table;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bundle::{Kit, Sandbox, Volume};
use libtest_mimic::Arguments;
use matrix::Matrix;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, run, name, rest @ ..] = &arguments[..]
        && run == "run"
    {
        return by_hand(name, rest);
    }
    let arguments = Arguments::from_args();
    // Leaked, because trials are 'static; what it holds on disk is removed below.
    let matrix: &'static Result<Matrix, String> = Box::leak(Box::new(Matrix::new(program())));
    let mut trials = original::trials();
    trials.extend(matrix::trials(matrix));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Ok(matrix) = matrix {
        matrix.finish();
    }
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
        target: "/context",
        read_only: true,
    }));
    let mut container = kit.container(&sandbox, &volumes, command);
    let status = container.command.status().unwrap();
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
