//! The processes of a RUN and of its builder: how they end, and what they see of
//! each other.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coracle::sandbox::{Error, MountSpec, Protections, Root};

use super::bench::{Bench, spec};
use super::{AS_BUILDER, ON_MOUNTS, ON_SINGLE};

pub(crate) fn ends_when_cancelled(bench: &Bench) {
    let root = bench.overlay();
    let started = Instant::now();
    let cancelled = || started.elapsed() > Duration::from_millis(300);
    let nap = nap(1);
    let script =
        format!("sleep {nap} & setsid sleep {nap} & trap '' TERM INT; while true; do sleep {nap}; done");
    let error = bench.try_run(&spec(&root.root, &script), &cancelled).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(processes_with(&format!("sleep\u{0}{nap}")), Vec::<PathBuf>::new());
}

/// What the kernel was told: tests/escape starts as many.
pub(crate) fn limits_tasks(bench: &Bench) {
    const LIMIT: &str = "awk '/^Max processes/ { print $4 }' /proc/self/limits";
    let root = bench.overlay();
    let outer: u64 =
        fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let version = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).flat_map(str::parse::<u32>);
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version >= (6, 14) {
        bench.shell(&root, "cat /proc/sys/kernel/pid_max").is("8192\n");
    }
    if version >= (5, 14) && outer != 0 {
        bench.shell(&root, LIMIT).is("8192\n");
    }
    let mut asked = spec(&root.root, LIMIT);
    asked.ulimits = vec!["nproc=999".parse().unwrap()];
    bench.run(&asked).is("999\n");
}

pub(crate) fn does_not_wait_for_background_processes(bench: &Bench) {
    let root = bench.overlay();
    let started = Instant::now();
    let nap = nap(2);
    bench.shell(&root, &format!("sleep {nap} & echo done")).is("done\n");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(processes_with(&format!("sleep\u{0}{nap}")), Vec::<PathBuf>::new());
}

/// RUN, as root, with the whole outer /proc in view, tries to read the
/// builder's environment, memory and root, and does the same to a process that
/// is not protected: another RUN of the same builder.
pub(crate) fn hides_the_builder(bench: &Bench) {
    let root = bench.overlay();
    let other = bench.overlay();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let guard = Guard(&stop);
        let (sleeps, sleeping) = (format!("sleep {}", nap(3)), format!("sleep\u{0}{}", nap(3)));
        let mut open = spec(&other.root, &sleeps);
        open.env.push(("CONTROL".into(), "readable".into()));
        let cancelled = || stop.load(Ordering::Relaxed);
        let control = scope.spawn(move || bench.try_run(&open, &cancelled).map(drop));
        let started = Instant::now();
        while processes_with(&sleeping).is_empty() && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let control_pid = processes_with(&sleeping)[0].file_name().unwrap().to_str().unwrap().to_owned();
        let probe = |pid: &str| {
            let script = format!(
                "p=/outer/{pid}; n=0
                 [ -n \"$(cat $p/environ 2>/dev/null)\" ] && n=$((n+1))
                 dd if=$p/mem of=/dev/null bs=1 count=1 2>&1 | grep -q -i 'permission denied' || n=$((n+1))
                 ls $p/root/ >/dev/null 2>&1 && n=$((n+1))
                 readlink $p/fd/1 >/dev/null 2>&1 && n=$((n+1))
                 [ -d $p ] || n=absent
                 echo $n"
            );
            let mut order = spec(&root.root, &script);
            // Landlock too hides whatever is not of this RUN; it is not everywhere.
            order.protections = without_scopes();
            let source = PathBuf::from("/proc");
            order.mounts = vec![MountSpec::Bind { source, target: "/outer".into(), read_only: false }];
            bench.run(&order).stdout
        };
        let own = std::process::id().to_string();
        let first = nix::unistd::getppid().to_string();
        let found = [probe(&own), probe(&first), probe(&control_pid)];
        drop(guard);
        assert!(matches!(control.join().unwrap(), Err(Error::Cancelled)));
        assert_eq!(found, ["0\n", "0\n", "4\n"], "builder, first process, unprotected process");
    });
}

#[cfg(debug_assertions)]
fn without_scopes() -> Protections {
    Protections::without(&[coracle::sandbox::Protection::Scopes])
}

/// A release build can leave nothing out, so the case is ignored there.
#[cfg(not(debug_assertions))]
fn without_scopes() -> Protections {
    Protections::default()
}

/// Ends the control also when an assertion fails first.
pub(crate) struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn runs_side_by_side(bench: &Bench) {
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let root = bench.overlay();
                bench.shell(&root, &format!("echo {number}")).is(&format!("{number}\n"));
            });
        }
    });
}

pub(crate) fn ends_as_the_builder_ends(bench: &Bench) {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    let end = |how: &str, signal: Option<&str>| {
        let state = bench.directory();
        let mut first = Command::new(std::env::current_exe().unwrap())
            .args([AS_BUILDER, how])
            .arg(state.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(first.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        if let Some(signal) = signal {
            let pid = nix::unistd::Pid::from_raw(first.id().cast_signed());
            nix::sys::signal::kill(pid, signal.parse::<nix::sys::signal::Signal>().unwrap()).unwrap();
        }
        let status = first.wait().unwrap();
        // The builder holds the other end: its end is the builder's.
        let started = Instant::now();
        output.read_to_string(&mut line).unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "the builder outlived the first process");
        (status.code(), status.signal())
    };
    assert_eq!(end("exit", None), (Some(7), None));
    assert_eq!(end("die", None), (None, Some(9)));
    assert_eq!(end("wait", Some("SIGTERM")), (None, Some(15)));
    assert_eq!(end("wait", Some("SIGUSR1")), (None, Some(10)));
    assert_eq!(end("wait", Some("SIGKILL")), (None, Some(9)));
}

pub(crate) fn costs_little(bench: &Bench) {
    for root in bench.roots() {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let started = Instant::now();
                bench.run(&spec(&root.root, "true"));
                started.elapsed()
            })
            .collect();
        times.sort();
        let kind = if matches!(root.root, Root::Plain(_)) { "plain" } else { "overlay" };
        eprintln!("RUN true, {kind}: median {:?}, worst {:?}", times[10], times[20]);
        assert!(times[10] < Duration::from_secs(1), "a start takes milliseconds, not seconds");
    }
}

/// The builder of `namespaces` is root of its user namespace, which is all that
/// `mounts` asks for.
pub(crate) fn passes_on_mounts_too(_: &Bench) {
    pass_again(ON_MOUNTS, "mounts");
}

/// It could give up all but one of its ids as well.
pub(crate) fn passes_on_single_too(_: &Bench) {
    pass_again(ON_SINGLE, "single");
}

pub(crate) fn pass_again(how: &str, rung: &str) {
    let program = std::env::current_exe().unwrap();
    let run = std::process::Command::new(program).args([how, "--quiet"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr) + String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains(&format!("entered `{rung}`")), "{said}");
}

/// Seconds that no other process sleeps: the same tests run on other rungs at the
/// same time.
pub(crate) fn nap(test: u32) -> u32 {
    test * 10_000_000 + std::process::id()
}

/// Processes whose command line holds `text`.
pub(crate) fn processes_with(text: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes
        .filter(|path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}
