//! What a finished build leaves for other steps: files that settings name, and
//! the files and lines by which a CI takes values from a step. Nothing else is
//! ever written into the workspace.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coracle::build::Outcome;
use coracle::ci::System;
use coracle::image::Reference;
use serde_json::{Value, json};
use thiserror::Error;

use crate::normalise::{DOCKER_HUB, Normalised, is_google};
use crate::settings::{Key, Reader};

/// The size above which GitLab refuses a dotenv report.
const DOTENV_LIMIT: usize = 5 * 1024;

/// Why a report was not written.
#[derive(Debug, Error)]
#[error("`{path}` ({setting}) cannot be written")]
pub(crate) struct OutputError {
    /// The setting or variable that names it.
    setting: String,
    /// The file.
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Which reports are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    files: Vec<(Kind, String, PathBuf)>,
    /// Azure takes variables from lines of the log.
    azure: bool,
    registry_type: Option<&'static str>,
    tar_path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Artifact,
    Digest,
    NamesWithDigest,
    TagsWithDigest,
    Metadata,
    Dotenv,
    Annotations,
    DroneOutput,
    GithubOutput,
    GithubSummary,
    CloudBuild,
}

impl Kind {
    fn appends(self) -> bool {
        matches!(self, Self::DroneOutput | Self::GithubOutput | Self::GithubSummary)
    }
}

const FROM_SETTINGS: [(Kind, Key); 7] = [
    (Kind::Artifact, Key::ArtifactFile),
    (Kind::Digest, Key::DigestFile),
    (Kind::NamesWithDigest, Key::ImageNameWithDigestFile),
    (Kind::TagsWithDigest, Key::ImageNameTagWithDigestFile),
    (Kind::Metadata, Key::MetadataFile),
    (Kind::Dotenv, Key::DotenvFile),
    (Kind::Annotations, Key::AnnotationsFile),
];

impl Reports {
    /// What settings and the CI ask for.
    pub(crate) fn of(reader: &mut Reader<'_>, normalised: &Normalised) -> Self {
        let mut files = Vec::new();
        for (kind, key) in FROM_SETTINGS {
            if let Some(given) = reader.given(key) {
                files.push((kind, given.written.setting.clone(), PathBuf::from(given.value)));
            }
        }
        let system = normalised.facts.system;
        let github = system.is_github_family();
        for (wanted, kind, variable) in [
            (true, Kind::DroneOutput, "DRONE_OUTPUT"),
            (github, Kind::GithubOutput, "GITHUB_OUTPUT"),
            (github, Kind::GithubSummary, "GITHUB_STEP_SUMMARY"),
        ] {
            if let Some(path) = reader.variable(variable).filter(|_| wanted) {
                files.push((kind, variable.to_owned(), PathBuf::from(path)));
            }
        }
        if let Some(directory) = reader.variable("BUILDER_OUTPUT") {
            files.push((Kind::CloudBuild, "BUILDER_OUTPUT".to_owned(), Path::new(directory).join("images")));
        }
        let registry_type = reader.word(Key::RegistryType, &["Docker", "ECR", "GCR", "GAR", "ACR"]);
        let tar_path = normalised.tar_path.clone();
        Self { files, azure: system == System::Azure, registry_type, tar_path }
    }

    /// Writes all of them; what failed is returned, and does not keep the others back.
    pub(crate) fn write(&self, outcome: &Outcome) -> Vec<OutputError> {
        let attempts = self.files.iter().filter_map(|(kind, setting, path)| {
            let text = self.text(*kind, outcome);
            let failed = write_file(path, &text, kind.appends()).err()?;
            Some(OutputError { setting: setting.clone(), path: path.clone(), source: failed })
        });
        attempts.collect()
    }

    /// Lines for standard output by which the CI takes values.
    pub(crate) fn lines(&self, outcome: &Outcome) -> Vec<String> {
        if !self.azure {
            return Vec::new();
        }
        let line = |(key, value): (&str, String)| {
            format!("##vso[task.setvariable variable={key};isOutput=true]{value}")
        };
        self.values(outcome).into_iter().map(line).collect()
    }

