//! The two halves of planning.

use std::collections::BTreeMap;

use super::draft::{Draft, Site};
use super::globals::Globals;
use super::graph::{Base, Graph, Node, Reach};
use super::op::{BuildPlan, Stage, StageId};
use super::options::{Bases, Options, Outline, PlanError};
use super::report::{self, Report};
use crate::dockerfile::{Diagnostic, Dockerfile, Span};
use crate::image::{Platform, Reference};

/// Which images the target needs, given the configs `known` so far.
///
/// An ONBUILD trigger of a base may name further images: fetch what is missing and
/// ask again until nothing new is named. Mistakes that can be told without the
/// missing configs are told now, before anything is fetched.
///
/// # Errors
/// All mistakes of the Dockerfile that are certain, or an unknown target.
pub fn outline(dockerfile: &Dockerfile, options: &Options, known: &Bases) -> Result<Outline, PlanError> {
    let mut report = Report::default();
    let checks = report::checks(dockerfile, options, &mut report);
    let draft = Drafted::of(dockerfile, options, known, Reach::Target, &mut report)?;
    let diagnostics = report.finish(&checks).map_err(PlanError::Diagnostics)?;
    Ok(Outline { bases: draft.bases(options), places: draft.places(options), diagnostics })
}

/// The plan and what is to be warned about, once [`outline`] needs nothing more.
///
/// # Errors
/// All mistakes of the Dockerfile, an unknown target, or a base that is not in `bases`.
pub fn resolve(
    dockerfile: &Dockerfile,
    options: &Options,
    bases: &Bases,
) -> Result<(BuildPlan, Vec<Diagnostic>), PlanError> {
    let mut report = Report::default();
    let checks = report::checks(dockerfile, options, &mut report);
    let mut drafted = Drafted::of(dockerfile, options, bases, Reach::Target, &mut report)?;
    let warnings = report.finish(&checks).map_err(PlanError::Diagnostics)?;
    drafted.complete(bases)?;
    if let Some(target) = drafted.drafts.get_mut(&drafted.graph.target) {
        target.finish_target(options);
    }
    Ok((drafted.plan(options, bases), warnings))
}

/// All needed stages, instructions applied.
pub(super) struct Drafted<'a> {
    pub(super) graph: Graph<'a>,
    ids: BTreeMap<usize, StageId>,
    pub(super) drafts: BTreeMap<usize, Draft>,
}

impl<'a> Drafted<'a> {
    pub(super) fn of(
        dockerfile: &'a Dockerfile,
        options: &Options,
        bases: &Bases,
        reach: Reach,
        report: &mut Report,
    ) -> Result<Self, PlanError> {
        let globals = Globals::of(dockerfile, options, report);
        Globals::check_defaults(dockerfile, options, report);
        let graph = Graph::build(dockerfile, options, &globals, bases, reach, report)?;
        let ids = graph.needed.iter().enumerate().map(|(id, stage)| (*stage, StageId(id))).collect();
        let mut drafts = BTreeMap::new();
        for &stage in &graph.needed {
            let node = &graph.nodes[stage];
            let mut draft = Draft::start(node, bases, &drafts, options, report);
            for command in &node.commands {
                let site = Site {
                    options,
                    globals: &globals,
                    graph: &graph,
                    ids: &ids,
                    escape: dockerfile.directives.escape,
                    stage,
                    command,
                };
                draft.take(site, report);
            }
            drafts.insert(stage, draft);
        }
        Ok(Self { graph, ids, drafts })
    }

    /// External images that stages start from.
    pub(super) fn stage_images(&self) -> Vec<(Reference, Platform)> {
        let nodes = self.graph.needed.iter().map(|stage| &self.graph.nodes[*stage]);
        let image = |node: &Node<'_>| match &node.base {
            Base::Image(reference) => Some((reference.clone(), node.platform.clone())),
            _ => None,
        };
        nodes.filter_map(image).collect()
    }

    /// External images by what reads them: FROM or COPY and RUN.
    fn bases(&self, options: &Options) -> Vec<(Reference, Platform)> {
        let mut bases = self.images(options);
        bases.extend(self.stage_images());
        bases.sort();
        bases.dedup();
        bases
    }

    fn places(&self, options: &Options) -> BTreeMap<(Reference, Platform), Span> {
        let images = self.graph.images.iter();
        let read = images.map(|(reference, span)| ((reference.clone(), options.platform.clone()), *span));
        let nodes = self.graph.needed.iter().map(|stage| &self.graph.nodes[*stage]);
        let place = |node: &Node<'_>| match &node.base {
            Base::Image(reference) => Some(((reference.clone(), node.platform.clone()), node.ast.from.span)),
            _ => None,
        };
        read.chain(nodes.filter_map(place)).collect()
    }

    fn images(&self, options: &Options) -> Vec<(Reference, Platform)> {
        let images = self.graph.images.keys();
        images.map(|reference| (reference.clone(), options.platform.clone())).collect()
    }

    fn complete(&self, bases: &Bases) -> Result<(), PlanError> {
        for stage in &self.graph.needed {
            let node = &self.graph.nodes[*stage];
            if let Base::Image(reference) = &node.base {
                let base = (reference.clone(), node.platform.clone());
                if !bases.contains_key(&base) {
                    return Err(PlanError::MissingBase(Box::new(base)));
                }
            }
        }
        Ok(())
    }

    fn plan(self, options: &Options, bases: &Bases) -> BuildPlan {
        let images = self.images(options);
        let Self { graph, ids, drafts } = self;
        let stages: Vec<Stage> = drafts
            .into_iter()
            .filter_map(|(stage, draft)| draft.finish(&graph.nodes[stage], &ids, bases))
            .collect();
        let target = ids[&graph.target];
        BuildPlan { stages, target, images, contexts: graph.contexts.into_iter().collect() }
    }
}
