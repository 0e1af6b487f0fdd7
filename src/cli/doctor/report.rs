//! The report itself, as text for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::machine::{Clock, Space};
use super::{Registries, snippets};
use crate::registry::{Greeting, Login};
use crate::sandbox::{Finding, IdMap, IdRange, Outcome, Refusal, Rung, Storage, Survey};

/// What a registry said, or why it said nothing.
pub(super) type Answer = Result<Greeting, String>;

/// Everything that was found out.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) survey: Survey,
    /// How long the probes took.
    pub(super) probe: Duration,
    pub(super) state_dir: PathBuf,
    pub(super) space: Result<Space, String>,
    pub(super) clock: Clock,
    pub(super) proxies: BTreeMap<String, String>,
    pub(super) registries: Registries,
}

const NO_CHROOT: &str = "chroot(2) inside RUN is refused for anything but `/`";
const NO_SETUID: &str =
    "setuid programs and file capabilities gain nothing for another USER than root (`sudo`)";

/// What else differs between rungs and shows in a Dockerfile.
const DIFFERENCES: [(&[Rung], &str); 7] = [
    (&[Rung::Chroot, Rung::Virtual], "RUN --network=none is refused: there is no network namespace"),
    (
        &[Rung::Chroot, Rung::Virtual],
        "a write to a read-only bind mount works and then fails the step, which names the file; a tmpfs \
         that grows beyond its size ends it",
    ),
    (
        &[Rung::Chroot, Rung::Virtual],
        "RUN --mount=type=cache,sharing=shared waits for other steps as sharing=locked does",
    ),
    (&[Rung::Single], "another USER than root is no border within a RUN: 32-bit programs act as its root"),
    (
        &[Rung::Namespaces, Rung::Mounts, Rung::Single],
        "on overlay storage rename(2) of a directory from a lower layer gives EXDEV (`mv` copies instead), and \
         inside one step the other names of a hard-linked file still read old",
    ),
    (
        &[Rung::Namespaces, Rung::Mounts],
        "a device that mknod(2) makes is one in the layer, and may look like an empty file inside that RUN",
    ),
    (&[Rung::Namespaces, Rung::Single], CLEARS_SETUID),
];

const CLEARS_SETUID: &str = "writing to a setuid or setgid file clears the bit, where real root keeps it";

