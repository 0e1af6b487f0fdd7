//! Sandboxes times Dockerfiles: which rung is taken, whether it builds, what the
//! functional checks say, and whether the image is the same everywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use libtest_mimic::{Completion, Trial};
use serde_json::Value;

use crate::agent;
use crate::bundle::{Kit, SANDBOXES, Sandbox, Volume};
use crate::cases::{self, CASES, COMBINED, Case};
use crate::pool::Pool;
use crate::support::image::Image;
use crate::support::server::Server;
use crate::support::{base, switch};
use crate::table::{Outcome, Row, Table};
use crate::tree::Tree;

/// What all sandboxes share.
pub struct Matrix {
    kit: Kit,
    /// Ends when dropped.
    _registry: Server,
    small: PathBuf,
    /// Has the socket of an SSH agent in it.
    agent: PathBuf,
    /// The context of the Dockerfiles, if there is a pool to install from.
    debian: Result<PathBuf, String>,
    /// Per Dockerfile the first sandbox that built it.
    first: Mutex<BTreeMap<&'static str, Arc<First>>>,
    table: Mutex<Table>,
}

struct First {
    sandbox: &'static str,
    digest: String,
    tree: Tree,
}

/// Checks of `functional/` that are known to fail, and where: a group is `root:`,
/// `user:` or both. One that passes is an error too: it must leave the list.
const GAPS: &[(&[&str], &str)] = &[
    // To the kernel every process is the one id that there is.
    (&SINGLE, "user: a signal says who sent it"),
    (&SINGLE, "user: whose System V objects are"),
    // Nothing there would keep the owner.
    (&SINGLE, "making what /proc leads to"),
];

const SINGLE: [&str; 3] = ["rootless-nnp", "restricted-podman", "restricted-crio"];

fn is_gap(sandbox: &Sandbox, line: &str) -> bool {
    let names = |check: &str| {
        let rest = line.strip_prefix(check).or_else(|| line.split_once(": ")?.1.strip_prefix(check));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
    };
    GAPS.iter().any(|(sandboxes, check)| sandboxes.contains(&sandbox.name) && names(check))
}

/// What every Dockerfile is given.
const GIVEN: [&str; 6] = [
    "--secret",
    "id=key,src=/context/key",
    "--ssh",
    "default=/agent/socket",
    "--add-host",
    "given.example=192.0.2.7",
];

impl Matrix {
    /// `Err` says why no sandbox can be made here.
    pub fn new(program: &Path) -> Result<Self, String> {
        let kit = Kit::new(program)?;
        let registry = Server::start(None);
        registry.put("library/awkward", "latest", base::awkward());
        let small = kit.directory("small");
        write_small(&small, &format!("{}/library/awkward:latest", registry.host()));
        let debian = Pool::find().map(|pool| {
            registry.put("library/debian", "latest", &pool.base());
            let context = kit.directory("context");
            std::fs::write(context.join("note"), "copied\n").unwrap();
            cases::write(&context, &format!("{}/library/debian:latest", registry.host()), pool.serve());
            context
        });
        let agent = kit.directory("agent");
        agent::listen(&agent.join("socket"));
        let (first, table) = (Mutex::default(), Mutex::default());
        Ok(Self { kit, _registry: registry, small, agent, debian, first, table })
    }

    /// Removes what was made; writes the table where one is asked for.
    pub fn finish(&self) {
        self.kit.remove();
        if let Some(path) = switch("CORACLE_SANDBOX_TABLE") {
            self.table.lock().unwrap().write(Path::new(&path));
        }
    }

    fn volumes(&self, sandbox: &Sandbox, context: &Path) -> [Volume; 3] {
        [
            Volume { source: self.kit.volume(sandbox), target: "/state", read_only: false },
            Volume { source: context.to_owned(), target: "/context", read_only: true },
            Volume { source: self.agent.clone(), target: "/agent", read_only: true },
        ]
    }
}

/// A small Dockerfile on busybox in every sandbox, a combined one on Debian, and
/// with `CORACLE_SOAK` all of them.
pub fn trials(matrix: &'static Result<Matrix, String>) -> Vec<Trial> {
    let wanted = if switch("CORACLE_SOAK").is_some() { &CASES[..] } else { &[COMBINED] };
    let mut trials = Vec::new();
    for sandbox in &SANDBOXES {
        trials.push(trial(sandbox.name.to_owned(), matrix, |matrix| small(sandbox, matrix)));
        for case in wanted {
            let name = format!("{}::{}", sandbox.name, case.name);
            trials.push(trial(name, matrix, |matrix| in_table(sandbox, case, matrix)));
        }
    }
    trials
}

