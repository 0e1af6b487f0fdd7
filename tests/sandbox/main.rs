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

mod expected;
mod history;
mod rootfs;
mod scan;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use coracle::metadata::Key;
use coracle::sandbox::{
    self, Entered, Error, Exit, MountSpec, OutputStream, Protection, Protections, Root, RunSpec, Rung,
    Sandbox, Wish,
};
use coracle::secret::Secret;
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = sandbox::stub(&arguments) {
        return code.into();
    }
    if let [_, mark, how, state] = &arguments[..]
        && mark == AS_BUILDER
    {
        return be_a_builder(how.to_str().unwrap_or_default(), Path::new(state));
    }
    if let [_, mark, seed, operations] = &arguments[..]
        && mark == HISTORY
    {
        let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u32>().ok());
        let (seed, operations) = (number(seed).expect("a number"), number(operations).expect("a number"));
        print!("{}", history::perform(seed.into(), operations).expect("`/w` can be read"));
        return ExitCode::SUCCESS;
    }
    if let [_, mark, entries, directory] = &arguments[..]
        && mark == SCAN
    {
        let entries = entries.to_str().and_then(|text| text.parse().ok()).expect("a number");
        println!("{}", scan::perform(entries, Path::new(directory)).expect("the directory is ours"));
        return ExitCode::SUCCESS;
    }
    let again = arguments.get(1).and_then(|argument| {
        [(ON_MOUNTS, Rung::Mounts), (ON_SINGLE, Rung::Single)].into_iter().find(|(name, _)| argument == name)
    });
    let rest = arguments.iter().enumerate().filter(|(place, _)| !(again.is_some() && *place == 1));
    let options = Arguments::from_iter(rest.map(|(_, argument)| argument.clone()));
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir());
    let state = state.expect("a temporary directory can be made");
    let wish = Wish { isolation: Some(Rung::Virtual), storage: None, state_dir: state.path().to_owned() };
    assert!(matches!(sandbox::enter(&wish), Err(Error::NotBuilt(_))));
    let isolation = again.map(|(_, rung)| rung);
    let wish = Wish { isolation, storage: None, state_dir: state.path().to_owned() };
    let started = Instant::now();
    let entered = sandbox::enter(&wish).expect("the state directory is usable");
    eprintln!("entered `{}` in {:?}: {:?}", entered.rung, started.elapsed(), entered.storage);
    for refusal in entered.refusals.iter().chain(&entered.shortfalls) {
        eprintln!("refused: {refusal}");
    }
    assert_eq!(fs::read_dir(state.path()).expect("it is ours").count(), 0, "the probe leaves nothing");
    let bench = Arc::new(Bench::new(entered, state));
    let trials = CASES.iter().map(|(name, case)| trial(name, *case, &bench)).collect();
    libtest_mimic::run(&options, trials).exit_code()
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

fn be_a_builder(how: &str, state: &Path) -> ExitCode {
    let wish = Wish { isolation: Some(Rung::Namespaces), storage: None, state_dir: state.to_owned() };
    sandbox::enter(&wish).expect("it was entered before");
    println!("ready");
    match how {
        "exit" => return ExitCode::from(7),
        "die" => nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("it can be raised"),
        _ => std::thread::sleep(Duration::from_secs(60)),
    }
    ExitCode::SUCCESS
}