impl Report {
    /// For people.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let taken = self.survey.taken();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        line(&format!("coracle {}", env!("CARGO_PKG_VERSION")));
        line(&format!("isolation of RUN: {} ({})", taken.rung, self.reason()));
        line("\nrungs, best first");
        for finding in &self.survey.rungs {
            line(&format!("  {:<11} {}", finding.rung.name(), said(finding)));
        }
        line("\nthis machine");
        for (name, value) in self.facts() {
            line(&format!("  {name:<11} {value}"));
        }
        if self.registries.is_empty() {
            line("  registries  none was asked (`coracle doctor --registry HOST` does)");
        } else {
            line("\nregistries");
            self.registries.iter().for_each(|(host, answer)| line(&format!("  {host}: {}", heard(answer))));
        }
        if self.differences().next().is_some() {
            line("\nwhat differs on this rung");
        }
        self.differences().for_each(|difference| line(&format!("  - {difference}")));
        text.push_str(&self.advice());
        text
    }

    /// For programs.
    pub(super) fn to_json(&self) -> String {
        let next = snippets::next_better(&self.survey).map(|(rung, snippets)| {
            json!({"rung": rung.name(), "snippets": snippets.iter().copied().collect::<BTreeMap<_, _>>()})
        });
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "rung": self.survey.taken().rung.name(),
            "reason": self.reason(),
            "rungs": self.survey.rungs.iter().map(finding_json).collect::<Vec<_>>(),
            "no_new_privileges": self.survey.no_new_privileges,
            "seccomp": self.survey.seccomp,
            "landlock": self.survey.landlock,
            "probe_milliseconds": u64::try_from(self.probe.as_millis()).unwrap_or(u64::MAX),
            "state": {
                "path": self.state_dir,
                "space": self.space.as_ref().ok().map(|space| space.to_json()),
            },
            "clock": {"now": self.clock.now.to_string(), "problems": self.clock.problems},
            "proxies": self.proxies,
            "registries": self.registries.iter().map(registry_json).collect::<Vec<_>>(),
            "in_run": {"chroot": self.chroot_works(), "setuid": self.setuid_works()},
            "differences": self.differences().collect::<Vec<_>>(),
            "next": next,
        });
        format!("{report:#}\n")
    }

    fn reason(&self) -> &'static str {
        let taken = self.survey.taken().rung;
        let better = |finding: &&Finding| {
            finding.rung < taken && matches!(finding.outcome, Outcome::Works { .. } | Outcome::Untried)
        };
        match (taken, self.survey.rungs.iter().any(|finding| better(&finding))) {
            (Rung::None, _) => "no rung that can RUN works here, the rest still builds",
            (_, true) => "the best rung that works here and that this version can do",
            (_, false) => "the best rung that works here",
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        let taken = self.survey.taken();
        if let Outcome::Works { storage, id_map, .. } = &taken.outcome {
            if taken.rung != Rung::None {
                facts.push(("storage", storage_text(storage)));
            }
            match taken.rung {
                Rung::None => facts.push(("ids", "recorded for the image, whichever they are".to_owned())),
                _ => {
                    facts.push(("user ids", ranges(&id_map.uids)));
                    facts.push(("group ids", ranges(&id_map.gids)));
                }
            }
        }
        facts.push((
            "landlock",
            match self.survey.landlock {
                Some(version) => format!("version {version}"),
                None => "none: on `chroot` a RUN could read the builder's files".to_owned(),
            },
        ));
        let set = |is: bool| if is { "yes" } else { "no" };
        facts.push(("seccomp", format!("filtered: {}", set(self.survey.seccomp))));
        facts.push(("privileges", format!("no_new_privs: {}", set(self.survey.no_new_privileges))));
        facts.push(("probe", format!("{} ms for all rungs", self.probe.as_millis())));
        facts.push(("state", format!("{}: {}", self.state_dir.display(), self.space_text())));
        facts.push((
            "clock",
            match self.clock.problems.is_empty() {
                true => self.clock.now.to_string(),
                false => format!("{}: {}", self.clock.now, self.clock.problems.join("; ")),
            },
        ));
        if self.proxies.is_empty() {
            facts.push(("proxy", "no variable is set".to_owned()));
        }
        facts.extend(self.proxies.iter().map(|(name, value)| ("proxy", format!("{name}={value}"))));
        facts
    }

    fn space_text(&self) -> String {
        match &self.space {
            Ok(space) => {
                let mut text = format!("{} of {} free", gibibytes(space.free), gibibytes(space.total));
                if space.is_small() {
                    text.push_str("; too little for most base images");
                }
                text
            }
            Err(problem) => format!("free space unknown: {problem}"),
        }
    }

    /// Whether a RUN can chroot to a directory below.
    fn chroot_works(&self) -> bool {
        let taken = self.survey.taken();
        let refused = match &taken.outcome {
            Outcome::Works { shortfalls, .. } => {
                shortfalls.iter().any(|shortfall| shortfall.call == "chroot")
            }
            _ => true,
        };
        matches!(taken.rung, Rung::Namespaces | Rung::Mounts | Rung::Single) && !refused
    }

    /// Whether setuid programs and file capabilities gain anything in a RUN.
    fn setuid_works(&self) -> bool {
        match self.survey.taken().rung {
            Rung::Namespaces | Rung::Mounts => !self.survey.no_new_privileges,
            // There the supervisor gives what the kernel would.
            rung => rung == Rung::Single,
        }
    }

    fn differences(&self) -> impl Iterator<Item = &'static str> {
        let taken = self.survey.taken().rung;
        let can_run = taken != Rung::None;
        let setuid = (can_run && !self.setuid_works()).then_some(NO_SETUID);
        let chroot = (can_run && !self.chroot_works()).then_some(NO_CHROOT);
        setuid.into_iter().chain(chroot).chain(self.others())
    }

    fn others(&self) -> impl Iterator<Item = &'static str> {
        let taken = self.survey.taken().rung;
        let always = DIFFERENCES.iter().filter(move |(rungs, _)| rungs.contains(&taken));
        let here = self.is_in_user_namespace() && matches!(taken, Rung::Mounts | Rung::Chroot);
        always.map(|(_, text)| *text).chain(here.then_some(CLEARS_SETUID))
    }

    /// As in a pod with `hostUsers: false`.
    fn is_in_user_namespace(&self) -> bool {
        let Outcome::Works { id_map, .. } = &self.survey.taken().outcome else { return false };
        id_map.uids.iter().all(|range| range.count != u32::MAX)
    }

    fn advice(&self) -> String {
        let Some((rung, snippets)) = snippets::next_better(&self.survey) else { return String::new() };
        let mut text = match self.survey.taken().rung {
            Rung::None => format!("\nto have RUN: the smallest change for the rung `{rung}`\n"),
            _ => format!("\nbuilds work as it is; the smallest change for the better rung `{rung}`\n"),
        };
        for (name, snippet) in snippets {
            let indented = snippet.replace('\n', "\n      ");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name}\n      {indented}");
        }
        text
    }
}

