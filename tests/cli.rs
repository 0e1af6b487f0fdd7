//! The command line: what it refuses, where it writes, what it prints.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::image::Image;
use crate::support::{Bench, Run, User, as_caller, as_everyone, plain};

pub fn trials() -> Vec<Trial> {
    vec![
        as_caller("cli::usage_errors_come_together", usage_errors_come_together),
        as_caller("cli::refused_flags_say_what_to_use", refused_flags_say_what_to_use),
        as_caller("cli::version_and_help", version_and_help),
        as_caller("cli::check_draws_diagnostics", check_draws_diagnostics),
        as_caller("cli::check_answers_requests", check_answers_requests),
        as_caller("cli::images_lists_names", images_lists_names),
        as_caller("cli::dockerfile_from_stdin", dockerfile_from_stdin),
        as_caller("cli::outputs", outputs),
        as_caller("cli::output_to_stdout", output_to_stdout),
        as_caller("cli::files_for_scripts", files_for_scripts),
        as_caller("cli::quiet_prints_the_digest_only", quiet_prints_the_digest_only),
        as_caller("cli::steps_are_named_in_the_log", steps_are_named_in_the_log),
        as_caller("cli::annotations", annotations),
        as_caller("cli::build_contexts", build_contexts),
        as_caller("cli::add_host", add_host),
        as_caller("cli::doctor_reports", doctor_reports),
        plain("cli::probes_are_quick", probes_are_quick),
        as_caller("cli::doctor_asks_registries", doctor_asks_registries),
    ]
    .into_iter()
    .chain(as_everyone("cli::purge_empties_the_state", purge_empties_the_state))
    .chain(as_everyone(
        "cli::purge_empties_the_state_of_plain_storage",
        purge_empties_the_state_of_plain_storage,
    ))
    .collect()
}

const SMALL: &str = "FROM scratch\nCOPY Dockerfile /d\n";