fn trial(name: &str, case: Case, bench: &Arc<Bench>) -> Trial {
    let rungs = [Rung::Namespaces, Rung::Mounts, Rung::Single];
    let missing = !rungs.contains(&bench.entered.rung) || bench.busybox.is_none();
    let missing = missing || (bench.entered.rung != Rung::Namespaces && NAMESPACES_ONLY.contains(&name));
    let bench = Arc::clone(bench);
    let run = move || -> Result<(), Failed> {
        case(&bench);
        Ok(())
    };
    let name = if missing { format!("{name} (no namespaces or no busybox here)") } else { name.to_owned() };
    Trial::test(name, run).with_ignored_flag(missing)
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

type Case = fn(&Bench);

const CASES: &[(&str, Case)] = &[
    ("carries_output_and_exit_code", carries_output_and_exit_code),
    ("tells_missing_programs_from_failing_ones", tells_missing_programs_from_failing_ones),
    ("gives_docker_capabilities_and_no_more", gives_docker_capabilities_and_no_more),
    ("shows_only_the_root", shows_only_the_root),
    ("becomes_the_user", becomes_the_user),
    ("provides_network_files_without_a_trace", provides_network_files_without_a_trace),
    ("mounts_what_it_is_told", mounts_what_it_is_told),
    ("throws_scratch_writes_away", throws_scratch_writes_away),
    ("ends_when_cancelled", ends_when_cancelled),
    ("does_not_wait_for_background_processes", does_not_wait_for_background_processes),
    ("cuts_the_network", cuts_the_network),
    ("refuses_what_docker_refuses", refuses_what_docker_refuses),
    ("hides_the_builder", hides_the_builder),
    ("stacks_many_lowers", stacks_many_lowers),
    ("runs_side_by_side", runs_side_by_side),
    ("packs_what_histories_did", rootfs::packs_what_histories_did),
    ("scans_in_little_memory", scan::scans_in_little_memory),
    ("rejoins_what_overlay_takes_apart", rootfs::rejoins_what_overlay_takes_apart),
    ("merges_more_layers_than_overlay_takes", rootfs::merges_more_layers_than_overlay_takes),
    ("packs_only_what_changed", rootfs::packs_only_what_changed),
    ("ends_as_the_builder_ends", ends_as_the_builder_ends),
    ("costs_little", costs_little),
    ("passes_on_mounts_too", passes_on_mounts_too),
    ("passes_on_single_too", passes_on_single_too),
];

/// What all cases share.
struct Bench {
    entered: Entered,
    sandbox: Box<dyn Sandbox>,
    state: TempDir,
    busybox: Option<PathBuf>,
    tool: OnceLock<Tool>,
}

/// This program and its libraries, for a RUN that has them at `/tool`.
struct Tool {
    directory: PathBuf,
    argv: Vec<OsString>,
}

impl Tool {
    /// Copies what the kernel has mapped for us.
    fn gather(into: PathBuf) -> Self {
        fs::create_dir(&into).unwrap();
        fs::copy("/proc/self/exe", into.join("test")).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libraries = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let libraries = libraries.filter(|path| path.contains(".so"));
        let mut linker = None;
        for path in libraries.map(Path::new).collect::<BTreeSet<_>>() {
            let name = path.file_name().unwrap();
            fs::copy(path, into.join(name)).unwrap();
            if name.to_string_lossy().starts_with("ld-") {
                linker = Some(Path::new("/tool").join(name));
            }
        }
        let program = OsString::from("/tool/test");
        let argv = match linker {
            Some(linker) => vec![linker.into(), "--library-path".into(), "/tool".into(), program],
            None => vec![program],
        };
        Self { directory: into, argv }
    }
}

impl Bench {
    fn tool(&self) -> &Tool {
        self.tool.get_or_init(|| Tool::gather(self.state.path().join("tool")))
    }

    fn new(entered: Entered, state: TempDir) -> Self {
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|p| p.exists());
        let tool = OnceLock::new();
        Self { sandbox: sandbox::sandbox(&entered), entered, state, busybox, tool }
    }

    fn directory(&self) -> TempDir {
        tempfile::tempdir_in(self.state.path()).unwrap()
    }

    /// A base with busybox, /tmp, and files that belong to others.
    fn base(&self, at: &Path) {
        for name in ["bin", "etc", "tmp", "root", "lib"] {
            fs::create_dir_all(at.join(name)).unwrap();
        }
        fs::set_permissions(at.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy(self.busybox.as_ref().unwrap(), at.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "echo", "sleep", "id", "hostname", "touch", "rm", "stat", "mount", "umount",
            "ifconfig", "unshare", "sync", "grep", "true", "mkdir", "dd", "readlink", "chown", "mknod", "tr",
            "kill", "find", "wc",
        ] {
            symlink("busybox", at.join("bin").join(applet)).unwrap();
        }
        fs::write(at.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n")
            .unwrap();
    }

    /// The same base as overlay and as plain directory.
    fn roots(&self) -> Vec<Rooted> {
        let overlay = self.overlay();
        let directory = self.directory();
        let plain = directory.path().join("root");
        fs::create_dir(&plain).unwrap();
        self.base(&plain);
        let mut roots = vec![Rooted { root: Root::Plain(plain.clone()), written: plain, directory }];
        if self.entered.storage == sandbox::Storage::Overlay {
            roots.push(overlay);
        }
        roots
    }

    fn overlay(&self) -> Rooted {
        let directory = self.directory();
        let [lower, upper, work] = ["lower:1", "upper", "work"].map(|name| directory.path().join(name));
        for path in [&lower, &upper, &work] {
            fs::create_dir(path).unwrap();
        }
        self.base(&lower);
        let root = Root::Overlay { lowers: vec![lower], upper: upper.clone(), work };
        Rooted { root, written: upper, directory }
    }

    fn shell(&self, root: &Rooted, script: &str) -> Outcome {
        self.run(&spec(&root.root, script))
    }

    fn run(&self, spec: &RunSpec) -> Outcome {
        self.try_run(spec, &|| false).unwrap()
    }

    fn try_run(&self, spec: &RunSpec, cancelled: &dyn Fn() -> bool) -> Result<Outcome, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut take = |stream, chunk: &[u8]| match stream {
            OutputStream::Stdout => stdout.extend_from_slice(chunk),
            OutputStream::Stderr => stderr.extend_from_slice(chunk),
        };
        // `volatile` refuses an upper directory for a second time.
        if let Root::Overlay { work, .. } = &spec.root {
            fs::remove_dir_all(work).unwrap();
            fs::create_dir(work).unwrap();
        }
        let exit = self.sandbox.run(spec, &mut take, cancelled)?;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ok(Outcome { exit, stdout: text(stdout), stderr: text(stderr) })
    }
}

struct Rooted {
    root: Root,
    /// Where writes end up.
    written: PathBuf,
    directory: TempDir,
}

#[derive(Debug)]
struct Outcome {
    exit: Exit,
    stdout: String,
    stderr: String,
}

impl Outcome {
    #[track_caller]
    fn is(&self, stdout: &str) {
        assert_eq!((self.exit, self.stdout.as_str()), (Exit::Code(0), stdout), "{}", self.stderr);
    }
}

fn spec(root: &Root, script: &str) -> RunSpec {
    RunSpec {
        root: root.clone(),
        argv: ["/bin/sh", "-c", script].map(OsString::from).to_vec(),
        env: vec![("PATH".into(), "/bin".into()), ("MARK".into(), "in-the-run".into())],
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        mounts: Vec::new(),
        hostname: "buildkitsandbox".to_owned(),
        hosts: b"127.0.0.1 localhost\n".to_vec(),
        resolv_conf: b"nameserver 192.0.2.1\n".to_vec(),
        network_none: false,
        scripts: Vec::new(),
        ulimits: Vec::new(),
        record_key: Some(Key::from_bytes([7; 32])),
        protections: Protections::default(),
    }
}

/// Every path below, with what of it a layer would hold.
fn snapshot(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(path) = ahead.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let time = (metadata.mtime(), metadata.mtime_nsec());
        found.push(format!("{} {:o} {time:?}", path.display(), metadata.mode()));
        if metadata.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn carries_output_and_exit_code(bench: &Bench) {
    for root in bench.roots() {
        let outcome = bench.shell(&root, "echo out; echo err >&2; exit 3");
        assert_eq!(outcome.exit, Exit::Code(3));
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
        let outcome = bench.shell(&root, "dd if=/dev/zero bs=1000 count=3000 2>/dev/null | tr '\\000' x");
        assert_eq!(outcome.stdout.len(), 3_000_000);
        bench.shell(&root, "cat; echo end").is("end\n");
    }
}

fn tells_missing_programs_from_failing_ones(bench: &Bench) {
    let root = bench.overlay();
    let lower = root.directory.path().join("lower:1");
    fs::write(lower.join("bin/plain"), "text").unwrap();
    fs::write(lower.join("bin/script"), "#!/no/interpreter\n").unwrap();
    fs::set_permissions(lower.join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    for (program, code) in [("absent", 127), ("/bin/absent", 127), ("plain", 126), ("/bin/script", 126)] {
        let spec = RunSpec { argv: vec![program.into()], ..spec(&root.root, "") };
        let error = bench.try_run(&spec, &|| false).unwrap_err();
        assert_eq!(error.exit_code(), Some(code), "{error}");
        assert!(error.to_string().contains(program), "{error}");
    }
    let outcome = bench.shell(&root, "exit 127");
    assert_eq!(outcome.exit, Exit::Code(127), "the program's own code is an exit, no error");
    let spec = RunSpec { cwd: "/bin/plain/below".into(), ..spec(&root.root, "true") };
    let error = bench.try_run(&spec, &|| false).unwrap_err();
    assert!(error.to_string().contains("/bin/plain"), "a file is no directory: {error}");
}

fn gives_docker_capabilities_and_no_more(bench: &Bench) {
    const DOCKER: &str = "00000000a80425fb";
    let root = bench.overlay();
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    // Where users are emulated setuid programs must not be real, which root sees; a
    // user is told what it would have elsewhere.
    let one_id = bench.entered.rung == Rung::Single;
    let expected = |effective: &str, no_new_privileges: bool| {
        format!(
            "CapInh:\t{0}\nCapPrm:\t{effective}\nCapEff:\t{effective}\nCapBnd:\t{DOCKER}\nCapAmb:\t{0}\n\
             NoNewPrivs:\t{1}\nSeccomp:\t2\n",
            "0000000000000000",
            u8::from(no_new_privileges),
        )
    };
    bench.shell(&root, script).is(&expected(DOCKER, one_id));
    let user = RunSpec { uid: 1000, gid: 1000, ..spec(&root.root, script) };
    bench.run(&user).is(&expected("0000000000000000", false));
}

fn shows_only_the_root(bench: &Bench) {
    // A link to what some kernels do not have.
    let core = if Path::new("/proc/kcore").exists() { "/dev/core " } else { "" };
    for root in bench.roots() {
        bench
            .shell(&root, "echo /*; echo $$; cd /; ls -d ..")
            .is("/bin /dev /etc /lib /proc /root /sys /tmp\n1\n..\n");
        bench.shell(&root, "echo /dev/*").is(&format!(
            "{core}/dev/fd /dev/full /dev/mqueue /dev/null /dev/ptmx /dev/pts /dev/random /dev/shm \
             /dev/stderr /dev/stdin /dev/stdout /dev/tty /dev/urandom /dev/zero\n"
        ));
        bench.shell(&root, "ls /proc/self/fd; readlink /proc/self/fd/0").is("0\n1\n2\n3\n/dev/null\n");
        bench.shell(&root, "echo x > /dev/null && echo > /proc/sys/kernel/domainname").fails();
        bench.shell(&root, "echo x > /sys/kernel/uevent_helper").fails();
        bench.shell(&root, "cat /proc/kcore | wc -c").is("0\n");
        bench.shell(&root, "hostname; test ! -e /etc/hostname && umask").is("buildkitsandbox\n0022\n");
        let leaked = bench.shell(&root, "cat /proc/self/mountinfo").stdout;
        let inside = leaked.lines().filter(|line| line.contains(" overlay ") || line.contains(" / / "));
        assert!(inside.clone().all(|line| !line.contains("lower:1")), "{leaked}");
    }
}

impl Outcome {
    #[track_caller]
    fn fails(&self) {
        assert!(matches!(self.exit, Exit::Code(code) if code != 0), "{self:?}");
    }
}

fn becomes_the_user(bench: &Bench) {
    for root in bench.roots() {
        let script =
            "id -u; id -g; id -G; touch /tmp/mine; stat -c '%u:%g' /tmp/mine; touch /etc/mine || echo no";
        let spec = RunSpec { uid: 1000, gid: 1001, groups: vec![7, 1001], ..spec(&root.root, script) };
        bench.run(&spec).is("1000\n1001\n1001 7\n1000:1001\nno\n");
        if bench.entered.rung != Rung::Single {
            let file = fs::metadata(root.written.join("tmp/mine")).unwrap();
            assert_eq!((file.uid(), file.gid()), (1000, 1001), "owners are real");
        }
        bench.shell(&root, "chown 42:43 /tmp/mine && stat -c %u:%g /tmp/mine").is("42:43\n");
    }
}

fn provides_network_files_without_a_trace(bench: &Bench) {
    for root in bench.roots() {
        let base = match &root.root {
            Root::Plain(path) => path.clone(),
            Root::Overlay { lowers, .. } => lowers[0].clone(),
        };
        symlink("../run/systemd/resolve/stub-resolv.conf", base.join("etc/resolv.conf")).unwrap();
        fs::write(base.join("etc/hosts"), "old\n").unwrap();
        let before = snapshot(&base);
        bench
            .shell(&root, "cat /etc/resolv.conf /etc/hosts")
            .is("nameserver 192.0.2.1\n127.0.0.1 localhost\n");
        bench.shell(&root, "echo more >> /etc/hosts").fails();
        assert_eq!(snapshot(&base), before);
        assert_eq!(fs::read_to_string(base.join("etc/hosts")).unwrap(), "old\n");
        for name in ["run", "proc", "dev", "sys", "etc/hostname"] {
            assert!(fs::symlink_metadata(root.written.join(name)).is_err(), "{name} stayed");
        }
        let etc = fs::metadata(base.join("etc")).unwrap();
        if let Ok(copied) = fs::metadata(root.written.join("etc")) {
            assert_eq!((copied.mtime(), copied.mtime_nsec()), (etc.mtime(), etc.mtime_nsec()));
        }
        // What RUN itself changes does stay.
        bench.shell(&root, "touch /etc/mine").is("");
        let changed = fs::metadata(root.written.join("etc")).unwrap();
        assert_ne!((changed.mtime(), changed.mtime_nsec()), (etc.mtime(), etc.mtime_nsec()));
    }
}

fn mounts_what_it_is_told(bench: &Bench) {
    for root in bench.roots() {
        let source = bench.directory();
        fs::write(source.path().join("file"), "from outside\n").unwrap();
        let bind = |target: &str, read_only| MountSpec::Bind {
            source: source.path().to_owned(),
            target: target.into(),
            read_only,
        };
        let mut order = spec(
            &root.root,
            "cat /in/file; touch /in/new || echo frozen; echo kept > /cache/deep/new; cat /run/secrets/key; \
             stat -c '%a %u:%g' /run/secrets/key; (echo x > /run/secrets/key) 2>/dev/null || echo sealed; \
             dd if=/dev/zero of=/small/x bs=1M count=3 2>/dev/null || echo full; stat -c %a /small; \
             /dev/pipes/EOF1; cat /one",
        );
        order.mounts = vec![
            bind("/in", true),
            bind("/cache/deep", false),
            MountSpec::File {
                content: Secret::new("hunter2\n"),
                target: "/run/secrets/key".into(),
                mode: 0o400,
                uid: 5,
                gid: 6,
            },
            MountSpec::Tmpfs { target: "/small".into(), size: Some(1 << 20), mode: 0o700 },
            MountSpec::Bind { source: source.path().join("file"), target: "/one".into(), read_only: true },
        ];
        order.scripts = vec![("EOF1".to_owned(), b"#!/bin/sh\necho script\n".to_vec())];
        let before = snapshot(&root.written);
        bench
            .run(&order)
            .is("from outside\nfrozen\nhunter2\n400 5:6\nsealed\nfull\n700\nscript\nfrom outside\n");
        assert_eq!(fs::read_to_string(source.path().join("new")).unwrap(), "kept\n");
        let bare = |lines: Vec<String>| -> Vec<String> {
            // An overlay upper may have copied parents up; nothing else.
            lines.into_iter().filter(|line| !line.contains("upper/etc ")).collect()
        };
        assert_eq!(bare(snapshot(&root.written)), bare(before));
        assert!(!format!("{order:?}").contains("hunter2"));
    }
}

fn throws_scratch_writes_away(bench: &Bench) {
    for root in bench.roots() {
        let (source, scratch) = (bench.directory(), bench.directory());
        fs::write(source.path().join("file"), "old\n").unwrap();
        let mut order = spec(&root.root, "cat /s/file; echo new > /s/file; rm /s/file; echo x > /s/y; ls /s");
        order.mounts = vec![MountSpec::ScratchBind {
            source: source.path().to_owned(),
            scratch: scratch.path().to_owned(),
            target: "/s".into(),
        }];
        bench.run(&order).is("old\ny\n");
        assert_eq!(fs::read_to_string(source.path().join("file")).unwrap(), "old\n");
        assert_eq!(fs::read_dir(source.path()).unwrap().count(), 1);
    }
}

fn ends_when_cancelled(bench: &Bench) {
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

/// Seconds that no other process sleeps: the same tests run on other rungs at the
/// same time.
fn nap(test: u32) -> u32 {
    test * 10_000_000 + std::process::id()
}

/// Processes whose command line holds `text`.
fn processes_with(text: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes
        .filter(|path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

fn does_not_wait_for_background_processes(bench: &Bench) {
    let root = bench.overlay();
    let started = Instant::now();
    let nap = nap(2);
    bench.shell(&root, &format!("sleep {nap} & echo done")).is("done\n");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(processes_with(&format!("sleep\u{0}{nap}")), Vec::<PathBuf>::new());
}

fn cuts_the_network(bench: &Bench) {
    let root = bench.overlay();
    let mut order =
        spec(&root.root, "ls /sys/class/net >/dev/null; grep -c : /proc/net/dev; ifconfig lo | grep -c UP");
    order.network_none = true;
    bench.run(&order).is("1\n1\n");
}

fn refuses_what_docker_refuses(bench: &Bench) {
    let root = bench.overlay();
    bench.shell(&root, "sync && echo synced").is("synced\n");
    // A node is the kernel's or an empty file that the layer shows as a node:
    // it is not what it is called. 1:5 is harmless elsewhere.
    let read = "dd bs=1 count=1 2>/dev/null | wc -c | grep -q 1";
    let nodes = ["/tmp/node", "/dev/node", "/dev/shm/node"];
    let nodes = nodes.map(|node| format!("mknod {node} c 1 5 && {read} < {node}"));
    for command in [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "mount -o remount,rw /sys",
        "hostname other",
    ]
    .into_iter()
    .chain(nodes.iter().map(String::as_str))
    {
        bench.shell(&root, command).fails();
    }
}

/// Ends the control also when an assertion fails first.
struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// RUN, as root, with the whole outer /proc in view, tries to read the
/// builder's environment, memory and root, and does the same to a process that
/// is not protected: another RUN of the same builder.
fn hides_the_builder(bench: &Bench) {
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
            order.protections = Protections::without(&[Protection::Scopes]);
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

fn stacks_many_lowers(bench: &Bench) {
    if bench.entered.storage != sandbox::Storage::Overlay {
        return;
    }
    let root = bench.overlay();
    let deep = root.directory.path().join("n".repeat(200)).join("m".repeat(200));
    let Root::Overlay { lowers, upper, work } = &root.root else { unreachable!() };
    let mut many: Vec<PathBuf> = Vec::new();
    for number in 0..499 {
        let lower = deep.join(format!("sha256:{number}"));
        fs::create_dir_all(&lower).unwrap();
        fs::write(lower.join(format!("f{number}")), "").unwrap();
        many.push(lower);
    }
    many.insert(3, many[498].clone());
    many.push(lowers[0].clone());
    let stacked = |lowers| Root::Overlay { lowers, upper: upper.clone(), work: work.clone() };
    bench.run(&spec(&stacked(many.clone()), "ls /f* | wc -l")).is("499\n");
    fs::create_dir(deep.join("one")).unwrap();
    many.push(deep.join("one"));
    let error = bench.try_run(&spec(&stacked(many), "true"), &|| false).unwrap_err();
    assert!(matches!(error, Error::TooManyLowers { count: 501 }), "{error}");
    // FROM scratch: there is nothing below.
    let empty = bench.overlay();
    let Root::Overlay { lowers, upper, .. } = &empty.root else { unreachable!() };
    bench.base(upper);
    let Root::Overlay { work, .. } = &empty.root else { unreachable!() };
    assert_eq!(lowers.len(), 1);
    let bare = Root::Overlay { lowers: Vec::new(), upper: upper.clone(), work: work.clone() };
    bench.run(&spec(&bare, "echo bare")).is("bare\n");
}

fn runs_side_by_side(bench: &Bench) {
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let root = bench.overlay();
                bench.shell(&root, &format!("echo {number}")).is(&format!("{number}\n"));
            });
        }
    });
}

fn ends_as_the_builder_ends(bench: &Bench) {
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

fn costs_little(bench: &Bench) {
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
fn passes_on_mounts_too(_: &Bench) {
    pass_again(ON_MOUNTS, "mounts");
}

/// It could give up all but one of its ids as well.
fn passes_on_single_too(_: &Bench) {
    pass_again(ON_SINGLE, "single");
}

fn pass_again(how: &str, rung: &str) {
    let program = std::env::current_exe().unwrap();
    let run = std::process::Command::new(program).args([how, "--quiet"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr) + String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains(&format!("entered `{rung}`")), "{said}");
}
