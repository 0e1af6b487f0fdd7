//! All integration tests, one program. `cargo test --test integration NAME`
//! runs those whose name contains NAME; a test that cannot run here says why
//! and counts as ignored, never as passed.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what is meant")]
#![expect(unreachable_pub, reason = "one program: nothing here is seen from outside")]

mod add;
mod architecture;
mod around;
mod bad_input;
mod build;
mod cache;
mod cli;
mod contexts;
mod differential;
mod escapes;
mod fuzz;
mod graph;
mod interrupt;
mod judge;
mod ladder;
mod push;
mod reproducible;
mod secrets;
mod single;
mod ssh;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials: Vec<Trial> = [
        add::trials(),
        architecture::trials(),
        around::trials(),
        bad_input::trials(),
        build::trials(),
        cache::trials(),
        cli::trials(),
        differential::trials(),
        escapes::trials(),
        fuzz::trials(),
        graph::trials(),
        contexts::trials(),
        interrupt::trials(),
        judge::trials(),
        ladder::trials(),
        push::trials(),
        reproducible::trials(),
        secrets::trials(),
        single::trials(),
        ssh::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    support::bench::clean_up();
    conclusion.exit_code()
}
