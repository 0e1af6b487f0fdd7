//! The peer: whatever BuildKit `docker buildx` finds.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::case::Case;
use super::picture::Picture;
use crate::support::image::Image;
use crate::support::{Bench, switch};

/// BuildKit's answer to a case.
pub(super) fn answer(case: &Case, bench: &mut Bench) -> Picture {
    let arguments = case.arguments(bench);
    let mut picture = Picture::new(&format!("buildkit {}", version()));
    let epoch = case.has_epoch();
    let rewrite = if epoch { ",rewrite-timestamp=true" } else { "" };
    let output = format!("--output=type=oci,dest=-{rewrite}");
    let output = build(&arguments, bench, &["--provenance=false", "--sbom=false", &output]);
    match output.status.success() {
        true => picture.add_image(&in_tar(&output.stdout), epoch),
        false => refused(&String::from_utf8_lossy(&output.stderr), &mut picture),
    }
    let found = json(&build(&arguments, bench, &["--call=check,format=json"]));
    for warning in found["warnings"].as_array().into_iter().flatten() {
        let line = warning["location"]["ranges"][0]["start"]["line"].as_u64().unwrap_or(0);
        picture.add_check(warning["ruleName"].as_str().unwrap(), line);
    }
    for call in case.all("call") {
        picture.add_json(call, &json(&build(&arguments, bench, &[&format!("--call={call},format=json")])));
    }
    picture
}

fn build(arguments: &[String], bench: &Bench, flags: &[&str]) -> Output {
    let network =
        if arguments.iter().any(|arg| arg.starts_with("--network")) { None } else { Some("--network=host") };
    let mut command = docker(&["buildx", "build", "--progress=plain"]);
    // Times are no part of its cache's keys: an answer could have those of another case.
    command.args(network).arg("--no-cache").args(flags).args(arguments).arg("context");
    command.current_dir(bench.path("")).stdin(Stdio::null()).output().unwrap()
}

/// Docker with what it needs of the environment.
fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "BUILDX_BUILDER"] {
        command.envs(switch(name).map(|value| (name, value)));
    }
    command
}

/// What the daemon calls itself; BuildKit's own version is not told by Docker.
fn version() -> String {
    let output = docker(&["version", "--format", "{{.Server.Version}}"]).output().expect("docker is on PATH");
    assert!(output.status.success(), "docker: {}", String::from_utf8_lossy(&output.stderr));
    format!("of dockerd {}", String::from_utf8_lossy(&output.stdout).trim())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The last line names the reason, `Dockerfile:3` or `line 3` the place.
fn refused(stderr: &str, picture: &mut Picture) {
    picture.add("outcome", "refused");
    let last = stderr.lines().rev().find(|line| line.starts_with("ERROR: ")).unwrap_or("ERROR: ?");
    let says = last.trim_start_matches("ERROR: ").trim_start_matches("failed to build: ");
    picture.add("says", says.trim_start_matches("failed to solve: "));
    let of_file = stderr.lines().find_map(|line| line.split_once("Dockerfile:").map(|(_, rest)| rest));
    let in_text = says.split_once("on line ").map(|(_, rest)| rest);
    let number =
        of_file.or(in_text).map(|text| text.chars().take_while(char::is_ascii_digit).collect::<String>());
    if let Some(number) = number.filter(|number| !number.is_empty()) {
        picture.add("at", &number);
    }
}

/// The image of an OCI layout in a tar.
fn in_tar(tar: &[u8]) -> Image {
    let mut blobs = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        blobs.insert(name, bytes);
    }
    let index: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
    let find =
        |digest: &str| blobs.get(&format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))).cloned();
    Image::gather(index["manifests"][0]["digest"].as_str().unwrap(), &find)
}