fn usage_errors_come_together(mut bench: Bench) {
    bench.dockerfile(SMALL);
    let run = bench.try_build(&[
        "-t",
        "Upper/Case",
        "--load",
        "--platform",
        "a b",
        "--add-host",
        "x",
        "--output",
        "type=zip",
    ]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert_eq!(run.errors(), 5, "{}", run.stderr);
    assert!(!bench.state().exists());
}

fn refused_flags_say_what_to_use(mut bench: Bench) {
    bench.dockerfile(SMALL);
    for (flag, part) in [
        ("--load", "type=docker"),
        ("--cache-from=type=registry,ref=x", "--state-dir"),
        ("--sbom=true", "--sbom=false"),
        ("--output=type=local,dest=x", "type=oci"),
        ("--progress=fancy", "rawjson"),
    ] {
        bench.try_build(&[flag]).assert_fails(2, part);
    }
    for context in ["no-such-directory", "https://example.com/x.git#a..b"] {
        bench.coracle(&["build", context]).assert_fails(2, "the context");
    }
    bench.coracle(&["build", "-f", "-", "-"]).assert_fails(2, "not both");
}

fn version_and_help(bench: Bench) {
    let run = bench.coracle(&["version"]);
    assert_eq!(
        (run.code, run.stdout),
        (Some(0), format!("coracle {}\n", env!("CARGO_PKG_VERSION")).into_bytes())
    );
    let run = bench.coracle(&["build", "--help"]);
    assert_eq!(run.code, Some(0));
    assert!(String::from_utf8_lossy(&run.stdout).contains("--insecure-registry"));
    let run = bench.coracle(&["buld"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("'build'"), "the nearest command is suggested:\n{}", run.stderr);
}

fn check_draws_diagnostics(mut bench: Bench) {
    bench.dockerfile("FROM scratch\nCOPPY a b\n");
    let run = bench.coracle(&["check", "context"]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    for part in ["Dockerfile:2:1", "COPPY a b", "^", "COPY"] {
        assert!(run.stderr.contains(part), "`{part}` is not in:\n{}", run.stderr);
    }
    bench.dockerfile(SMALL);
    assert_eq!(bench.coracle(&["check", "context"]).code, Some(0));
    assert_eq!(bench.coracle(&["build", "--check", "context"]).code, Some(0));
    assert!(!bench.state().exists(), "check opens nothing");
}

fn check_answers_requests(mut bench: Bench) {
    bench.dockerfile(
        "# syntax=docker/dockerfile:1\n# check=experimental=all\nFROM scratch as first\nCOPY hidden $nothing /\n",
    );
    bench.file("hidden", "x");
    bench.file(".dockerignore", "hidden\n");
    let run = bench.coracle(&["check", "context"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for part in ["FromAsCasing", "UndefinedVar", "CopyIgnoredFile"] {
        assert!(run.stderr.contains(part), "`{part}` is not in:\n{}", run.stderr);
    }
    let json = |run: &Run| -> Value { serde_json::from_slice(&run.stdout).expect("it is JSON") };
    let answer = json(&bench.coracle(&["build", "--call=check,format=json", "context"]));
    let rules: Vec<&str> = answer["warnings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|found| found["ruleName"].as_str())
        .collect();
    assert_eq!(rules, ["FromAsCasing", "CopyIgnoredFile", "UndefinedVar"]);
    assert_eq!(answer["warnings"][0]["location"]["ranges"][0]["start"]["line"], 3);
    let strict = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true"];
    let run = bench.coracle(&[&["build", "--check", "context"][..], &strict].concat());
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let run = bench.coracle(&[&["build", "context"][..], &strict].concat());
    assert_eq!(run.code, Some(3), "findings fail the build:\n{}", run.stderr);
    assert!(run.stderr.contains("FromAsCasing"), "{}", run.stderr);
    let targets = json(&bench.coracle(&["build", "--call=targets,format=json", "context"]));
    assert_eq!(targets["targets"][0]["name"], "first");
    let outline = bench.coracle(&["build", "--call=outline", "context"]);
    assert!(String::from_utf8_lossy(&outline.stdout).starts_with("TARGET:      first"));
    assert_eq!(bench.coracle(&["build", "--call=nonsense", "context"]).code, Some(2));
}

fn images_lists_names(mut bench: Bench) {
    assert_eq!(bench.coracle(&["images"]).stdout, b"");
    bench.dockerfile(SMALL);
    let image = bench.build(&["-t", "b:2", "-t", "registry.example.com/a"]);
    let run = bench.coracle(&["ls"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = String::from_utf8(run.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let expected = ["docker.io/library/b:2", "registry.example.com/a:latest"]
        .map(|name| format!("{name}\t{}", image.digest));
    assert_eq!(lines, expected);
}

fn dockerfile_from_stdin(mut bench: Bench) {
    bench.dockerfile("FROM nowhere/else\n");
    bench.file("note", "n");
    let mut command = bench.command(&["build", "-t", "stdin", "-f", "-", "context"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"FROM scratch\nCOPY note /note\n").unwrap();
    let run = Run::of(child);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(Image::read(&bench.state(), &run.digest()).text("note"), "n");
}

fn outputs(mut bench: Bench) {
    bench.dockerfile(SMALL);
    let name = "docker.io/library/app:1";
    let image = bench.build(&[
        "-t",
        "app:1",
        "-o",
        "type=oci,dest=out/layout",
        "-o",
        "type=oci,dest=out/oci.tar",
        "-o",
        "type=docker,dest=out/docker.tar",
    ]);
    assert_eq!(Image::read(&bench.path("out/layout"), &image.digest).config, image.config);
    assert!(Image::named(&bench.state(), name).is_some(), "index.json of the state directory names it");
    let unpacked = untar(&bench, &fs::read(bench.path("out/oci.tar")).unwrap(), "out/unpacked");
    assert_eq!(Image::read(&unpacked, &image.digest).config, image.config);
    let docker = untar(&bench, &fs::read(bench.path("out/docker.tar")).unwrap(), "out/docker");
    let manifest: Value = serde_json::from_slice(&fs::read(docker.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["app:1"]));
    let config = fs::read(docker.join(manifest[0]["Config"].as_str().unwrap())).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&config).unwrap(), image.config);
}

/// The digest makes room for the archive and goes to standard error.
fn output_to_stdout(mut bench: Bench) {
    bench.dockerfile(SMALL);
    let run = bench.try_build(&["-q", "-o", "type=oci,dest=-"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let digest = run.stderr.trim().to_owned();
    let unpacked = untar(&bench, &run.stdout, "out/stdout");
    assert_eq!(Image::read(&unpacked, &digest).text("d"), SMALL);
}

fn untar(bench: &Bench, bytes: &[u8], name: &str) -> std::path::PathBuf {
    let directory = bench.path(name);
    tar::Archive::new(bytes).unpack(&directory).unwrap();
    directory
}

fn files_for_scripts(mut bench: Bench) {
    bench.dockerfile(SMALL);
    let image = bench.build(&["-t", "app", "--iidfile", "out/id", "--metadata-file", "out/metadata.json"]);
    let id = fs::read_to_string(bench.path("out/id")).unwrap();
    assert_eq!(id, image.manifest["config"]["digest"].as_str().unwrap());
    let metadata: Value =
        serde_json::from_slice(&fs::read(bench.path("out/metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], image.digest);
    assert_eq!(metadata["containerimage.config.digest"], id);
}

fn quiet_prints_the_digest_only(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN echo loud\n");
    let run = bench.coracle(&["build", "-q", "context"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    run.digest();
}

fn steps_are_named_in_the_log(mut bench: Bench) {
    bench.dockerfile("FROM BASE AS tools\nRUN echo a line of output\nRUN true\n");
    let run = bench.try_build(&["-t", "log"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for part in ["[tools 2/3] RUN echo a line of output", "[tools 3/3] RUN true"] {
        assert!(run.stderr.contains(part), "`{part}` is not in:\n{}", run.stderr);
    }
    assert!(
        run.stderr.lines().any(|line| line.ends_with(" a line of output") && !line.contains("RUN")),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains('\r') && !run.stderr.contains('\x1b'), "plain lines only");
}

fn annotations(mut bench: Bench) {
    bench.dockerfile(SMALL);
    let image = bench.build(&["-t", "app", "--annotation", "a.b=c", "--annotation", "manifest:d=e"]);
    assert_eq!(image.manifest["annotations"], serde_json::json!({"a.b": "c", "d": "e"}));
}

fn build_contexts(mut bench: Bench) {
    bench.file("../other/note", "other");
    bench.dockerfile("FROM scratch\nCOPY --from=other note /note\n");
    let image = bench.build(&["-t", "named", "--build-context", "other=other"]);
    assert_eq!(image.text("note"), "other");
}

fn add_host(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN grep 'db.test' /etc/hosts > /seen\n");
    let image = bench.build(&["-t", "hosts", "--add-host", "db.test:10.1.2.3"]);
    assert_eq!(image.text("seen").split_whitespace().collect::<Vec<_>>(), ["10.1.2.3", "db.test"]);
}

fn doctor_reports(bench: Bench) {
    let run = bench.coracle(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    let rungs: Vec<&str> =
        report["rungs"].as_array().unwrap().iter().map(|rung| rung["rung"].as_str().unwrap()).collect();
    assert_eq!(rungs, ["namespaces", "mounts", "single", "chroot", "virtual", "none"]);
    let taken = report["rung"].as_str().unwrap();
    assert_eq!(run.code, Some(if taken == "none" { 3 } else { 0 }), "{report:#}");
    for rung in report["rungs"].as_array().unwrap() {
        let refused = ["call", "cause", "change"].iter().all(|key| rung["refusal"][key].is_string());
        assert_eq!(rung["works"] == false, refused, "{rung:#}");
    }
    assert!(report["state"]["space"]["free_bytes"].as_u64().unwrap() > 0);
    assert_eq!(fs::read_dir(bench.state()).unwrap().count(), 0, "the probes leave nothing");
    let text = String::from_utf8(bench.coracle(&["doctor"]).stdout).unwrap();
    assert!(text.contains(&format!("isolation of RUN: {taken} (")), "{text}");
    assert_eq!(text.contains("to have RUN: "), taken == "none", "{text}");
    let forced = bench.coracle(&["doctor", "--state-dir", "/proc/nowhere"]);
    forced.assert_fails(1, "/proc/nowhere");
}

/// All rungs, each in children of its own; a build tries fewer. One of many must
/// make it, on a machine that has nothing else to do.
fn probes_are_quick() -> Result<(), String> {
    let bench = Bench::new(User::caller());
    let took = || {
        let run = bench.coracle(&["doctor", "--json"]);
        let report: Value = serde_json::from_slice(&run.stdout).unwrap();
        report["probe_milliseconds"].as_u64().unwrap()
    };
    let fastest = (0..20).map(|_| took()).min().unwrap();
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let processors = std::thread::available_parallelism().unwrap().get();
    if fastest >= 50 && load > processors as f64 / 2.0 {
        return Err(format!("the machine is busy (load {load}): {fastest} ms at best"));
    }
    assert!(fastest < 50, "{fastest} ms");
    Ok(())
}

fn doctor_asks_registries(mut bench: Bench) {
    let host = bench.guarded_server("alice", "correct-horse").host();
    bench.env("HTTPS_PROXY", "http://me:battery-staple@localhost:1");
    let ask = |bench: &Bench| {
        let run = bench.coracle(&["doctor", "--json", "--registry", &host, "--registry", "127.0.0.1:9"]);
        let text = String::from_utf8(run.stdout).unwrap();
        assert!(!text.contains("battery") && !text.contains("correct-horse"), "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["registries"].clone()
    };
    let heard = ask(&bench);
    assert_eq!((&heard[0]["reachable"], &heard[0]["login"]), (&true.into(), &"refused".into()), "{heard:#}");
    assert_eq!(heard[1]["reachable"], false, "{heard:#}");
    fs::create_dir(bench.path("home/.docker")).unwrap();
    let config = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"YWxpY2U6Y29ycmVjdC1ob3JzZQ==\"}}}}}}");
    fs::write(bench.path("home/.docker/config.json"), config).unwrap();
    let heard = ask(&bench);
    assert_eq!(heard[0]["login"], "accepted", "{heard:#}");
}

fn purge_empties_the_state(bench: Bench) {
    assert_eq!(bench.coracle(&["purge"]).code, Some(0), "nothing there yet");
    purge_after_a_run(bench);
}

fn purge_empties_the_state_of_plain_storage(mut bench: Bench) {
    bench.env("CORACLE_STORAGE", "plain");
    purge_after_a_run(bench);
}

/// Trees of a RUN hold files of subordinate ids.
fn purge_after_a_run(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN mkdir -m 700 /x && touch /x/y && chown -R 77:77 /x\n");
    bench.build(&["-t", "x"]);
    let lock = fs::File::open(bench.state().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    bench.coracle(&["purge"]).assert_fails(1, "in use by a build");
    drop(lock);
    let run = bench.coracle(&["purge"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let mut left: Vec<_> =
        fs::read_dir(bench.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", "version"]);
    let other = bench.path("context");
    bench
        .coracle(&["purge", "--state-dir", other.to_str().unwrap()])
        .assert_fails(1, "not a state directory");
    assert!(other.join("Dockerfile").exists());
}
