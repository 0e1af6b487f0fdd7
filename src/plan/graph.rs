//! Which stages and images the target needs, and what each stage is going to do.
//!
//! A stage may use earlier stages only, so the order of the Dockerfile is an order
//! to build in. Stages the target does not reach are checked for their FROM line
//! and no further, as in BuildKit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::from::FromLine;
use super::globals::Globals;
use super::mount;
use super::options::{Bases, Options, PlanError};
use super::report::Report;
use super::source;
use crate::dockerfile::{
    self, Diagnostic, Dockerfile, Instruction, InstructionKind, Span, Word, nearest, parse_trigger,
};
use crate::image::{Platform, Reference};

/// All stages of the Dockerfile, and which of them are needed.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    /// The stage to build.
    pub(super) target: usize,
    /// Indexes of the stages to build, ascending.
    pub(super) needed: BTreeSet<usize>,
    /// Images that COPY --from and RUN --mount=from of those read, and where one is named.
    pub(super) images: BTreeMap<Reference, Span>,
    /// Named contexts that they read.
    pub(super) contexts: BTreeSet<String>,
}

/// Which stages are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that the target needs.
    Target,
    /// All, for checks.
    Everything,
}

/// One stage.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) ast: &'a dockerfile::Stage,
    /// `stage-N` where it has none.
    pub(super) name: String,
    pub(super) base: Base,
    pub(super) platform: Platform,
    /// Triggers of the base, then its own.
    pub(super) commands: Vec<Command<'a>>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Scratch,
    Stage(usize),
    Image(Reference),
    /// A `--build-context` that is no image has the stage's name and stands in for it,
    /// with all it does.
    Replaced(String),
    /// A `--build-context` that is no image has the base's name: its files on scratch.
    Context(String),
    /// The FROM line is wrong, which is said.
    Broken,
}

/// An instruction to be done.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub(super) instruction: Cow<'a, Instruction>,
    /// It is an ONBUILD trigger of the base.
    pub(super) triggered: bool,
    /// The FROM line, for triggers whose text is not in the Dockerfile.
    pub(super) place: Option<Span>,
}

impl<'a> Graph<'a> {
    pub(super) fn build(
        dockerfile: &'a Dockerfile,
        options: &Options,
        globals: &Globals,
        bases: &Bases,
        reach: Reach,
        report: &mut Report,
    ) -> Result<Self, PlanError> {
        let target = target(dockerfile, options)?;
        let mut graph = Self {
            nodes: Vec::new(),
            target,
            needed: BTreeSet::new(),
            images: BTreeMap::new(),
            contexts: BTreeSet::new(),
        };
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            let from = FromLine { dockerfile, options, globals, earlier: &graph.nodes };
            let node = from.node(index, stage, report);
            graph.nodes.push(node);
            let commands = graph.commands(index, options, bases, report);
            graph.nodes[index].commands = commands;
        }
        let first = match reach {
            Reach::Target => vec![target],
            Reach::Everything => (0..graph.nodes.len()).collect(),
        };
        graph.reach(first, options, report);
        Ok(graph)
    }

    /// Triggers of the base, then the stage's own instructions.
    fn commands(
        &self,
        index: usize,
        options: &Options,
        bases: &Bases,
        report: &mut Report,
    ) -> Vec<Command<'a>> {
        let node = &self.nodes[index];
        if matches!(node.base, Base::Replaced(_)) || source::replacement(options, node.ast).is_some() {
            return Vec::new();
        }
        let mut commands = match &node.base {
            Base::Image(reference) => {
                let known = bases.get(&(reference.clone(), node.platform.clone()));
                let triggers = known.map_or(&[][..], |base| &base.config.config.on_build);
                image_triggers(triggers, node.ast.from.span, report)
            }
            Base::Stage(base) if source::replacement(options, self.nodes[*base].ast).is_none() => {
                stage_triggers(self.nodes[*base].ast, node.ast.from.span, report)
            }
            _ => Vec::new(),
        };
        commands.extend(node.ast.instructions.iter().map(|instruction| Command {
            instruction: Cow::Borrowed(instruction),
            triggered: false,
            place: None,
        }));
        commands
    }

    /// Follows everything from these stages on.
    fn reach(&mut self, mut waiting: Vec<usize>, options: &Options, report: &mut Report) {
        while let Some(index) = waiting.pop() {
            if !self.needed.insert(index) {
                continue;
            }
            match &self.nodes[index].base {
                Base::Stage(base) => waiting.push(*base),
                Base::Replaced(name) | Base::Context(name) => drop(self.contexts.insert(name.clone())),
                Base::Scratch | Base::Image(_) | Base::Broken => {}
            }
            for (place, word) in froms(&self.nodes[index].commands) {
                let mut say = |diagnostic: Diagnostic| {
                    let span = place.unwrap_or(diagnostic.span);
                    report.push(Diagnostic { span, ..diagnostic });
                };
                match self.source(options, index, &word) {
                    Ok(Source::Stage(stage)) => waiting.push(stage),
                    Ok(Source::Image(reference)) => {
                        self.images.entry(reference).or_insert(place.unwrap_or(word.span));
                    }
                    Ok(Source::Named(name)) => drop(self.contexts.insert(name)),
                    Ok(Source::Empty) => {}
                    Err(diagnostic) => say(*diagnostic),
                }
            }
        }
    }

    /// What a `--from` in stage `index` means.
    pub(super) fn source(
        &self,
        options: &Options,
        index: usize,
        from: &FromName,
    ) -> Result<Source, Box<Diagnostic>> {
        let FromName { name, span, by_number } = from;
        let error = |message: String| Box::new(Diagnostic::error(*span, message));
        if name.contains('$') {
            let hint = "give the stage an alias with `FROM … AS name`, where variables work";
            return Err(Box::new(
                error(format!("`from={name}`: variables do not work here")).with_hint(hint),
            ));
        }
        let found = match name.parse::<usize>() {
            Ok(number) if *by_number && number < self.nodes.len() => Some(number),
            Ok(number) if *by_number => {
                return Err(error(format!("there is no stage number {number}, they count from 0")));
            }
            _ => self.named(name),
        };
        let Some(stage) = found else {
            return source::outside(options, name, *span);
        };
        if stage >= index {
            let which = if stage == index { "the stage itself" } else { "a later stage" };
            return Err(error(format!("`from={name}` is {which}; only earlier stages can be read")));
        }
        match &self.nodes[stage].base {
            Base::Replaced(context) => Ok(source::context(options, context)),
            _ => Ok(Source::Stage(stage)),
        }
    }

    /// The last stage of that name.
    fn named(&self, name: &str) -> Option<usize> {
        let has_name = |node: &Node| node.ast.from.name.as_ref().is_some_and(|word| same(&word.text, name));
        self.nodes.iter().rposition(has_name)
    }
}

