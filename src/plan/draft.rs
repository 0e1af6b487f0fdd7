//! A stage while its instructions are applied to it, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::globals::Globals;
use super::graph::{Base, Command, Graph, Node, Source};
use super::op::{CopyFrom, CopyOp, CopySource, Op, Stage, StageBase, StageId, Step};
use super::options::{Bases, Options};
use super::report::Report;
use super::scope::{Expander, Variables};
use super::{check, history, metadata};
use crate::dockerfile::{InstructionKind, Span};
use crate::image::{ImageConfig, Platform};

/// PATH of an image that sets none, as BuildKit has it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) config: ImageConfig,
    /// What instructions and RUN see: the image's environment and ARGs. Of an ENV and an
    /// ARG of one name the later wins, as in BuildKit; the image keeps ENV's value.
    pub(super) variables: Variables,
    /// All ARGs in order of declaration, with the value they got.
    pub(super) declared: Vec<(String, Option<String>)>,
    /// Labels that LABEL set, not the base image.
    pub(super) labelled: BTreeSet<String>,
    /// A WORKDIR stands in this Dockerfile.
    pub(super) workdir_set: bool,
    /// Where the stage says CMD, ENTRYPOINT and HEALTHCHECK, for "only the last counts".
    pub(super) cmd: Option<Span>,
    pub(super) entrypoint: Option<Span>,
    pub(super) healthcheck: Option<Span>,
    /// False while the config of the base image is missing.
    pub(super) complete: bool,
    pub(super) steps: Vec<Step>,
}

/// What one instruction is surrounded by.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) options: &'a Options,
    pub(super) globals: &'a Globals,
    pub(super) graph: &'a Graph<'a>,
    pub(super) ids: &'a BTreeMap<usize, StageId>,
    pub(super) escape: char,
    /// Which stage it is in.
    pub(super) stage: usize,
    pub(super) command: &'a Command<'a>,
}

impl<'a> Site<'a> {
    /// Where the instruction stands, or the FROM that brought it.
    pub(super) fn span(&self) -> Span {
        self.command.place.unwrap_or(self.command.instruction.span)
    }

    pub(super) fn node(&self) -> &'a Node<'a> {
        &self.graph.nodes[self.stage]
    }

    /// The number in the plan of a stage this one reads.
    pub(super) fn id(&self, stage: usize) -> Option<StageId> {
        self.ids.get(&stage).copied()
    }

    /// What a `from` leads to. A wrong one was said when the stages were linked.
    pub(super) fn source(&self, from: &super::graph::FromName) -> Option<Source> {
        self.graph.source(self.options, self.stage, from).ok()
    }
}

impl Draft {
    /// A stage before its first instruction. Wrong or unknown bases give an incomplete one.
    pub(super) fn start(
        node: &Node<'_>,
        bases: &Bases,
        drafts: &BTreeMap<usize, Draft>,
        options: &Options,
        report: &mut Report,
    ) -> Self {
        let mut draft = match &node.base {
            Base::Scratch => Self::on_image(scratch(&options.platform)),
            Base::Stage(base) => drafts.get(base).map(Self::on_stage).unwrap_or_default(),
            Base::Image(reference) => match bases.get(&(reference.clone(), node.platform.clone())) {
                Some(base) => {
                    if !base.config.architecture.is_empty() {
                        let (span, found) = (node.ast.from.image.span, base.config.platform());
                        check::base_platform(report, span, &node.ast.from.image.text, &node.platform, &found);
                    }
                    Self::on_image(base.config.clone())
                }
                None => Self::default(),
            },
            Base::Replaced(name) | Base::Context(name) => {
                let mut draft = Self::on_image(scratch(&options.platform));
                draft.steps.push(files_of(name, node));
                draft
            }
            Base::Broken => Self::default(),
        };
        draft.settle();
        draft
    }