    fn text(&self, kind: Kind, outcome: &Outcome) -> String {
        match kind {
            Kind::Artifact => self.artifact(outcome),
            Kind::Digest => outcome.digest.to_string(),
            Kind::NamesWithDigest => lines(repositories(outcome).iter().map(|r| r.to_string())),
            Kind::TagsWithDigest => {
                lines(names(outcome).iter().map(|name| format!("{name}@{}", outcome.digest)))
            }
            Kind::Metadata => metadata(outcome),
            Kind::Dotenv => dotenv(&self.values(outcome)),
            Kind::Annotations => annotations(outcome),
            Kind::DroneOutput => self.drone(outcome),
            Kind::GithubOutput => {
                lines(self.values(outcome).iter().map(|(key, value)| format!("{key}={value}")))
            }
            Kind::GithubSummary => summary(outcome),
            Kind::CloudBuild => lines(
                names(outcome)
                    .iter()
                    .map(|name| json!({"name": name.to_string(), "digest": outcome.digest}).to_string()),
            ),
        }
    }

    /// The values a CI may take, under their common names.
    fn values(&self, outcome: &Outcome) -> Vec<(&'static str, String)> {
        let names = names(outcome);
        let tags: Vec<&str> = names.iter().filter_map(Reference::tag).collect();
        let mut values = Vec::new();
        values.extend(names.first().map(|name| ("IMAGE", name.to_string())));
        values.extend(names.first().map(|name| ("IMAGE_REF", name.at(outcome.digest).to_string())));
        values.push(("DIGEST", outcome.digest.to_string()));
        if !tags.is_empty() {
            values.push(("IMAGE_TAGS", tags.join(",")));
        }
        values.push(("IMAGE_ID", outcome.config_digest.to_string()));
        values.extend(self.tar_path.iter().map(|path| ("IMAGE_TAR_PATH", path.clone())));
        values
    }

    fn drone(&self, outcome: &Outcome) -> String {
        let values = self.values(outcome);
        let digest = ("digest", outcome.digest.to_string());
        lines([digest].iter().chain(&values).map(|(key, value)| format!("{key}=\"{value}\"")))
    }

    /// What the artifact metadata publisher of Drone and Harness reads.
    fn artifact(&self, outcome: &Outcome) -> String {
        let host = names(outcome).first().map_or(DOCKER_HUB, |name| name.registry());
        let url = if host == DOCKER_HUB { "https://index.docker.io/v1/".to_owned() } else { host.to_owned() };
        let digest = outcome.digest.to_string();
        let images: Vec<Value> =
            outcome.pushed.iter().map(|name| json!({"image": name.to_string(), "digest": digest})).collect();
        let registry_type = self.registry_type.unwrap_or_else(|| registry_type(host));
        tabbed(&json!({
            "kind": "docker/v1",
            "data": {"registryType": registry_type, "registryUrl": url, "images": images},
        }))
    }
}

/// What was pushed; without a push the names it was given.
fn names(outcome: &Outcome) -> &[Reference] {
    if outcome.pushed.is_empty() { &outcome.names } else { &outcome.pushed }
}

/// Each repository once, by digest.
fn repositories(outcome: &Outcome) -> Vec<Reference> {
    let mut found: Vec<Reference> = Vec::new();
    for name in names(outcome) {
        let reference = name.at(outcome.digest);
        if !found.contains(&reference) {
            found.push(reference);
        }
    }
    found
}

fn registry_type(host: &str) -> &'static str {
    match host {
        _ if host.ends_with(".pkg.dev") => "GAR",
        _ if is_google(host) => "GCR",
        _ if host.contains(".dkr.ecr") || host == "public.ecr.aws" => "ECR",
        _ if [".azurecr.io", ".azurecr.cn", ".azurecr.us"].iter().any(|end| host.ends_with(end)) => "ACR",
        _ => "Docker",
    }
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.map(|item| item + "\n").collect()
}

fn metadata(outcome: &Outcome) -> String {
    let names: Vec<String> = outcome.names.iter().map(ToString::to_string).collect();
    let document = json!({
        "containerimage.digest": outcome.digest,
        "containerimage.config.digest": outcome.config_digest,
        "image.name": names.join(","),
    });
    format!("{document:#}\n")
}

