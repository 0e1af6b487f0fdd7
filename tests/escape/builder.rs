//! The builder of one rung: it enters, makes every attempt, and looks around.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use coracle::metadata::Key;
use coracle::sandbox::{self, Entered, Linked, Protections, Root, RunSpec, Sandbox, Storage, Wish};
use serde::{Deserialize, Serialize};

use crate::attacks;
use crate::table::{ATTEMPTS, Attempt, Control};
use crate::world::World;

/// Makes this program a builder.
pub const MARK: &str = "--on";
pub const WITH_CONTROLS: &str = "--with-controls";

/// An attempt that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(40);

/// What came of one attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    attempt: String,
    control: bool,
    /// It was really made.
    pub made: bool,
    /// Of success.
    pub signs: Vec<String>,
    /// What it printed, and how it ended.
    pub said: String,
}

impl Verdict {
    pub fn broken(attempt: &str, control: bool, reason: &str) -> Self {
        let (attempt, said) = (attempt.to_owned(), reason.to_owned());
        Self { attempt, control, made: false, signs: Vec::new(), said }
    }
}

/// The command with a secret in its environment and arguments.
pub fn prepared<'a>(command: &'a mut Command, filter: &str) -> &'a mut Command {
    let nonce = nonce();
    command.args([&nonce, filter]).env("CORACLE_ESCAPE_SECRET", &nonce).stdin(Stdio::null())
}

/// Nobody can guess it.
pub fn nonce() -> String {
    let mut bytes = [0; 12];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("secret-{digits}")
}

/// Verdicts by attempt and control, or why there are none.
pub fn read_verdicts(output: &Output) -> Result<BTreeMap<(String, bool), Verdict>, String> {
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NOT_HERE) {
        return Err(said.trim().to_owned());
    }
    let verdicts: Vec<Verdict> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if !output.status.success() {
        eprintln!("the builder died: {}\n{said}", output.status);
    }
    Ok(verdicts.into_iter().map(|verdict| ((verdict.attempt.clone(), verdict.control), verdict)).collect())
}

/// The exit code where the rung cannot be had.
const NOT_HERE: i32 = 77;

pub fn judge_all(rung: &str, state: &Path, rest: &[&str]) -> ExitCode {
    let (controls, rest) = match rest {
        [first, rest @ ..] if *first == WITH_CONTROLS => (true, rest),
        rest => (false, rest),
    };
    let rung = rung.parse().unwrap();
    let wish = Wish { isolation: Some(rung), storage: None, state_dir: state.to_owned() };
    let entered = match sandbox::enter(&wish) {
        Ok(entered) => entered,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(77);
        }
    };
    let mut bench = Bench::new(entered, state, rest.first().unwrap_or(&"")).unwrap();
    let filter = rest.get(1).copied().unwrap_or_default();
    for attempt in ATTEMPTS {
        if !format!("{rung}::{}", attempt.name).contains(filter) && !attempt.name.contains(filter) {
            continue;
        }
        let control = attempt.control(rung);
        if crate::kernel() < attempt.since {
            continue;
        }
        if matches!(control, Control::Untried) || (attempt.heavy && !controls) {
            continue;
        }
        bench.judge(attempt, false, Protections::default());
        if let (Control::Without(protections), true) = (control, controls) {
            bench.judge(attempt, true, without(protections));
        }
    }
    ExitCode::SUCCESS
}

#[cfg(debug_assertions)]
fn without(protections: &[sandbox::Protection]) -> Protections {
    Protections::without(protections)
}

/// A release build has all of them always, so that its controls fail.
#[cfg(not(debug_assertions))]
fn without(_: &[sandbox::Protection]) -> Protections {
    Protections::default()
}

struct Bench {
    entered: Entered,
    sandbox: Box<dyn Sandbox>,
    state: PathBuf,
    world: World,
    runs: u32,
}

/// One RUN to be, for attempts that prepare something.
pub struct Scene<'a> {
    pub spec: RunSpec,
    /// Where the image's files can be written.
    pub tree: PathBuf,
    pub world: &'a World,
}

impl Bench {
    fn new(entered: Entered, state: &Path, nonce: &str) -> io::Result<Self> {
        let world = World::new(state, nonce)?;
        let bench =
            Self { sandbox: sandbox::sandbox(&entered), entered, state: state.to_owned(), world, runs: 0 };
        bench.make_template()?;
        Ok(bench)
    }

    fn template(&self) -> PathBuf {
        self.state.join("template")
    }

