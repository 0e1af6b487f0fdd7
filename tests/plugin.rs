//! The plugin's binary from outside: what it answers before any build runs.
//! Settings themselves are tested beside the code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A working directory and a way to call the binary in it with nothing but the
/// variables that a test gives.
struct Step {
    directory: PathBuf,
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Step {
    fn new() -> Self {
        let name = format!("coracle-plugin-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        fs::write(self.directory.join(name), text).unwrap();
        self
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        self.run_as(Path::new(env!("CARGO_BIN_EXE_coracle-plugin")), arguments, variables)
    }

    fn run_as(&self, program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir(&self.directory);
        Done(command.envs(variables.iter().copied()).output().unwrap())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

struct Done(Output);

impl Done {
    fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    #[track_caller]
    fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.0.status.code(), Some(code), "{}{}", self.stdout(), self.stderr());
        self
    }

    #[track_caller]
    fn says(&self, text: &str) -> &Self {
        assert!(self.stderr().contains(text), "`{text}` is not in:\n{}", self.stderr());
        self
    }

    #[track_caller]
    fn says_not(&self, text: &str) -> &Self {
        assert!(!self.stderr().contains(text), "`{text}` is in:\n{}", self.stderr());
        self
    }

    fn errors(&self) -> usize {
        self.stderr().lines().filter(|line| line.starts_with("error: ")).count()
    }
}

#[test]
fn help_and_nothing_to_do() {
    let step = Step::new();
    assert!(step.run(&["--help"], &[]).exits(0).stdout().contains("PLUGIN_REPO="));
    step.run(&["--version"], &[]).exits(0);
    step.run(&[], &[]).exits(2).says("PLUGIN_REPO=");
    step.run(&[], &[("CORACLE_STATE_DIR", "/x"), ("PLUGIN_REPO", " ")]).exits(2).says("PLUGIN_REPO=");
    step.run(&["--frobnicate"], &[]).exits(2).says("--frobnicate");
}

#[test]
fn table_of_settings() {
    let table = Step::new().run(&["--settings-table"], &[]).exits(0).stdout();
    assert!(table.contains("| repo | `PLUGIN_REPO` |"), "{table}");
    assert!(table.contains("- `bake_file`:"), "{table}");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let variables = [
        ("PLUGIN_REPO", "ghcr.io/$OWNER/app"),
        ("PLUGIN_TAGS", "feature/x,1.2"),
        ("PLUGIN_PURGE", "perhaps"),
        ("PLUGIN_BUILD_ARGS", "{\"A\":1"),
        ("PLUGIN_SQUASH", "true"),
        ("PLUGIN_DOCKERFLIE", "x"),
    ];
    let done = Step::new().run(&[], &variables);
    done.exits(2)
        .says("setting `repo` (PLUGIN_REPO): `ghcr.io/$OWNER/app` has a `$` in it")
        .says("setting `tags` (PLUGIN_TAGS): `feature/x` is not a tag")
        .says("setting `purge` (PLUGIN_PURGE): `perhaps` is neither yes nor no")
        .says("E_JSON")
        .says("setting `squash`")
        .says("warning: setting `dockerflie` (PLUGIN_DOCKERFLIE): there is no such setting; did you mean `dockerfile`?");
    assert_eq!(done.errors(), 5, "{}", done.stderr());
    assert_eq!(done.stdout(), "");
}

#[test]
fn unknown_settings_under_strict() {
    let variables = [("CORACLE_REPO", "me/app"), ("CORACLE_TAGGS", "1"), ("CORACLE_STRICT", "true")];
    Step::new().run(&[], &variables).exits(2).says("setting `taggs` (CORACLE_TAGGS)").says("`tags`");
}

#[test]
fn secrets_are_not_printed() {
    let variables = [
        ("PLUGIN_REPO", "https://u:hunter2@r.io/app"),
        ("PLUGIN_REGISTRY", "https://u:hunter2@r.io"),
        ("PLUGIN_LOGINS", "hunter2"),
        ("PLUGIN_CONFIG", "hunter2"),
        ("PLUGIN_BUILD_ARGS", "=hunter2"),
        ("PLUGIN_JSON_KEY", "hunter2"),
        ("PLUGIN_SECRET", "hunter2"),
        ("PLUGIN_CONTEXT", "https://hunter2@g.example.com/o/r.git#a..b"),
        ("PLUGIN_PASSWORD", "hunter2"),
    ];
    let done = Step::new().run(&[], &variables);
    done.exits(2).says_not("hunter2");
    assert!(done.errors() >= 8, "{}", done.stderr());
}

#[test]
fn a_branch_that_is_none_of_ours_is_skipped() {
    let step = Step::new();
    let variables = [
        ("DRONE", "true"),
        ("DRONE_COMMIT_REF", "refs/heads/topic"),
        ("DRONE_REPO_BRANCH", "main"),
        ("PLUGIN_REPO", "me/app"),
        ("PLUGIN_AUTO_TAG", "true"),
    ];
    let done = step.run(&[], &variables);
    done.exits(0).says("nothing to do");
    assert_eq!(done.stdout(), "");
    assert!(step.names().is_empty());
}

#[test]
fn files_beside_the_build_are_read() {
    let step = Step::new();
    step.file("env", "PLUGIN_REPO=me/app\nPLUGIN_MTU=1400\n").file(".tags", "1.0,a/b\n");
    step.run(&[], &[("PLUGIN_ENV_FILE", "env")])
        .exits(2)
        .says("`a/b` is not a tag")
        .says("setting `mtu` (PLUGIN_MTU): there is no daemon");
    step.run(&[], &[("PLUGIN_ENV_FILE", "no-such-file"), ("PLUGIN_TAGS", "!")]).exits(2).says("W_FILE");
}

#[test]
fn a_command_wins_over_settings() {
    let step = Step::new();
    let done = step.run(&["sh", "-c", "echo $PLUGIN_REPO; exit 7"], &[("PLUGIN_REPO", "me/app")]);
    done.exits(7);
    assert_eq!(done.stdout(), "me/app\n");
    step.run(&["/bin/cat", "/dev/null"], &[]).exits(0);
    step.run(&["no-such-program"], &[("PLUGIN_REPO", "me/app")]).exits(2).says("no-such-program");
}

#[test]
fn other_names() {
    let step = Step::new();
    let executor = step.directory.join("executor");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_coracle-plugin"), &executor).unwrap();
    step.run_as(&executor, &["--no-push"], &[]).exits(2).says("kaniko");
}

#[test]
fn errors_are_annotations_on_github() {
    let variables = [("GITHUB_ACTIONS", "true"), ("PLUGIN_REPO", "me/-app")];
    Step::new()
        .run(&[], &variables)
        .exits(2)
        .says("::error title=settings::setting `repo`")
        .says("\nerror: ");
}

#[test]
fn variables_that_are_no_text_are_left_out() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let step = Step::new();
    let output = Command::new(env!("CARGO_BIN_EXE_coracle-plugin"))
        .env_clear()
        .env("PLUGIN_REPO", "me/-app")
        .env("ODD", OsStr::from_bytes(b"\xff"))
        .current_dir(&step.directory)
        .output()
        .unwrap();
    Done(output).exits(2).says("`ODD` is not UTF-8");
}

#[test]
fn a_ci_nobody_knows() {
    let variables = [("CORACLE_CI", "dronee"), ("PLUGIN_REPO", "me/app")];
    Step::new().run(&[], &variables).exits(2).says("CORACLE_CI: `dronee`");
}