    fn on_image(config: ImageConfig) -> Self {
        let mut variables = Variables::default();
        for pair in &config.config.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            variables.set(name, value);
        }
        Self { config, variables, complete: true, ..Self::default() }
    }

    /// Everything is inherited, ARGs too: so BuildKit, and the Dockerfile reference
    /// (docs.docker.com/reference/dockerfile/#scope).
    fn on_stage(base: &Draft) -> Self {
        Self { steps: Vec::new(), cmd: None, entrypoint: None, healthcheck: None, ..base.clone() }
    }

    /// What BuildKit does to every config before the first instruction.
    fn settle(&mut self) {
        self.config.created = None;
        self.config.config.on_build.clear();
        self.config.config.extra.clear();
        let windows = self.config.os == "windows";
        if self.complete && self.config.config.env_value("PATH").is_none() && !windows {
            self.config.config.set_env("PATH", DEFAULT_PATH);
            self.variables.set("PATH", DEFAULT_PATH);
        }
        let directory = &mut self.config.config.working_dir;
        if !directory.is_empty() {
            *directory = super::path::workdir(directory, directory);
            if windows {
                *directory = directory.replace('/', "\\");
            }
        }
    }

    /// Applies one instruction; what rests on an unknown base is forgotten again.
    pub(super) fn take(&mut self, site: Site<'_>, report: &mut Report) {
        let doubtful = report.looking_at(site.command.place, |report| {
            // `None` means a mistake, and that was said.
            metadata::apply(self, site, report).unwrap_or_default();
        });
        if doubtful {
            self.forget(&site.command.instruction.kind);
        }
    }

    fn forget(&mut self, kind: &InstructionKind) {
        match kind {
            InstructionKind::Env(pairs, _) => {
                pairs.iter().for_each(|pair| self.variables.forget(&pair.key.text))
            }
            InstructionKind::Arg(args) => args.iter().for_each(|arg| self.variables.forget(&arg.name.text)),
            _ => {}
        }
    }

    /// Where the next instruction works.
    pub(super) fn directory(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    pub(super) fn expander<'a>(&'a self, site: Site<'_>, report: &'a mut Report) -> Expander<'a> {
        Expander {
            variables: &self.variables,
            declared: &self.declared,
            escape: site.escape,
            complete: self.complete,
            report,
        }
    }

    /// Adds a step that makes a layer.
    pub(super) fn step(&mut self, site: Site<'_>, op: Op, created_by: String) {
        self.push(site, op, created_by, true);
    }

    /// Adds a step that changed the config only.
    pub(super) fn record(&mut self, site: Site<'_>, created_by: String) {
        self.push(site, Op::Config, created_by, false);
    }

    fn push(&mut self, site: Site<'_>, op: Op, created_by: String, makes_layer: bool) {
        let Command { instruction, triggered, place } = site.command;
        let prefix = if *triggered { "ONBUILD " } else { "" };
        self.steps.push(Step {
            span: place.is_none().then_some(instruction.span),
            from_span: site.node().ast.from.span,
            text: format!("{prefix}{}", instruction.text),
            history: history::entry(created_by, makes_layer),
            op,
        });
    }

    /// The finished stage.
    pub(super) fn finish(
        self,
        node: &Node<'_>,
        ids: &BTreeMap<usize, StageId>,
        bases: &Bases,
    ) -> Option<Stage> {
        let base = match &node.base {
            Base::Scratch | Base::Replaced(_) | Base::Context(_) => StageBase::Scratch,
            Base::Stage(base) => StageBase::Stage(*ids.get(base)?),
            Base::Image(reference) => {
                let platform = node.platform.clone();
                let digest = bases.get(&(reference.clone(), platform.clone()))?.digest;
                StageBase::Image { reference: reference.clone(), platform, digest }
            }
            Base::Broken => return None,
        };
        Some(Stage {
            name: node.name.clone(),
            base,
            platform: node.platform.clone(),
            steps: self.steps,
            config: self.config,
        })
    }

    /// What only the target gets: labels from outside, and the platform it was built for.
    pub(super) fn finish_target(&mut self, options: &Options) {
        let labels = &mut self.config.config.labels;
        for (name, value) in &options.default_labels {
            if !self.labelled.contains(name) {
                labels.insert(name.clone(), value.clone());
            }
        }
        labels.extend(options.labels.iter().cloned());
        if options.platform != options.build_platform {
            self.set_platform(&options.platform);
        }
    }

    /// As in BuildKit: the platform asked for is the image's, whatever FROM said.
    fn set_platform(&mut self, platform: &Platform) {
        let Platform { os, architecture, variant } = platform;
        let same = self.config.os == *os && self.config.architecture == *architecture;
        os.clone_into(&mut self.config.os);
        architecture.clone_into(&mut self.config.architecture);
        if variant.is_some() || !same {
            self.config.variant.clone_from(variant);
        }
    }
}

/// The step that a FROM is when it names files: as `COPY --from=name . /`.
fn files_of(name: &str, node: &Node<'_>) -> Step {
    let op = CopyOp {
        from: CopyFrom::Named(name.to_owned()),
        sources: vec![CopySource::Path("/".to_owned())],
        destination: "/".to_owned(),
        chown: None,
        chmod: None,
        link: true,
        parents: false,
        exclude: Vec::new(),
        add: None,
    };
    let from = &node.ast.from;
    Step {
        span: Some(from.span),
        from_span: from.span,
        text: from.text.clone(),
        history: history::entry(format!("FROM {name} # files of a build context"), true),
        op: Op::Copy(Box::new(op)),
    }
}

fn scratch(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig::scratch(platform);
    config.config.working_dir = "/".to_owned();
    config
}