    /// This program, what it is linked with, and a few directories.
    fn make_template(&self) -> io::Result<()> {
        let template = self.template();
        for name in ["bin", "etc", "home", "proc", "dev", "sys", "tmp"] {
            fs::create_dir_all(template.join(name))?;
        }
        for name in ["tmp", "home"] {
            fs::set_permissions(template.join(name), fs::Permissions::from_mode(0o1777))?;
        }
        fs::copy("/proc/self/exe", template.join("bin/attack"))?;
        for library in libraries() {
            let copy = template.join(library.strip_prefix("/").unwrap_or(&library));
            fs::create_dir_all(copy.parent().unwrap_or(&template))?;
            fs::copy(&library, copy)?;
        }
        Ok(())
    }

    fn judge(&mut self, attempt: &Attempt, control: bool, protections: Protections) {
        let verdict = self
            .make(attempt, control, protections)
            .unwrap_or_else(|error| Verdict::broken(attempt.name, control, &format!("harness: {error}")));
        println!("{}", serde_json::to_string(&verdict).unwrap());
    }

    fn make(&mut self, attempt: &Attempt, control: bool, protections: Protections) -> io::Result<Verdict> {
        self.world.set()?;
        self.runs += 1;
        let step = self.state.join(format!("step{}", self.runs));
        let (root, tree) = self.root(&step)?;
        let mut scene = Scene { spec: self.spec(attempt, root, protections)?, tree, world: &self.world };
        (attempt.arrange)(&mut scene)?;
        let spec = scene.spec;
        self.world.remember();
        let started = Instant::now();
        let mut said = Vec::new();
        let mut take = |_, chunk: &[u8]| said.extend_from_slice(chunk);
        let exit = self.sandbox.run(&spec, &mut take, &|| started.elapsed() > LIMIT);
        let said = String::from_utf8_lossy(&said).into_owned();
        // What is left behind may need a moment to do its work.
        std::thread::sleep(Duration::from_millis(attempt.patience));
        let mut signs = self.world.signs(&said);
        signs.extend((attempt.also)(&self.world, &spec));
        let made = said.contains(attacks::MADE) || attempt.passive;
        let said = format!("{said}\n{exit:?}, {:?}", started.elapsed());
        // A tree that a control spoiled may not be removable.
        let _ = coracle::store::remove_tree(&step);
        Ok(Verdict { attempt: attempt.name.to_owned(), control, made, signs, said })
    }

    fn root(&self, step: &Path) -> io::Result<(Root, PathBuf)> {
        let [lower, upper, work] = ["root", "upper", "work"].map(|name| step.join(name));
        copy_linked(&self.template(), &lower)?;
        if self.entered.storage != Storage::Overlay || self.entered.rung != sandbox::Rung::Namespaces {
            return Ok((Root::Plain(lower.clone()), lower));
        }
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        Ok((Root::Overlay { lowers: vec![lower.clone()], upper, work, linked: Linked::default() }, lower))
    }

    fn spec(&self, attempt: &Attempt, root: Root, protections: Protections) -> io::Result<RunSpec> {
        let target = serde_json::to_string(&self.world.target)?;
        Ok(RunSpec {
            root,
            argv: ["/bin/attack", attacks::MARK, attempt.name, &self.world.target.nonce_name]
                .map(OsString::from)
                .to_vec(),
            env: vec![("PATH".into(), "/bin".into()), (attacks::TARGET.into(), target.into())],
            cwd: "/".into(),
            uid: attempt.user,
            gid: attempt.user,
            groups: Vec::new(),
            mounts: Vec::new(),
            hostname: "enemy".to_owned(),
            hosts: b"127.0.0.1 localhost\n".to_vec(),
            resolv_conf: b"nameserver 192.0.2.1\n".to_vec(),
            network_none: false,
            scripts: Vec::new(),
            ulimits: Vec::new(),
            record_key: Some(Key::from_bytes([9; 32])),
            protections,
        })
    }
}

fn libraries() -> Vec<PathBuf> {
    // ldd(1) may be missing where this runs; the loader itself knows too.
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut found: Vec<PathBuf> = maps
        .split_whitespace()
        .filter(|word| word.starts_with('/') && word.contains(".so"))
        .map(PathBuf::from)
        .collect();
    // The loader is looked for where the program names it.
    found.extend(["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].map(PathBuf::from));
    found.retain(|path| path.exists());
    found.sort();
    found.dedup();
    found
}

/// Directories anew, files linked: a root of its own for each RUN.
fn copy_linked(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_linked(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}
