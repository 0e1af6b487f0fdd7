//! Each gives one clear error, the right exit code and a clean state.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use libtest_mimic::Trial;

use crate::support::mount::Mounted;
use crate::support::{Bench, Run, User, as_caller, as_everyone, plain};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        as_caller("bad_input::no_dockerfile", no_dockerfile),
        as_caller("bad_input::empty_dockerfile", empty_dockerfile),
        as_caller("bad_input::several_mistakes_at_once", several_mistakes_at_once),
        as_caller("bad_input::unknown_stage", unknown_stage),
        as_caller("bad_input::missing_copy_source", missing_copy_source),
        as_caller("bad_input::malformed_tag", malformed_tag),
        as_caller("bad_input::unreachable_registry_for_base", unreachable_registry_for_base),
        as_caller("bad_input::unreachable_registry_for_push", unreachable_registry_for_push),
        as_caller("bad_input::wrong_password", wrong_password),
        as_caller("bad_input::missing_base", missing_base),
        as_caller("bad_input::missing_secret_file", missing_secret_file),
    ];
    trials.extend(as_everyone("bad_input::state_directory_not_writable", state_directory_not_writable));
    trials.extend(as_everyone("bad_input::failing_run", failing_run));
    trials.extend(as_everyone("bad_input::unknown_command_in_run", unknown_command_in_run));
    trials.push(plain("bad_input::disk_full", disk_full));
    trials
}

fn no_dockerfile(bench: Bench) {
    bench.file("other", "");
    bench.fails(&["-t", "x"], 3, "Dockerfile");
    bench.fails(&["-t", "x", "-f", "nowhere/Dockerfile"], 3, "nowhere/Dockerfile");
}

fn empty_dockerfile(mut bench: Bench) {
    bench.dockerfile("");
    bench.fails(&["-t", "x"], 3, "FROM");
    bench.dockerfile("# only a comment\n\n");
    bench.fails(&["-t", "x"], 3, "FROM");
}

/// Three typos cost one run, not three; each has its place and a caret.
fn several_mistakes_at_once(mut bench: Bench) {
    bench.dockerfile("FROM scratch\nCOPPY a b\nENV\nRUN --mont=type=tmpfs true\n");
    let run = bench.try_build(&["-t", "x"]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    for part in ["Dockerfile:2:1", "Dockerfile:3:1", "Dockerfile:4:", "COPY", "^"] {
        assert!(run.stderr.contains(part), "`{part}` is not in:\n{}", run.stderr);
    }
    bench.assert_clean();
}

fn unknown_stage(mut bench: Bench) {
    bench.dockerfile("FROM scratch AS build\nLABEL a=b\n");
    let said = bench.fails(&["-t", "x", "--target", "biuld"], 3, "biuld");
    assert!(said.contains("`build`"), "the nearest name is suggested:\n{said}");
    bench.dockerfile("FROM scratch AS build\nFROM scratch\nCOPY --from=biuld /a /b\nLABEL a=b\n");
    bench.fails(&["-t", "x", "--insecure-registry", "docker.io"], 3, "biuld");
    bench.dockerfile("FROM scratch AS build\nFROM scratch\nCOPY --from=127.0.0.1:1/biuld /a /a\n");
    let said = bench.fails(&["-t", "x"], 3, "Dockerfile:3:13");
    assert!(said.contains("no earlier stage has this name"), "{said}");
}

fn missing_copy_source(mut bench: Bench) {
    bench.dockerfile("FROM scratch\nCOPY present missing /x/\n");
    bench.file("present", "p");
    let said = bench.fails(&["-t", "x"], 3, "missing");
    assert!(said.contains("Dockerfile:2"), "the line is named:\n{said}");
}

fn malformed_tag(mut bench: Bench) {
    bench.dockerfile("FROM scratch\nLABEL a=b\n");
    bench.fails(&["-t", "Upper/Case"], 2, "Upper/Case");
    bench.fails(&["-t", "a:b:c"], 2, "a:b:c");
    assert!(!bench.state().exists(), "usage errors open nothing");
}

/// A port on which nobody listens.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn unreachable_registry_for_base(mut bench: Bench) {
    let host = closed_port();
    bench.dockerfile(&format!("FROM {host}/library/thing:1\nLABEL a=b\n"));
    bench.fails(&["-t", "x"], 3, &host);
}

/// Said before any step runs.
fn unreachable_registry_for_push(mut bench: Bench) {
    let host = closed_port();
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /d\n");
    let said = bench.fails(&["-t", &format!("{host}/team/app:1"), "--push"], 4, &host);
    assert!(!said.contains("COPY"), "no step runs first:\n{said}");
}

fn wrong_password(mut bench: Bench) {
    let host = bench.guarded_server("ci", "right").host();
    let name = format!("{host}/team/app:1");
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /d\n");
    bench.fails(&["-t", &name, "--push"], 5, &host);
    bench.env(
        "DOCKER_AUTH_CONFIG",
        &format!(r#"{{"auths":{{"{host}":{{"username":"ci","password":"wrong-one"}}}}}}"#),
    );
    let said = bench.fails(&["-t", &name, "--push"], 5, &host);
    assert!(!said.contains("wrong-one"), "{said}");
}

fn missing_base(mut bench: Bench) {
    let host = bench.server().host();
    bench.dockerfile(&format!("FROM {host}/library/nothing:1\nLABEL a=b\n"));
    bench.fails(&["-t", "x"], 3, "library/nothing:1");
}

fn missing_secret_file(mut bench: Bench) {
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /d\n");
    let run = bench.try_build(&["-t", "x", "--secret", "id=a,src=no-such-file"]);
    run.assert_fails(2, "no-such-file");
    bench.assert_clean();
}

fn state_directory_not_writable(mut bench: Bench) {
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /d\n");
    let closed = bench.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    // Root writes into any directory, but not below a file.
    let state =
        if bench.user().uid == 0 { bench.path("context/Dockerfile/state") } else { closed.join("state") };
    let state = state.to_str().unwrap();
    bench.fails(&["-t", "x", "--state-dir", state], 1, state);
}

/// The line is repeated with a caret, then the exit code and the last lines.
fn failing_run(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN true\nRUN echo one; echo last words >&2; exit 7\n");
    let said = bench.fails(&["-t", "x"], 3, "exit code 7");
    for part in ["Dockerfile:3", "RUN echo one", "^", "last words"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
}

fn unknown_command_in_run(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN [\"/no/such/program\"]\n");
    bench.fails(&["-t", "x"], 3, "/no/such/program");
}

/// A small tmpfs as state directory, and a file that does not fit.
fn disk_full() -> Result<(), String> {
    let user = User::root()?;
    let mut bench = Bench::new(user);
    let state = bench.state();
    fs::create_dir(&state).unwrap();
    let mounted = Mounted::tmpfs(&state, "size=8m")?;
    let mut noise = vec![0_u8; 16 << 20];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut noise))
        .unwrap();
    bench.file("noise", noise);
    bench.dockerfile("FROM scratch\nCOPY noise /noise\n");
    bench.fails(&["-t", "x"], 1, "no space left");
    // What was unfinished is gone, so that a small image fits.
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /d\n");
    let run: Run = bench.try_build(&["-t", "x"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    drop(mounted);
    Ok(())
}
