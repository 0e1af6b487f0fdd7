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
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "this program uses a part of it")]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use bundle::{Kit, SANDBOXES, Sandbox, Volume};
use libtest_mimic::{Arguments, Completion, Trial};
use serde_json::Value;
use support::base;
use support::server::Server;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, run, name, rest @ ..] = &arguments[..]
        && run == "run"
    {
        return by_hand(name, rest);
    }
    let arguments = Arguments::from_args();
    // Leaked, because trials are 'static; what it holds on disk is removed below.
    let bench: &'static Result<Bench, String> = Box::leak(Box::new(Bench::new()));
    let trials = SANDBOXES.iter().map(|sandbox| trial(sandbox, bench)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Ok(bench) = bench {
        bench.kit.remove();
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
        target: "/work",
        read_only: true,
    }));
    let (mut command, _bundle) = kit.command(&sandbox, &volumes, command);
    let status = command.status().unwrap();
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn trial(sandbox: &'static Sandbox, bench: &'static Result<Bench, String>) -> Trial {
    Trial::ignorable_test(sandbox.name, move || match bench {
        Ok(bench) => Ok(judge(sandbox, bench)?),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// What all sandboxes share.
struct Bench {
    kit: Kit,
    /// Ends when dropped.
    _registry: Server,
    context: PathBuf,
    /// The first sandbox that built, and the digest it got.
    first: Mutex<Option<(&'static str, String)>>,
}

impl Bench {
    fn new() -> Result<Self, String> {
        let kit = Kit::new(program())?;
        let registry = Server::start(None);
        registry.put("library/awkward", "latest", base::awkward());
        let context = kit.directory("context");
        let text = DOCKERFILE.replace("BASE", &format!("{}/library/awkward:latest", registry.host()));
        fs::write(context.join("Dockerfile"), text).unwrap();
        fs::write(context.join("note"), "copied\n").unwrap();
        Ok(Self { kit, _registry: registry, context, first: Mutex::new(None) })
    }

    /// A state directory of its own at /state and the context at /work.
    fn volumes(&self, sandbox: &Sandbox) -> [Volume; 2] {
        [
            Volume { source: self.kit.volume(sandbox), target: "/state", read_only: false },
            Volume { source: self.context.clone(), target: "/work", read_only: true },
        ]
    }
}

/// Owners, modes, links, deletions, devices, /proc and all mounts of a RUN; no step of it
/// depends on the clock.
const DOCKERFILE: &str = r#"FROM BASE AS tools
RUN echo tool > /usr/bin/tool && chmod 755 /usr/bin/tool
FROM BASE
COPY --chown=33:44 note /opt/note
RUN mkdir -p /d/e && echo a > /d/a && ln /d/a /d/hard && ln -s a /d/soft && chown 1000:44 /d/a && echo gone > /d/e/gone
RUN rm /d/e/gone && chmod 4711 /d/a && mkfifo /d/fifo && rm -r /home/app && mkdir -m 750 /home/app
RUN test "$(stat -c '%u:%g %a' /opt/note)" = "33:44 644" && test "$(id -u)" = 0 && echo x > /dev/null
RUN mknod /d/null c 1 3 && mknod -m 640 /d/disk b 8 1 && chown 1:6 /d/disk && mv /d/null /d/moved
RUN grep -q "^Pid:.$$\$" /proc/$$/status && grep -q "^$$ (" /proc/$$/stat && ls /proc | grep -q "^$$\$" && cd /proc && for p in [0-9]*; do test ! -e $p/stat || kill -0 $p || exit 1; done
RUN test -f /proc/self/root/etc/passwd && test "$(cd /opt && readlink /proc/self/cwd)" = /opt && echo x | grep -q x /dev/stdin && ls /proc/self/fd/ | grep -q '^1$'
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch --mount=from=tools,source=/usr/bin,target=/tools echo 1 > /cache/1 && echo 2 > /scratch/2 && cat /tools/tool > /d/tool
USER app
RUN test "$(id -u):$(id -g)" = 1000:1000 && echo mine > /tmp/mine
"#;

/// The rung that was expected is taken where this version has it, and then the
/// image is the same as everywhere else; where it has not, RUN is an error.
fn judge(sandbox: &'static Sandbox, bench: &Bench) -> Result<Completion, String> {
    let doctor = bench.kit.run(sandbox, &bench.volumes(sandbox), &["coracle", "doctor", "--json"]);
    let report: Value =
        serde_json::from_slice(&doctor.stdout).map_err(|error| format!("{error}: {doctor:?}"))?;
    let rungs = report["rungs"].as_array().ok_or("no rungs")?;
    let expected = rungs.iter().find(|rung| rung["rung"] == sandbox.rung).ok_or("no such rung")?;
    let expected = if expected["built"] == true { sandbox.rung } else { "none" };
    check("rung", report["rung"].as_str(), Some(expected), &report)?;
    let can_run = expected != "none";
    check("exit code of doctor", doctor.status.code(), Some(if can_run { 0 } else { 3 }), &report)?;
    if !can_run {
        check("advice", report["next"]["snippets"].as_object().map(|all| all.len()), Some(8), &report)?;
    }

    let build = ["coracle", "build", "--progress", "plain", "-t", "matrix", "/work"];
    let built = bench.kit.run(sandbox, &bench.volumes(sandbox), &build);
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    if !can_run {
        let clear = said.contains("RUN cannot run here: ");
        check("clear error", (built.status.success(), clear), (false, true), &said)?;
        return Ok(Completion::Completed);
    }
    check("exit code of build", built.status.code(), Some(0), &said)?;
    let digest = String::from_utf8_lossy(&built.stdout).trim().to_owned();
    let mut first = bench.first.lock().unwrap();
    let (other, same) = first.get_or_insert_with(|| (sandbox.name, digest.clone()));
    if digest == *same {
        return Ok(Completion::Completed);
    }
    Err(format!("{digest} on {}, {same} on {other}", sandbox.name))
}

fn check<T: PartialEq + std::fmt::Debug>(
    what: &str,
    actual: T,
    expected: T,
    said: &dyn std::fmt::Display,
) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?}, not {expected:?}:\n{said:#}")) }
}