/// GitLab takes neither quotes nor blank lines, and 5 KB at most: tags go first.
fn dotenv(values: &[(&'static str, String)]) -> String {
    let text = |values: &mut dyn Iterator<Item = &(&'static str, String)>| {
        lines(values.map(|(key, value)| format!("{key}={value}")))
    };
    let legal = |(_, value): &&(&'static str, String)| !value.contains([' ', '"', '\'', '\n']);
    let all = text(&mut values.iter().filter(legal));
    if all.len() <= DOTENV_LIMIT {
        return all;
    }
    text(&mut values.iter().filter(legal).filter(|(key, _)| *key != "IMAGE_TAGS"))
}

fn annotations(outcome: &Outcome) -> String {
    let links: Vec<Value> = names(outcome)
        .iter()
        .map(|name| {
            let host = if name.registry() == DOCKER_HUB { "hub.docker.com/r" } else { name.registry() };
            let url = format!("https://{host}/{}", name.repository());
            json!({"external_link": {"label": name.to_string(), "url": url}})
        })
        .collect();
    format!("{}\n", json!({ "coracle": links }))
}

fn summary(outcome: &Outcome) -> String {
    let names = lines(names(outcome).iter().map(|name| format!("- `{name}`")));
    format!("### Image\n\n{names}\nDigest `{}`\n\n", outcome.digest)
}

fn tabbed(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("a JSON value serialises into memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

fn write_file(path: &Path, text: &str, append: bool) -> io::Result<()> {
    create_parent(path)?;
    let mut options = OpenOptions::new();
    options.create(true).mode(0o644);
    let options = if append { options.append(true) } else { options.write(true).truncate(true) };
    options.open(path)?.write_all(text.as_bytes())
}

/// Creates the directory a file is to be in.
pub(crate) fn create_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use coracle::image::Digest;

    use super::*;

    fn outcome() -> Outcome {
        let names: Vec<Reference> =
            ["r.io/a:1", "r.io/a:2", "me/app:x"].iter().map(|name| name.parse().unwrap()).collect();
        Outcome {
            digest: Digest::of("m"),
            config_digest: Digest::of("c"),
            pushed: names.clone(),
            names,
            size: 3,
            executed: 1,
            cached: 0,
        }
    }

    fn check(kind: Kind, expected: &str) {
        let expected = expected
            .replace("{m}", &Digest::of("m").to_string())
            .replace("{c}", &Digest::of("c").to_string());
        assert_eq!(Reports::default().text(kind, &outcome()), expected, "{kind:?}");
    }

    #[test]
    fn texts() {
        check(Kind::Digest, "{m}");
        check(Kind::NamesWithDigest, "r.io/a@{m}\ndocker.io/me/app@{m}\n");
        check(Kind::TagsWithDigest, "r.io/a:1@{m}\nr.io/a:2@{m}\ndocker.io/me/app:x@{m}\n");
        let values = "IMAGE=r.io/a:1\nIMAGE_REF=r.io/a@{m}\nDIGEST={m}\nIMAGE_TAGS=1,2,x\nIMAGE_ID={c}\n";
        check(Kind::Dotenv, values);
        check(Kind::GithubOutput, values);
        check(
            Kind::DroneOutput,
            "digest=\"{m}\"\nIMAGE=\"r.io/a:1\"\nIMAGE_REF=\"r.io/a@{m}\"\nDIGEST=\"{m}\"\nIMAGE_TAGS=\"1,2,x\"\nIMAGE_ID=\"{c}\"\n",
        );
    }

    #[test]
    fn artifact_is_indented_by_tabs() {
        let text = Reports::default().text(Kind::Artifact, &outcome());
        assert!(text.starts_with("{\n\t\"data\": {\n\t\t\"images\": [\n"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["kind"], "docker/v1");
        assert_eq!(value["data"]["registryType"], "Docker");
        assert_eq!(value["data"]["registryUrl"], "r.io");
        assert_eq!(value["data"]["images"][1]["image"], "r.io/a:2");
    }

    #[test]
    fn dotenv_stays_below_the_limit() {
        let values = [("IMAGE", "a:1".to_owned()), ("IMAGE_TAGS", "x".repeat(DOTENV_LIMIT))];
        assert_eq!(dotenv(&values), "IMAGE=a:1\n");
    }

    #[test]
    fn writes_and_appends() {
        let directory = std::env::temp_dir().join(format!("coracle-outputs-{}", std::process::id()));
        let path = directory.join("a/b");
        write_file(&path, "1", false).unwrap();
        write_file(&path, "2", false).unwrap();
        write_file(&path, "3", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "23");
        std::fs::remove_dir_all(&directory).unwrap();
        let reports = Reports {
            files: vec![(Kind::Digest, "digest_file".to_owned(), "/proc/nothing/here".into())],
            ..Reports::default()
        };
        let errors = reports.write(&outcome());
        assert_eq!(errors[0].to_string(), "`/proc/nothing/here` (digest_file) cannot be written");
    }

    #[test]
    fn azure_lines() {
        let reports = Reports { azure: true, ..Reports::default() };
        let lines = reports.lines(&outcome());
        assert_eq!(lines[0], "##vso[task.setvariable variable=IMAGE;isOutput=true]r.io/a:1");
        assert!(Reports::default().lines(&outcome()).is_empty());
    }
}
