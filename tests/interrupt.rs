//! Signals: a build that is told to stop stops, and what a kill leaves behind
//! the next start sweeps.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::{Bench, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = as_everyone("interrupt::sigterm_in_a_run", sigterm_in_a_run);
    trials.extend(as_everyone("interrupt::kill_is_swept_by_the_next_start", kill_is_swept_by_the_next_start));
    trials.extend(as_everyone("interrupt::kill_is_swept_on_plain_storage", kill_is_swept_on_plain_storage));
    trials.extend(as_everyone("interrupt::kill_leaves_nothing_to_purge", kill_leaves_nothing_to_purge));
    trials.extend(as_everyone("interrupt::sigterm_while_hashing", sigterm_while_hashing));
    // The rung needs real root.
    let of_root = |trial: &Trial| trial.name().ends_with("as_root");
    trials.extend(
        as_everyone("interrupt::kill_loses_no_cache", kill_loses_no_cache).into_iter().filter(of_root),
    );
    trials
}

/// Nothing has run yet when the context is read, which may take long: here it is
/// a file of holes that would take minutes.
fn sigterm_while_hashing(mut bench: Bench) {
    bench.file("big", "");
    fs::File::options().write(true).open(bench.path("context/big")).unwrap().set_len(1 << 38).unwrap();
    bench.dockerfile("FROM scratch\nCOPY big /\n");
    let mut child = bench.command(&["build", "--progress", "plain", "-t", "x", "context"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    // Its first words; then it soon reads.
    stderr.read_line(&mut said).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(child.try_wait().unwrap().is_none(), "it ended before it was told");
    let told = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert!(told.elapsed() < Duration::from_secs(3), "it took {:?}", told.elapsed());
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the build was interrupted"), "{said}");
    bench.assert_clean();
}

/// A build that is running, ended when the test is.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What its RUN sleeps: long enough that only a signal ends it, and a number
    /// of its own by which /proc is searched.
    mark: String,
}

fn sigterm_in_a_run(bench: Bench) {
    let mut running = Running::start(bench);
    running.1.wait_for_sleep();
    let (bench, build) = (&running.0, &mut running.1);
    let told = Instant::now();
    kill_process(build.pid(), Signal::TERM).unwrap();
    let status = build.child.wait().unwrap();
    assert!(told.elapsed() < Duration::from_secs(10), "it took {:?}", told.elapsed());
    let mut said = String::new();
    build.stderr.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    bench.assert_clean();
    assert_eq!(build.processes(), Vec::<u32>::new(), "processes are left");
}

fn kill_is_swept_by_the_next_start(bench: Bench) {
    let (mut bench, held) = kill_in_a_run(bench);
    bench.dockerfile("FROM BASE\nRUN true\n");
    bench.build(&["-t", "after"]);
    drop(held);
}

fn kill_is_swept_on_plain_storage(mut bench: Bench) {
    bench.env("CORACLE_STORAGE", "plain");
    kill_is_swept_by_the_next_start(bench);
}

fn kill_leaves_nothing_to_purge(bench: Bench) {
    let (bench, held) = kill_in_a_run(bench);
    let run = bench.coracle(&["purge"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(!bench.state().join("builds").exists());
    drop(held);
}

/// Kills a build whose RUN has made files of another id, in a directory that is
/// shut. Where the machine lets us, the mount namespace of the RUN is held open:
/// nobody lives in it any more, and its mounts are still there.
fn kill_in_a_run(bench: Bench) -> (Bench, Option<fs::File>) {
    let foreign = "mkdir -m 700 /x && touch /x/y && chown -R 77:77 /x && ";
    let (bench, mut build) = Running::start_with(bench, foreign);
    build.wait_for_sleep();
    let run = build.processes();
    let held = run.iter().find_map(|pid| fs::File::open(format!("/proc/{pid}/ns/mnt")).ok());
    assert!(held.is_some() || !rustix::process::geteuid().is_root(), "root holds whatever it likes: {run:?}");
    kill_process_group(build.pid(), Signal::KILL).unwrap();
    build.child.wait().unwrap();
    // The RUN dies with the builder, whatever process group it is in.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !build.processes().is_empty() {
        assert!(Instant::now() < deadline, "processes are left: {:?}", build.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = fs::read_dir(bench.state().join("builds")).unwrap();
    let left = left.flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 1, "the killed build's directory was expected");
    (bench, held)
}

/// On the rung `chroot` a cache lies in the tree of the RUN while it is used.
fn kill_loses_no_cache(mut bench: Bench) {
    bench.env("CORACLE_ISOLATION", "chroot");
    let caches = "--mount=type=cache,target=/c --mount=type=cache,target=/c/inner";
    let fill = "echo outer > /c/file && echo inner > /c/inner/file";
    let (mut bench, mut build) = Running::start_with(bench, &format!("{caches} {fill} && "));
    build.wait_for_sleep();
    kill_process_group(build.pid(), Signal::KILL).unwrap();
    build.child.wait().unwrap();
    bench.dockerfile(&format!("FROM BASE\nRUN {caches} cat /c/file /c/inner/file > /found\n"));
    assert_eq!(bench.build(&["-t", "after"]).text("found"), "outer\ninner\n");
    let mounts = fs::read_dir(bench.state().join("mounts")).unwrap();
    let names: Vec<_> = mounts.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.ends_with(".lent")), "{names:?}");
}

impl Running {
    /// Starts a build in a process group of its own and waits for its RUN.
    fn start(bench: Bench) -> (Bench, Self) {
        Self::start_with(bench, "")
    }

    /// With something before the command.
    fn start_with(mut bench: Bench, before: &str) -> (Bench, Self) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}", 10_000_000 + std::process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed));
        bench.dockerfile(&format!("FROM BASE\nRUN {before}echo is-running && sleep {mark}\n"));
        let mut command = bench.command(&["build", "--progress", "plain", "-t", "x", "context"]);
        let mut child = command.process_group(0).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, stderr, mark };
        running.wait_for_run();
        (bench, running)
    }

    fn wait_for_run(&mut self) {
        let mut said = String::new();
        loop {
            let from = said.len();
            let count = self.stderr.read_line(&mut said).unwrap();
            assert!(count > 0, "it ended before its RUN was running:\n{said}");
            // The step's own line repeats the instruction; its output does not.
            if said[from..].contains("is-running") && !said[from..].contains("sleep") {
                return;
            }
        }
    }

    /// The shell has said that it is running and starts the program next.
    fn wait_for_sleep(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.processes().is_empty() {
            assert!(Instant::now() < deadline, "the RUN is not visible in /proc");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The processes of its RUN: those with the mark among their arguments.
    fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if arguments.split(|byte| *byte == 0).any(|argument| argument == self.mark.as_bytes()) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed on the way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
