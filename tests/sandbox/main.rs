//! RUN in real namespaces, end to end, with a root tree made of busybox.
//!
//! The first process enters before any thread exists, so this test has a main
//! of its own. It runs as whoever calls it: root and an ordinary user with
//! subordinate ids must both pass. Where the rung cannot be had every case is
//! shown as ignored, with the reason.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "all of this crate is a test, though it brings its own main"
)]

mod bench;
mod changes;
mod expected;
mod history;
mod processes;
mod rootfs;
mod run;
mod scan;
mod trees;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::sandbox::{self, Error, Rung, Wish};
use libtest_mimic::{Arguments, Failed, Trial};

use bench::Bench;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = sandbox::stub(&arguments).or_else(|| be_another(&arguments)) {
        return code.into();
    }
    let again = arguments.get(1).and_then(|argument| {
        [(ON_MOUNTS, Rung::Mounts), (ON_SINGLE, Rung::Single)].into_iter().find(|(name, _)| argument == name)
    });
    let rest = arguments.iter().enumerate().filter(|(place, _)| !(again.is_some() && *place == 1));
    let options = Arguments::from_iter(rest.map(|(_, argument)| argument.clone()));
    let bench = Arc::new(enter(again.map(|(_, rung)| rung)));
    let trials = CASES.iter().map(|(name, case)| trial(name, *case, &bench)).collect();
    libtest_mimic::run(&options, trials).exit_code()
}

/// Some cases start this program as something else.
fn be_another(arguments: &[OsString]) -> Option<u8> {
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u32>().ok()).expect("a number");
    match arguments {
        [_, mark, how, state] if mark == AS_BUILDER => {
            return Some(be_a_builder(how.to_str().unwrap_or_default(), Path::new(state)));
        }
        [_, mark, seed, operations] if mark == HISTORY => {
            let done = history::perform(number(seed).into(), number(operations));
            print!("{}", done.expect("`/w` can be read"));
        }
        [_, mark, entries, directory] if mark == SCAN => {
            let done = scan::perform(number(entries) as usize, Path::new(directory));
            println!("{}", done.expect("the directory is ours"));
        }
        _ => return None,
    }
    Some(0)
}

/// Enters the rung that is asked for, or the best one.
fn enter(isolation: Option<Rung>) -> Bench {
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir());
    let state = state.expect("a temporary directory can be made");
    let wish = Wish { isolation: Some(Rung::Virtual), storage: None, state_dir: state.path().to_owned() };
    assert!(matches!(sandbox::enter(&wish), Err(Error::NotBuilt(_))));
    let wish = Wish { isolation, storage: None, state_dir: state.path().to_owned() };
    let started = Instant::now();
    let entered = sandbox::enter(&wish).expect("the state directory is usable");
    eprintln!("entered `{}` in {:?}: {:?}", entered.rung, started.elapsed(), entered.storage);
    for refusal in entered.refusals.iter().chain(&entered.shortfalls) {
        eprintln!("refused: {refusal}");
    }
    assert_eq!(fs::read_dir(state.path()).expect("it is ours").count(), 0, "the probe leaves nothing");
    Bench::new(entered, state)
}

/// Runs every case once more on the rung `mounts`.
const ON_MOUNTS: &str = "--on-mounts";

/// And on the rung `single`.
const ON_SINGLE: &str = "--on-single";

/// Makes this program a builder that only ends in some way, so that its first
/// process can be watched from outside.
const AS_BUILDER: &str = "--as-builder";

/// Makes this program one that changes files, inside a RUN.
const HISTORY: &str = "--history";

/// Makes this program one that looks for changes in a tree, and nothing else.
const SCAN: &str = "--scan";

