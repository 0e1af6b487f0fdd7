//! Our own answer to a case, through the program's front door.

use serde_json::Value;

use super::case::Case;
use super::picture::Picture;
use crate::support::{Bench, Run};

/// coracle's answer to a case.
pub(super) fn answer(case: &Case, bench: &mut Bench) -> Picture {
    let arguments = case.arguments(bench);
    let mut picture = Picture::new("coracle");
    let epoch = case.has_epoch();
    let run = build(&arguments, bench, &["--progress=plain"]);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    match run.code {
        Some(0) => picture.add_image(&bench.image(&run.digest()), epoch),
        _ => refused(&run.stderr, &mut picture),
    }
    bench.assert_clean();
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

fn build(arguments: &[String], bench: &Bench, flags: &[&str]) -> Run {
    let args: Vec<&str> = arguments.iter().map(String::as_str).collect();
    bench.coracle(&[&["build"], flags, &args, &["context"]].concat())
}

fn json(run: &Run) -> Value {
    serde_json::from_slice(&run.stdout).unwrap_or_default()
}

/// An error has its line and column before it: `Dockerfile:3:5: error: …`.
fn refused(stderr: &str, picture: &mut Picture) {
    picture.add("outcome", "refused");
    let error = stderr.lines().find(|line| line.starts_with("error: ") || line.contains(": error: "));
    picture.add("says", error.unwrap_or(stderr));
    let place = error.and_then(|line| line.split_once(": error: ")).map(|(place, _)| place);
    let mut parts = place.unwrap_or_default().rsplitn(3, ':');
    if let (Some(column), Some(line)) = (parts.next(), parts.next())
        && column.parse::<u32>().is_ok()
    {
        picture.add("at", line);
    }
}
