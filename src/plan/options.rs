//! What a plan is made from besides the Dockerfile, and what making one can say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

use super::Network;
use crate::dockerfile::{Diagnostic, Span};
use crate::image::{Digest, ImageConfig, Platform, Reference};

/// Everything outside the Dockerfile that a plan depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Stage to build, by name in any case; the last one when absent.
    pub target: Option<String>,
    /// `--build-arg`. An empty value counts as set; undeclared ones are ignored.
    pub build_args: BTreeMap<String, String>,
    /// What the image is for (`TARGETPLATFORM`).
    pub platform: Platform,
    /// What the build runs on (`BUILDPLATFORM`).
    pub build_platform: Platform,
    /// `--build-context`: stands in for the stage or image of that name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Labels of the command line: they override the Dockerfile's.
    pub labels: Vec<(String, String)>,
    /// Labels the CI supplies: any LABEL of the Dockerfile overrides them, labels that
    /// only came with the base image do not.
    pub default_labels: Vec<(String, String)>,
    /// Variables of the builder for RUN: they go to [`RunOp::hidden_env`](super::RunOp), those
    /// that are proxies in both cases, unless the image or an ARG sets the variable.
    pub proxy_args: Vec<(String, String)>,
    /// Network of a RUN that asks for none.
    pub network: Network,
    /// The entitlement `network.host`: a RUN may ask for the builder's network by name.
    pub host_network: bool,
}

/// What stands behind the name of a `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A local directory. After FROM it is scratch with its files.
    Directory(PathBuf),
    /// `docker-image://…`.
    Image(Reference),
    /// What follows `oci-layout://`: an image in a directory. The conductor makes an
    /// [`Image`](Self::Image) of it before there is a plan.
    OciLayout(String),
    /// A git repository or an archive on an HTTP server. The conductor makes a
    /// directory of it before there is a plan.
    Other(String),
}

/// The answer of a registry about a base.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseImage {
    /// Of the manifest for the platform that was asked for.
    pub digest: Digest,
    /// Its config, as fetched.
    pub config: ImageConfig,
}

/// Base images by name and platform.
pub type Bases = BTreeMap<(Reference, Platform), BaseImage>;

/// What a Dockerfile needs, as far as is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// Every image that is needed for FROM, COPY --from and RUN --mount=from, sorted.
    /// Those whose config is known already are in here too.
    pub bases: Vec<(Reference, Platform)>,
    /// The FROM line, or else the `--from`, that needs one, for messages about it.
    pub places: BTreeMap<(Reference, Platform), Span>,
    /// Warnings so far; [`resolve`](super::resolve) says them again, with those that need the bases.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Mistakes in the Dockerfile: all of them, with the warnings, sorted by place.
    #[error("the Dockerfile has {}", errors(.0))]
    Diagnostics(Vec<Diagnostic>),
    /// `--target` names no stage.
    #[error("there is no stage `{target}` to build{}", suggestion(.nearest, .stages))]
    UnknownTarget {
        /// As given.
        target: String,
        /// The most similar name.
        nearest: Option<String>,
        /// The names there are.
        stages: Vec<String>,
    },
    /// [`resolve`](super::resolve) was called before [`outline`](super::outline) had all it asked for.
    #[error("nothing is known about the base image `{}` for {}", .0.0, .0.1)]
    MissingBase(Box<(Reference, Platform)>),
}

fn errors(diagnostics: &[Diagnostic]) -> String {
    let count = diagnostics.iter().filter(|d| d.severity == crate::dockerfile::Severity::Error).count();
    match count {
        1 => "a mistake".to_owned(),
        count => format!("{count} mistakes"),
    }
}

fn suggestion(nearest: &Option<String>, stages: &[String]) -> String {
    if stages.is_empty() {
        return ": no stage has a name (write `FROM … AS name`)".to_owned();
    }
    let quoted: Vec<String> = stages.iter().map(|stage| format!("`{stage}`")).collect();
    let guess = nearest.as_ref().map(|nearest| format!(", did you mean `{nearest}`?")).unwrap_or_default();
    format!("{guess} (stages: {})", quoted.join(", "))
}
