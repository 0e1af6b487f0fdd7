//! `--push=false`: docker's switches take a value, clap's do not.

use std::ffi::OsString;

/// The switches of `docker buildx build`.
const SWITCHES: [&str; 6] = ["check", "load", "no-cache", "pull", "push", "quiet"];

/// `--switch=true` becomes `--switch`, and `--switch=false` nothing. Another
/// value stays, and is an error later.
pub(super) fn plain(arguments: Vec<OsString>) -> Vec<OsString> {
    arguments.into_iter().filter_map(plain_one).collect()
}

fn plain_one(argument: OsString) -> Option<OsString> {
    let switch = argument.to_str().and_then(|text| text.strip_prefix("--")?.split_once('='));
    match switch {
        Some((name, "true" | "1")) if SWITCHES.contains(&name) => Some(format!("--{name}").into()),
        Some((name, "false" | "0")) if SWITCHES.contains(&name) => None,
        _ => Some(argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_may_have_a_value() {
        let given = ["coracle", "build", "--push=true", "--load=false", "--pull=maybe", "--tag=true", "."];
        let given = given.iter().map(OsString::from).collect();
        assert_eq!(plain(given), ["coracle", "build", "--push", "--pull=maybe", "--tag=true", "."]);
    }
}
