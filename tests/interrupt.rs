//! Signals: a build that is told to stop stops, and what a kill leaves behind
//! the next start sweeps.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::{Bench, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = as_everyone("interrupt::sigterm_in_a_run", sigterm_in_a_run);
    trials.extend(as_everyone("interrupt::kill_is_swept_by_the_next_start", kill_is_swept_by_the_next_start));
    trials
}

/// Long enough that only a signal ends it; the mark finds its processes.
const SLEEP: &str = "86399";

fn sleeping(bench: &mut Bench) {
    bench.dockerfile(&format!("FROM BASE\nRUN echo is-running && sleep {SLEEP}\n"));
}

fn sigterm_in_a_run(mut bench: Bench) {
    sleeping(&mut bench);
    let (mut child, mut stderr) = start(&bench);
    let sleeper = processes_of(&bench);
    assert!(!sleeper.is_empty(), "the RUN is not visible in /proc");
    let told = Instant::now();
    kill_process(pid(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert!(told.elapsed() < Duration::from_secs(10), "it took {:?}", told.elapsed());
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    bench.assert_clean();
    assert_eq!(processes_of(&bench), Vec::<u32>::new(), "processes are left");
}

fn kill_is_swept_by_the_next_start(mut bench: Bench) {
    sleeping(&mut bench);
    let (mut child, stderr) = start(&bench);
    kill_process_group(pid(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    drop(stderr);
    // The RUN dies with the builder, whatever process group it is in.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes_of(&bench).is_empty() {
        assert!(Instant::now() < deadline, "processes are left: {:?}", processes_of(&bench));
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = fs::read_dir(bench.state().join("builds")).unwrap().count();
    assert_eq!(left, 1, "the killed build's directory was expected");
    bench.dockerfile("FROM BASE\nRUN true\n");
    bench.build(&["-t", "after"]);
}

/// Starts the build in a process group of its own and waits for its RUN.
fn start(bench: &Bench) -> (Child, BufReader<ChildStderr>) {
    let mut command = bench.command(&["build", "--progress", "plain", "-t", "x", "context"]);
    let mut child = command.process_group(0).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    loop {
        let from = said.len();
        let count = stderr.read_line(&mut said).unwrap();
        assert!(count > 0, "it ended before its RUN was running:\n{said}");
        // The step's own line repeats the instruction; its output does not.
        if said[from..].contains("is-running") && !said[from..].contains("sleep") {
            return (child, stderr);
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Processes whose arguments or whose working directory belong to this bench's
/// RUN: `sleep 86399`, started since the bench exists.
fn processes_of(bench: &Bench) -> Vec<u32> {
    let state = bench.state();
    let state = state.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let sleeps = arguments.split(|byte| *byte == 0).any(|argument| argument == SLEEP.as_bytes());
        if sleeps && (mounts.contains(state) || mounts.contains("overlay")) {
            found.push(pid);
        }
    }
    found
}
