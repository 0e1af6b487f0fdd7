//! A place to build: a context directory, a state root and a HOME of its own, a
//! registry with the base images in it, and the program under test as a
//! subprocess with nothing else in its environment.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::base::{self, Base};
use super::image::{self, Image};
use super::server::Server;
use super::user::User;

/// No build of a test takes longer; one that does hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Where a test works; removed when it ends.
pub struct Bench {
    directory: TempDir,
    user: User,
    server: Option<Server>,
    environment: Vec<(String, String)>,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Run {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Bench {
    /// An empty bench for `user`.
    pub fn new(user: User) -> Self {
        let directory = tempfile::Builder::new().prefix("coracle-test-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bench = Self { directory, user, server: None, environment: Vec::new() };
        for name in ["", "context", "home", "out"] {
            let path = bench.path(name);
            fs::create_dir_all(&path).unwrap();
            bench.give(&path);
        }
        bench
    }

    /// Who runs the program.
    pub fn user(&self) -> User {
        self.user
    }

    /// A path inside the bench.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Sets a variable of the program's environment.
    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file of the context, its parents with it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path("context").join(name);
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| !parent.exists()).collect();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        missing.into_iter().for_each(|parent| self.give(parent));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self.give(&path);
    }

    /// Writes the Dockerfile. `BASE` and `AWKWARD` stand for the base images,
    /// which the registry then serves.
    pub fn dockerfile(&mut self, text: &str) {
        let mut text = text.to_owned();
        for (word, repository, base) in [
            ("BASE", "library/base", base::busybox as fn() -> &'static Base),
            ("AWKWARD", "library/awkward", base::awkward),
        ] {
            if text.contains(word) {
                let server = self.server();
                server.put(repository, "latest", base());
                text = text.replace(word, &format!("{}/{repository}:latest", server.host()));
            }
        }
        self.file("Dockerfile", text);
    }

    /// The registry, started when first asked for.
    pub fn server(&mut self) -> &Server {
        self.server.get_or_insert_with(|| Server::start(None))
    }

    /// A registry that wants this user and password.
    pub fn guarded_server(&mut self, user: &str, password: &str) -> &Server {
        self.server.get_or_insert_with(|| Server::start(Some((user, password))))
    }

    /// Makes the user the owner of `path`.
    pub fn give(&self, path: &Path) {
        if self.user != User::caller() {
            chown(path, Some(self.user.uid), Some(self.user.gid)).unwrap();
        }
    }

    /// The program with `arguments`, ready to start: state, HOME and user are set.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("CORACLE_STATE_DIR", self.state())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.user != User::caller() {
            command.uid(self.user.uid).gid(self.user.gid);
        }
        command
    }

    /// Runs the program to its end.
    pub fn coracle<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Run {
        Run::of(self.command(arguments).spawn().unwrap())
    }

    /// `coracle build` with flags, on the bench's context.
    pub fn try_build(&self, flags: &[&str]) -> Run {
        self.coracle(&[&["build", "--progress", "plain"], flags, &["context"]].concat())
    }

    /// A build that must work, and its image.
    pub fn build(&self, flags: &[&str]) -> Image {
        let run = self.try_build(flags);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        self.assert_clean();
        self.image(&run.digest())
    }

    /// The image `digest`. What was only pushed, and a layer of a base that no
    /// RUN needed, is not in the state directory: the registry has it then.
    pub fn image(&self, digest: &str) -> Image {
        Image::gather(digest, &|digest| {
            let elsewhere = || self.server.as_ref()?.blob(digest);
            image::stored(&self.state(), digest).or_else(elsewhere)
        })
    }

    /// A build that must fail with `code`, one `error:` line that contains
    /// `part`, and a clean state. Returns standard error.
    pub fn fails(&self, flags: &[&str], code: i32, part: &str) -> String {
        let run = self.try_build(flags);
        run.assert_fails(code, part);
        self.assert_clean();
        run.stderr
    }

    /// Nothing unfinished is left in the state directory.
    pub fn assert_clean(&self) {
        let builds = self.state().join("builds");
        let left: Vec<_> =
            fs::read_dir(&builds).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        assert!(left.is_empty(), "builds/ has {left:?}");
    }
}

impl Run {
    /// Waits for `child`, reading both its outputs.
    pub fn of(mut child: Child) -> Self {
        let stdout = reader(child.stdout.take().unwrap());
        let stderr = reader(child.stderr.take().unwrap());
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                let said = String::from_utf8_lossy(&stderr.join().unwrap()).into_owned();
                panic!("still running after {LIMIT:?}:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Self {
            code: status.code(),
            stdout: stdout.join().unwrap(),
            stderr: String::from_utf8_lossy(&stderr.join().unwrap()).into_owned(),
        }
    }

    /// The digest, which must be all of standard output.
    pub fn digest(&self) -> String {
        let text = String::from_utf8(self.stdout.clone()).unwrap();
        let digest = text.strip_suffix('\n').unwrap_or_else(|| panic!("stdout is {text:?}"));
        assert!(digest.parse::<coracle::image::Digest>().is_ok(), "stdout is {text:?}");
        digest.to_owned()
    }

    /// It failed with `code`, one `error:` line, and said `part`.
    pub fn assert_fails(&self, code: i32, part: &str) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.errors(), 1, "one error was expected:\n{}", self.stderr);
        let text = self.stderr.to_lowercase();
        assert!(text.contains(&part.to_lowercase()), "`{part}` is not in:\n{}", self.stderr);
        assert!(!text.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.stdout, b"", "stdout must be empty");
    }

    /// How many lines are headed `error:`, alone or behind a place in a Dockerfile.
    pub fn errors(&self) -> usize {
        let headed = |line: &&str| line.starts_with("error: ") || line.contains(": error: ");
        self.stderr.lines().filter(headed).count()
    }
}

fn reader(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// The program under test where every user can execute it: a checkout below a
/// private home directory is closed to others.
pub fn program() -> &'static Path {
    PROGRAM.get_or_init(|| {
        let directory = tempfile::Builder::new().prefix("coracle-program-").tempdir().unwrap().keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.join("coracle");
        fs::copy(built(), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    })
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Removes the copy of the program: statics are not dropped.
pub fn clean_up() {
    if let Some(directory) = PROGRAM.get().and_then(|path| path.parent()) {
        fs::remove_dir_all(directory).unwrap();
    }
}

/// What cargo built; a copy of the tests for another user has it beside itself.
fn built() -> PathBuf {
    let beside = std::env::current_exe().unwrap().with_file_name("coracle");
    if beside.is_file() { beside } else { PathBuf::from(env!("CARGO_BIN_EXE_coracle")) }
}
