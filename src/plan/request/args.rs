//! The ARGs of an outline: those that the target, its bases and what it copies from
//! declare, and the global ones that they and their FROM lines use.

use std::collections::{BTreeMap, BTreeSet};

use super::super::globals::Globals;
use super::super::graph::Base;
use super::super::report::Report;
use super::super::resolve::Drafted;
use super::super::scope::expand;
use super::{ArgSummary, Options, described};
use crate::dockerfile::{Arg, Dockerfile, Instruction, InstructionKind};

/// A global ARG, and the ones its default is made of.
struct Global {
    summary: ArgSummary,
    uses: BTreeSet<String>,
}

/// What counts for the target, in the order of the file. Of several ARGs of one name
/// the one nearest to the target is told.
pub(super) fn used(dockerfile: &Dockerfile, options: &Options, drafted: &Drafted<'_>) -> Vec<ArgSummary> {
    let globals = Globals::of(dockerfile, options, &mut Report::default());
    let known = of_file(dockerfile, &globals);
    let mut found: BTreeMap<String, ArgSummary> = BTreeMap::new();
    for stage in nearest_first(drafted) {
        let mut here: BTreeMap<String, ArgSummary> =
            known.iter().map(|(name, global)| (name.clone(), global.summary.clone())).collect();
        let mut names = of_from(dockerfile, &globals, drafted, stage);
        for (arg, instruction) in declared(&drafted.graph.nodes[stage].ast.instructions) {
            let name = &arg.name.text;
            names.insert(name.clone());
            let given = options.build_args.contains_key(name) || arg.default.is_some();
            if given || globals.values.get(name).is_none() {
                here.insert(name.clone(), summary(arg, instruction, value(drafted, stage, name)));
            }
        }
        for name in with_uses(names, &known) {
            if let Some(summary) = here.remove(&name) {
                found.entry(name).or_insert(summary);
            }
        }
    }
    let mut found: Vec<ArgSummary> = found.into_values().collect();
    found.sort_by_key(|arg| arg.span);
    found
}

/// The target, the stages it stands on, then all others it needs.
fn nearest_first(drafted: &Drafted<'_>) -> Vec<usize> {
    let mut order = vec![drafted.graph.target];
    while let Some(Base::Stage(base)) = order.last().map(|stage| &drafted.graph.nodes[*stage].base) {
        order.push(*base);
    }
    let others: Vec<usize> =
        drafted.graph.needed.iter().rev().filter(|stage| !order.contains(stage)).copied().collect();
    order.extend(others);
    order
}

fn of_file(dockerfile: &Dockerfile, globals: &Globals) -> BTreeMap<String, Global> {
    let mut known = BTreeMap::new();
    for (arg, instruction) in declared(&dockerfile.global_args) {
        let name = &arg.name.text;
        let default = arg.default.as_ref().map_or("", |default| &default.text);
        let uses = expand(default, dockerfile.directives.escape, &globals.values);
        let summary = summary(arg, instruction, globals.values.get(name).map(str::to_owned));
        let uses = uses.map(|expansion| expansion.matched).unwrap_or_default();
        known.insert(name.clone(), Global { summary, uses });
    }
    known
}

/// Variables of the FROM line.
fn of_from(
    dockerfile: &Dockerfile,
    globals: &Globals,
    drafted: &Drafted<'_>,
    stage: usize,
) -> BTreeSet<String> {
    let from = &drafted.graph.nodes[stage].ast.from;
    let words = std::iter::once(&from.image).chain(&from.platform);
    let expansions = words.map(|word| expand(&word.text, dockerfile.directives.escape, &globals.values));
    expansions.flatten().flat_map(|expansion| expansion.matched).collect()
}

fn with_uses(mut names: BTreeSet<String>, known: &BTreeMap<String, Global>) -> BTreeSet<String> {
    let mut waiting: Vec<String> = names.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        let uses = known.get(&name).into_iter().flat_map(|global| &global.uses);
        waiting.extend(uses.filter(|name| names.insert((*name).clone())).cloned().collect::<Vec<_>>());
    }
    names
}

fn value(drafted: &Drafted<'_>, stage: usize, name: &str) -> Option<String> {
    let declared = &drafted.drafts.get(&stage)?.declared;
    declared.iter().rfind(|(known, _)| known == name)?.1.clone()
}

fn summary(arg: &Arg, instruction: &Instruction, value: Option<String>) -> ArgSummary {
    ArgSummary {
        name: arg.name.text.clone(),
        description: described(instruction.comment.as_deref(), &arg.name.text),
        value,
        span: instruction.span,
    }
}

fn declared(instructions: &[Instruction]) -> impl Iterator<Item = (&Arg, &Instruction)> {
    instructions.iter().flat_map(|instruction| match &instruction.kind {
        InstructionKind::Arg(args) => args.iter().map(|arg| (arg, instruction)).collect(),
        _ => Vec::new(),
    })
}