/// A switch of this program, such as `CORACLE_SOAK`.
#[expect(clippy::disallowed_methods, reason = "switches of the test program itself")]
fn switch(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn be_a_builder(how: &str, state: &Path) -> u8 {
    let wish = Wish { isolation: Some(Rung::Namespaces), storage: None, state_dir: state.to_owned() };
    sandbox::enter(&wish).expect("it was entered before");
    println!("ready");
    match how {
        "exit" => return 7,
        "die" => nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("it can be raised"),
        _ => std::thread::sleep(Duration::from_secs(60)),
    }
    0
}

fn trial(name: &str, case: Case, bench: &Arc<Bench>) -> Trial {
    let missing = what_is_missing(name, bench);
    let bench = Arc::clone(bench);
    let run = move || -> Result<(), Failed> {
        case(&bench);
        Ok(())
    };
    let shown = missing.map_or_else(|| name.to_owned(), |missing| format!("{name} ({missing})"));
    Trial::test(shown, run).with_ignored_flag(missing.is_some())
}

/// Why a case cannot run here.
fn what_is_missing(name: &str, bench: &Bench) -> Option<&'static str> {
    let rung = bench.entered.rung;
    if ![Rung::Namespaces, Rung::Mounts, Rung::Single].contains(&rung) || bench.busybox.is_none() {
        return Some("no namespaces or no busybox here");
    }
    if rung != Rung::Namespaces && NAMESPACES_ONLY.contains(&name) {
        return Some("of the rung `namespaces`");
    }
    (!cfg!(debug_assertions) && DEBUG_ONLY.contains(&name))
        .then_some("leaves a protection out, as no release build can")
}

/// About entering a namespace, about no RUN, or about this list.
const NAMESPACES_ONLY: [&str; 6] = [
    "passes_on_mounts_too",
    "passes_on_single_too",
    "ends_as_the_builder_ends",
    "costs_little",
    "scans_in_little_memory",
    "merges_more_layers_than_overlay_takes",
];

/// Needs `Protections::without`.
const DEBUG_ONLY: [&str; 1] = ["hides_the_builder"];

type Case = fn(&Bench);

const CASES: &[(&str, Case)] = &[
    ("carries_output_and_exit_code", run::carries_output_and_exit_code),
    ("tells_missing_programs_from_failing_ones", run::tells_missing_programs_from_failing_ones),
    ("gives_docker_capabilities_and_no_more", run::gives_docker_capabilities_and_no_more),
    ("shows_only_the_root", trees::shows_only_the_root),
    ("becomes_the_user", run::becomes_the_user),
    ("provides_network_files_without_a_trace", trees::provides_network_files_without_a_trace),
    ("mounts_what_it_is_told", trees::mounts_what_it_is_told),
    ("throws_scratch_writes_away", trees::throws_scratch_writes_away),
    ("ends_when_cancelled", processes::ends_when_cancelled),
    ("limits_tasks", processes::limits_tasks),
    ("does_not_wait_for_background_processes", processes::does_not_wait_for_background_processes),
    ("cuts_the_network", run::cuts_the_network),
    ("refuses_what_docker_refuses", run::refuses_what_docker_refuses),
    ("hides_the_builder", processes::hides_the_builder),
    ("stacks_many_lowers", trees::stacks_many_lowers),
    ("runs_side_by_side", processes::runs_side_by_side),
    ("packs_what_histories_did", rootfs::packs_what_histories_did),
    ("finds_what_times_hide", changes::finds_what_times_hide),
    ("takes_no_touch_for_a_change", changes::takes_no_touch_for_a_change),
    ("scans_in_little_memory", scan::scans_in_little_memory),
    ("rejoins_what_overlay_takes_apart", rootfs::rejoins_what_overlay_takes_apart),
    ("merges_more_layers_than_overlay_takes", rootfs::merges_more_layers_than_overlay_takes),
    ("packs_only_what_changed", rootfs::packs_only_what_changed),
    ("ends_as_the_builder_ends", processes::ends_as_the_builder_ends),
    ("costs_little", processes::costs_little),
    ("passes_on_mounts_too", processes::passes_on_mounts_too),
    ("passes_on_single_too", processes::passes_on_single_too),
];