fn said(finding: &Finding) -> String {
    match &finding.outcome {
        Outcome::Works { .. } if finding.rung == Rung::None => {
            "works for everything but RUN: FROM, COPY, ADD and metadata".to_owned()
        }
        Outcome::Works { .. } if !finding.rung.is_built() => {
            "would work; this version cannot do it yet".to_owned()
        }
        Outcome::Works { shortfalls, .. } => {
            let mut text = "works".to_owned();
            for shortfall in shortfalls {
                let _ = write!(text, "\n              without {}", refusal_text(shortfall));
            }
            text
        }
        Outcome::Refused(refusal) => refusal_text(refusal),
        Outcome::Untried => "not tried; this version cannot do it yet".to_owned(),
    }
}

/// The line without the name of the rung, which stands before it.
fn refusal_text(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    let name = format!("{}: ", refusal.rung);
    text.strip_prefix(&name).map(str::to_owned).unwrap_or(text)
}

fn storage_text(storage: &Storage) -> String {
    match storage {
        Storage::Overlay => "overlay: layers are stacked".to_owned(),
        Storage::Plain { reason } => format!("plain: trees are copied ({reason})"),
    }
}

fn ranges(ranges: &[IdRange]) -> String {
    if ranges.iter().any(|range| range.count == u32::MAX) {
        return "all".to_owned();
    }
    let all: u64 = ranges.iter().map(|range| u64::from(range.count)).sum();
    let text = ranges.iter().map(|range| match range.inside == range.outside {
        true => format!("{} from {}", range.count, range.inside),
        false => format!("{} from {}, outside {}", range.count, range.inside, range.outside),
    });
    format!("{all} ({})", text.collect::<Vec<_>>().join("; "))
}

fn gibibytes(bytes: u64) -> String {
    const TENTH: u64 = (1 << 30) / 10;
    let tenths = bytes / TENTH;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn heard(answer: &Answer) -> String {
    match answer {
        Err(problem) => problem.clone(),
        Ok(Greeting { url, login: Login::NotAsked, status, .. }) => {
            format!("{url} answers {status}, no login asked")
        }
        Ok(Greeting { url, login: Login::Accepted { who }, .. }) => {
            format!("{url} answers, lets us in with {who}")
        }
        Ok(Greeting { url, login: Login::Refused { reason }, .. }) => {
            format!("{url} answers, does not let us in: {reason}")
        }
    }
}

fn finding_json(finding: &Finding) -> Value {
    let mut value = json!({"rung": finding.rung.name(), "built": finding.rung.is_built()});
    match &finding.outcome {
        Outcome::Untried => value["works"] = Value::Null,
        Outcome::Refused(refusal) => {
            value["works"] = false.into();
            value["refusal"] = refusal_json(refusal);
        }
        Outcome::Works { storage, id_map, shortfalls } => {
            value["works"] = true.into();
            value["storage"] = match storage {
                Storage::Overlay => json!({"kind": "overlay"}),
                Storage::Plain { reason } => json!({"kind": "plain", "reason": reason}),
            };
            value["ids"] = ids_json(id_map);
            value["shortfalls"] = shortfalls.iter().map(refusal_json).collect();
        }
    }
    value
}

fn refusal_json(refusal: &Refusal) -> Value {
    json!({
        "call": refusal.call, "errno": refusal.errno, "error": refusal.error(),
        "cause": refusal.cause, "change": refusal.change,
    })
}

fn ids_json(map: &IdMap) -> Value {
    let list = |ranges: &[IdRange]| -> Value {
        let one =
            |range: &IdRange| json!({"inside": range.inside, "outside": range.outside, "count": range.count});
        ranges.iter().map(one).collect()
    };
    json!({"users": list(&map.uids), "groups": list(&map.gids)})
}

fn registry_json((host, answer): &(String, Answer)) -> Value {
    match answer {
        Err(problem) => json!({"host": host, "reachable": false, "problem": problem}),
        Ok(greeting) => {
            let (login, detail) = match &greeting.login {
                Login::NotAsked => ("not asked", None),
                Login::Accepted { who } => ("accepted", Some(who)),
                Login::Refused { reason } => ("refused", Some(reason)),
            };
            json!({"host": host, "reachable": true, "url": greeting.url, "status": greeting.status,
                "login": login, "detail": detail})
        }
    }
}