/// What a `--from` or `from=` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stage(usize),
    Image(Reference),
    Named(String),
    Empty,
}

/// A name after `--from=` or `from=`.
#[derive(Clone, Debug)]
pub(super) struct FromName {
    pub(super) name: String,
    pub(super) span: Span,
    /// COPY may say a number, RUN --mount may not.
    pub(super) by_number: bool,
}

impl FromName {
    /// `None` for an empty name, which means the build context.
    pub(super) fn of_copy(word: &Word) -> Option<Self> {
        (!word.text.is_empty()).then(|| Self { name: word.text.clone(), span: word.span, by_number: true })
    }
}

/// All names the commands read from, with the place that overrides theirs.
fn froms(commands: &[Command<'_>]) -> Vec<(Option<Span>, FromName)> {
    let of = |command: &Command<'_>| match &command.instruction.kind {
        InstructionKind::Copy(_, from, _) => from.iter().filter_map(FromName::of_copy).collect(),
        InstructionKind::Run(flags, _, _) => flags.mounts.iter().filter_map(mount::from_name).collect(),
        _ => Vec::new(),
    };
    commands.iter().flat_map(|command| of(command).into_iter().map(|from| (command.place, from))).collect()
}

fn target(dockerfile: &Dockerfile, options: &Options) -> Result<usize, PlanError> {
    let Some(target) = options.target.as_ref().filter(|target| !target.is_empty()) else {
        return dockerfile.stages.len().checked_sub(1).ok_or_else(|| {
            let message = "the Dockerfile has no stage to build: it needs a FROM";
            PlanError::Diagnostics(vec![Diagnostic::error(Span::default(), message)])
        });
    };
    let names =
        || dockerfile.stages.iter().map(|stage| stage.from.name.as_ref().map(|name| name.text.as_str()));
    let found = names().rposition(|name| name.is_some_and(|name| same(name, target)));
    found.ok_or_else(|| {
        let known: Vec<&str> = names().flatten().collect();
        PlanError::UnknownTarget {
            target: target.clone(),
            nearest: nearest(target, &known).map(str::to_owned),
            stages: known.into_iter().map(str::to_owned).collect(),
        }
    })
}

fn image_triggers<'a>(triggers: &[String], from: Span, report: &mut Report) -> Vec<Command<'a>> {
    let mut commands = Vec::new();
    for text in triggers {
        match parse_trigger(text) {
            Ok(instruction) => {
                let instruction = Cow::Owned(instruction);
                commands.push(Command { instruction, triggered: true, place: Some(from) });
            }
            Err(diagnostics) => diagnostics.into_iter().for_each(|diagnostic| {
                let message = format!("ONBUILD `{text}` of the base image: {}", diagnostic.message);
                report.push(Diagnostic { span: from, message, ..diagnostic });
            }),
        }
    }
    commands
}

fn stage_triggers<'a>(base: &'a dockerfile::Stage, from: Span, report: &mut Report) -> Vec<Command<'a>> {
    let mut commands = Vec::new();
    for instruction in &base.instructions {
        match &instruction.kind {
            InstructionKind::Onbuild(_, Some(inner)) => {
                let instruction = Cow::Borrowed(inner.as_ref());
                commands.push(Command { instruction, triggered: true, place: None });
            }
            // It is wrong, which is said again where it counts.
            InstructionKind::Onbuild(text, None) => {
                commands.extend(image_triggers(std::slice::from_ref(text), from, report));
            }
            _ => {}
        }
    }
    commands
}

/// Stage names compare without case.
pub(super) fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
