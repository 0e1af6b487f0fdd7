//! Our seccomp profiles beside the engines' own files, where these are at hand:
//! `CORACLE_SECCOMP_ORIGINAL` names a directory with Docker's
//! `docker-default-seccomp.json`, containers-common's `seccomp.json`, or both.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use crate::bundle::SANDBOXES;
use crate::support::seccomp::{Profile, calls};
use crate::support::switch;

const VARIABLE: &str = "CORACLE_SECCOMP_ORIGINAL";

const FILES: [(Profile, &str); 2] =
    [(Profile::Docker, "docker-default-seccomp.json"), (Profile::Podman, "seccomp.json")];

/// Calls that containers-common took up with new kernels; which of them are in
/// the file depends on its version.
const TAKEN_UP: [&str; 18] = [
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getxattrat",
    "listmount",
    "listxattrat",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "map_shadow_stack",
    "mseal",
    "removexattrat",
    "setxattrat",
    "statmount",
    "uretprobe",
];

/// First arguments that a rule tells apart: families, personalities, flags of clone.
const FIRST: [u64; 18] = [
    0,
    1,
    2,
    8,
    16,
    37,
    38,
    39,
    40,
    41,
    0x2_0000,
    0x2_0008,
    0x200_0000,
    0x1000_0000,
    0x4000_0000,
    0x0120_0011,
    0xffff_ffff,
    u64::MAX,
];

/// Third arguments: protocols of socket(2).
const THIRD: [u64; 2] = [0, 9];

pub fn trials() -> Vec<Trial> {
    FILES
        .into_iter()
        .map(|(profile, file)| {
            Trial::ignorable_test(format!("profile::{profile:?}"), move || compare(profile, file))
        })
        .collect()
}

fn compare(profile: Profile, file: &str) -> Result<Completion, Failed> {
    let Some(directory) = switch(VARIABLE) else {
        return Ok(Completion::ignored_with(format!("{VARIABLE} names no directory with {file}")));
    };
    let path = PathBuf::from(directory).join(file);
    let Ok(text) = fs::read(&path) else {
        return Ok(Completion::ignored_with(format!("there is no {}", path.display())));
    };
    let original: Value = serde_json::from_slice(&text)?;
    let mut sets: Vec<Vec<String>> = SANDBOXES.iter().map(|sandbox| sandbox.capabilities()).collect();
    sets.dedup();
    let differences: BTreeSet<String> =
        sets.iter().flat_map(|capabilities| differences(profile, &original, capabilities)).collect();
    if differences.is_empty() {
        return Ok(Completion::Completed);
    }
    Err(differences.into_iter().collect::<Vec<_>>().join("\n").into())
}

fn differences(profile: Profile, original: &Value, capabilities: &[String]) -> Vec<String> {
    let ours = profile.seccomp(capabilities).unwrap();
    let rules = |profile: &Value| -> Vec<Value> {
        let all = profile["syscalls"].as_array().unwrap();
        all.iter().filter(|rule| applies(rule, capabilities)).cloned().collect()
    };
    let (our_rules, rules) = (rules(&ours), rules(original));
    let mut found = Vec::new();
    for name in calls().filter(|name| profile == Profile::Docker || !TAKEN_UP.contains(name)) {
        let (our_rules, rules) = (naming(&our_rules, name), naming(&rules, name));
        let mut calls = FIRST.into_iter().flat_map(|first| THIRD.map(|third| [first, 0, third]));
        let sides = |arguments| (decide(&our_rules, &ours, arguments), decide(&rules, original, arguments));
        let differs = |arguments: &[u64; 3]| matches!(sides(*arguments), (ours, theirs) if ours != theirs);
        found.extend(calls.find(differs).map(|arguments| {
            let (count, (ours, theirs)) = (capabilities.len(), sides(arguments));
            format!("{name}{arguments:x?} with {count} capabilities: errno {ours:?} here, {theirs:?} there")
        }));
    }
    found
}

/// Whether a rule of an engine's file counts for a container of this machine.
fn applies(rule: &Value, capabilities: &[String]) -> bool {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let listed = |list: &Value, ours: &dyn Fn(&str) -> bool| {
        list.as_array().map(|all| all.iter().any(|item| ours(item.as_str().unwrap())))
    };
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let is = |name: &str| name == architecture;
    let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
    listed(&includes["caps"], &has) != Some(false)
        && listed(&includes["arches"], &is) != Some(false)
        && listed(&excludes["caps"], &has) != Some(true)
        && listed(&excludes["arches"], &is) != Some(true)
}

fn naming<'a>(rules: &'a [Value], name: &str) -> Vec<&'a Value> {
    let named = |rule: &&Value| rule["names"].as_array().unwrap().iter().any(|listed| listed == name);
    rules.iter().filter(named).collect()
}

/// `None`: allowed. An errno otherwise.
fn decide(rules: &[&Value], profile: &Value, arguments: [u64; 3]) -> Option<u64> {
    let matching: Vec<&&Value> = rules.iter().filter(|rule| matches(rule, arguments)).collect();
    let default = || profile["defaultErrnoRet"].as_u64().unwrap();
    match matching.iter().find(|rule| rule["action"] == "SCMP_ACT_ALLOW") {
        Some(_) => None,
        None => Some(matching.iter().find_map(|rule| rule["errnoRet"].as_u64()).unwrap_or_else(default)),
    }
}

fn matches(rule: &Value, arguments: [u64; 3]) -> bool {
    rule["args"].as_array().into_iter().flatten().all(|argument| {
        let number = |name: &str| argument[name].as_u64().unwrap_or(0);
        let is = arguments[usize::try_from(number("index")).unwrap()];
        let value = number("value");
        match argument["op"].as_str().unwrap() {
            "SCMP_CMP_EQ" => is == value,
            "SCMP_CMP_NE" => is != value,
            "SCMP_CMP_LT" => is < value,
            "SCMP_CMP_GT" => is > value,
            "SCMP_CMP_MASKED_EQ" => is & value == number("valueTwo"),
            other => panic!("{other} is not known here"),
        }
    })
}