fn trial(
    name: String,
    matrix: &'static Result<Matrix, String>,
    test: impl FnOnce(&Matrix) -> Result<Completion, String> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || match matrix {
        Ok(matrix) => Ok(test(matrix)?),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// Owners, modes, links, deletions, devices, /proc and mounts of a RUN; no step of it depends on
/// the clock.
const SMALL: &str = r#"FROM BASE AS tools
RUN echo tool > /usr/bin/tool && chmod 755 /usr/bin/tool
FROM BASE
COPY --chown=33:44 note /opt/note
RUN mkdir -p /d/e && echo a > /d/a && ln /d/a /d/hard && ln -s a /d/soft && chown 1000:44 /d/a && echo gone > /d/e/gone
RUN rm /d/e/gone && chmod 4711 /d/a && mkfifo /d/fifo && rm -r /home/app && mkdir -m 750 /home/app
RUN test "$(stat -c '%u:%g %a' /opt/note)" = "33:44 644" && test "$(id -u)" = 0 && test "$(hostname)" = buildkitsandbox && echo x > /dev/null
RUN mknod /d/null c 1 3 && mknod -m 640 /d/disk b 8 1 && chown 1:6 /d/disk && mv /d/null /d/moved
RUN grep -q "^Pid:.$$\$" /proc/$$/status && grep -q "^$$ (" /proc/$$/stat && ls /proc | grep -q "^$$\$" && cd /proc && for p in [0-9]*; do test ! -e $p/stat || kill -0 $p || exit 1; done
RUN test -f /proc/self/root/etc/passwd && test "$(cd /opt && readlink /proc/self/cwd)" = /opt && echo x | grep -q x /dev/stdin && ls /proc/self/fd/ | grep -q '^1$'
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch --mount=from=tools,source=/usr/bin,target=/tools echo 1 > /cache/1 && echo 2 > /scratch/2 && cat /tools/tool > /d/tool
USER app
RUN test "$(id -u):$(id -g)" = 1000:1000 && echo mine > /tmp/mine
"#;

fn write_small(context: &Path, base: &str) {
    std::fs::write(context.join("Dockerfile"), SMALL.replace("FROM BASE", &format!("FROM {base}"))).unwrap();
    std::fs::write(context.join("note"), "copied\n").unwrap();
}

fn small(sandbox: &'static Sandbox, matrix: &Matrix) -> Result<Completion, String> {
    let report = matrix.doctor(sandbox)?;
    let can_run = report["rung"] != "none";
    if !can_run {
        let snippets = report["next"]["snippets"].as_object().map(|all| all.len());
        check("advice", snippets, Some(8), &report)?;
    }
    let volumes = matrix.volumes(sandbox, &matrix.small);
    let case = Case { name: "small", ..COMBINED };
    matrix.build(sandbox, &case, &volumes, &["/context"], can_run)?;
    Ok(Completion::Completed)
}

fn in_table(sandbox: &'static Sandbox, case: &'static Case, matrix: &Matrix) -> Result<Completion, String> {
    let started = Instant::now();
    let mut row = Row { sandbox: sandbox.name, case: case.name, ..Row::default() };
    let done = attempt(sandbox, case, matrix, &mut row);
    row.seconds = started.elapsed().as_secs_f64();
    row.outcome = match &done {
        Ok(Outcome::Ok(note)) => Outcome::Ok(note.clone()),
        Ok(skipped) => skipped.clone(),
        Err(problem) => Outcome::Failed(problem.clone()),
    };
    matrix.table.lock().unwrap().add(row);
    match done? {
        Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        _ => Ok(Completion::Completed),
    }
}

fn attempt(
    sandbox: &'static Sandbox,
    case: &'static Case,
    matrix: &Matrix,
    row: &mut Row,
) -> Result<Outcome, String> {
    let context = match &matrix.debian {
        Ok(context) => context,
        Err(reason) => return Ok(Outcome::Skipped(reason.clone())),
    };
    let report = matrix.doctor(sandbox)?;
    row.rung = report["rung"].as_str().unwrap_or_default().to_owned();
    let reported = |ability: cases::Ability| report["in_run"][ability.name()] == true;
    if let Some(ability) = case.needs.filter(|ability| row.rung != "none" && !reported(*ability)) {
        return Ok(Outcome::Skipped(format!("doctor reports no {} in RUN", ability.name())));
    }
    let can_run = row.rung != "none" || !case.runs;
    let volumes = matrix.volumes(sandbox, context);
    let dockerfile = format!("/context/{}.Dockerfile", case.name);
    let flags = [&["-f", &dockerfile][..], &GIVEN].concat();
    let done = matrix.build(sandbox, case, &volumes, &[&flags[..], &["/context"]].concat(), can_run);
    let besides = case.besides.iter().filter(|(_, ability)| can_run && reported(*ability));
    let done = besides.fold(done, |done, (target, _)| {
        let flags = [&flags[..], &["--target", target, "/context"]].concat();
        let beside = matrix.run_build(sandbox, &volumes, &flags)?;
        let checked = judge_checks(sandbox, &beside.stderr);
        done.and_then(|digest| checked.map(|()| digest))
    });
    matrix.kit.remove_volume(&volumes[0]);
    match done? {
        Some(digest) => row.digest = digest,
        None => return Ok(Outcome::Ok("RUN is refused, with the reason".to_owned())),
    }
    Ok(Outcome::Ok(String::new()))
}

/// A build that exited with 0.
struct Built {
    digest: String,
    stderr: String,
}

impl Matrix {
    /// The report of doctor; the rung in it is the one expected.
    fn doctor(&self, sandbox: &Sandbox) -> Result<Value, String> {
        let volumes = self.volumes(sandbox, &self.small);
        let doctor = self.kit.run(sandbox, &volumes, &["coracle", "doctor", "--json"])?;
        self.kit.remove_volume(&volumes[0]);
        let report: Value =
            serde_json::from_slice(&doctor.stdout).map_err(|error| format!("{error}: {doctor:?}"))?;
        let rungs = report["rungs"].as_array().ok_or("no rungs")?;
        let expected = rungs.iter().find(|rung| rung["rung"] == sandbox.rung).ok_or("no such rung")?;
        // A rung that this version does not have yet counts when it lands.
        let expected = if expected["built"] == true { sandbox.rung } else { "none" };
        check("rung", report["rung"].as_str(), Some(expected), &report)?;
        let code = if expected == "none" { 3 } else { 0 };
        check("exit code of doctor", doctor.status.code(), Some(code), &report)?;
        Ok(report)
    }

    /// Builds and compares; no digest where RUN must be refused and was.
    fn build(
        &self,
        sandbox: &'static Sandbox,
        case: &Case,
        volumes: &[Volume],
        flags: &[&str],
        can_run: bool,
    ) -> Result<Option<String>, String> {
        if !can_run {
            let refused = self.run_build(sandbox, volumes, flags).err().unwrap_or_default();
            let clear = refused.contains("RUN cannot run here: ");
            return check("clear error", clear, true, &refused).map(|()| None);
        }
        let built = self.run_build(sandbox, volumes, flags)?;
        let checked = judge_checks(sandbox, &built.stderr);
        let same = self.compare(sandbox, case, &volumes[0].source, &built.digest);
        checked.and(same).map(|()| Some(built.digest))
    }

    fn run_build(&self, sandbox: &Sandbox, volumes: &[Volume], flags: &[&str]) -> Result<Built, String> {
        let build = ["coracle", "build", "--progress", "plain", "-t", "matrix"];
        let run = self.kit.run(sandbox, volumes, &[&build, flags].concat())?;
        let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
        check("exit code of build", run.status.code(), Some(0), &stderr)?;
        Ok(Built { digest: String::from_utf8_lossy(&run.stdout).trim().to_owned(), stderr })
    }

    fn compare(
        &self,
        sandbox: &'static Sandbox,
        case: &Case,
        state: &Path,
        digest: &str,
    ) -> Result<(), String> {
        let tree = || Tree::of(&Image::read(state, digest));
        let mut all = self.first.lock().unwrap();
        let Some(first) = all.get(case.name).map(Arc::clone) else {
            let first = First { sandbox: sandbox.name, digest: digest.to_owned(), tree: tree() };
            all.insert(case.name, Arc::new(first));
            return Ok(());
        };
        drop(all);
        if first.digest == digest {
            return Ok(());
        }
        let differences = first.tree.differences(&tree(), case.repeatable);
        if differences.is_empty() && !case.repeatable {
            return Ok(());
        }
        let shown = differences.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
        let (count, other) = (differences.len(), first.sandbox);
        Err(format!("{digest}, {} on {other}; {count} paths differ:\n{shown}", first.digest))
    }
}

/// Every check that said FAIL is a known gap, every known gap said FAIL, and no
/// group broke off.
fn judge_checks(sandbox: &Sandbox, said: &str) -> Result<(), String> {
    let lines = |word: &str| -> Vec<&str> {
        let mark = format!("| {word} ");
        said.lines().filter_map(|line| line.split_once(&mark).map(|(_, rest)| rest)).collect()
    };
    let (passed, failed) = (lines("PASS"), lines("FAIL"));
    let counted =
        lines("CHECKED").iter().filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
    let unknown = failed.iter().filter(|line| !is_gap(sandbox, line)).map(|line| format!("FAIL {line}"));
    let closed = passed.iter().filter(|line| is_gap(sandbox, line));
    let closed = closed.map(|line| format!("no gap any more, take it off the list: {line}"));
    let problems: Vec<String> = unknown.chain(closed).collect();
    check("problems", problems.len(), 0, &problems.join("\n"))?;
    check("checks heard of", passed.len() + failed.len(), counted, &said)
}

fn check<T: PartialEq + std::fmt::Debug>(
    what: &str,
    actual: T,
    expected: T,
    said: &dyn std::fmt::Display,
) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?}, not {expected:?}:\n{said:#}")) }
}
