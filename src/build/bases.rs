//! Which images the Dockerfile stands on: asked for side by side, and again
//! while ONBUILD triggers of one name another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;
use super::material::{Chain, ChainLayer};
use crate::image::{ImageConfig, Layer, Platform, Reference};
use crate::net;
use crate::plan::{self, BaseImage, BuildPlan, Options, PlanError};
use crate::progress::Reporter;
use crate::registry::{self, Resolved};

use super::source::judge;
use crate::dockerfile::{Diagnostic, Dockerfile, Span};

pub(super) type Key = (Reference, Platform);

/// The images a build stands on.
#[derive(Default)]
pub(super) struct Bases {
    pub(super) configs: BTreeMap<Key, BaseImage>,
    chains: BTreeMap<Key, Chain>,
}

impl Bases {
    /// The layers of an image that was resolved.
    pub(super) fn chain(&self, key: &Key) -> Chain {
        self.chains.get(key).cloned().unwrap_or_default()
    }

    fn add(&mut self, key: Key, resolved: Resolved, is_here: bool) -> Result<(), Error> {
        let (config, mut chain) = unpack_resolved(&key.0, &resolved)?;
        if is_here {
            // No registry has its layers; the store does.
            chain.0.iter_mut().for_each(|layer| layer.origin = None);
        }
        self.configs.insert(key.clone(), BaseImage { digest: resolved.digest, config });
        self.chains.insert(key, chain);
        Ok(())
    }
}

fn unpack_resolved(reference: &Reference, resolved: &Resolved) -> Result<(ImageConfig, Chain), Error> {
    let bad = |source: Box<dyn std::error::Error + Send + Sync>| Error::BadBase {
        reference: Box::new(reference.clone()),
        source,
    };
    let config = ImageConfig::parse(&resolved.config).map_err(|error| bad(error.into()))?;
    let (diff_ids, layers) = (&config.rootfs.diff_ids, &resolved.manifest.layers);
    if diff_ids.len() != layers.len() {
        let error = crate::image::BuildError::LayerCount { diff_ids: diff_ids.len(), layers: layers.len() };
        return Err(bad(error.into()));
    }
    let origin = reference.at(resolved.digest);
    let chain = diff_ids.iter().zip(layers).map(|(diff_id, descriptor)| ChainLayer {
        layer: Layer {
            diff_id: *diff_id,
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
        },
        origin: Some(origin.clone()),
    });
    let chain = Chain(chain.collect());
    Ok((config, chain))
}

/// Resolves every base and finishes the plan.
pub(super) async fn plan(
    dockerfile: &Dockerfile,
    options: &Options,
    client: &registry::Client,
    layouts: &BTreeMap<Reference, Resolved>,
    reporter: &Arc<dyn Reporter>,
) -> Result<(BuildPlan, Bases), Error> {
    let mut bases = Bases::default();
    loop {
        let outline = plan::outline(dockerfile, options, &bases.configs)
            .map_err(|error| refused(error, dockerfile, reporter.as_ref()))?;
        let missing: Vec<Key> =
            outline.bases.iter().filter(|key| !bases.configs.contains_key(key)).cloned().collect();
        if missing.is_empty() {
            break;
        }
        let (here, missing): (Vec<Key>, Vec<Key>) =
            missing.into_iter().partition(|key| layouts.contains_key(&key.0));
        for key in here {
            let resolved = layouts[&key.0].clone();
            bases.add(key, resolved, true)?;
        }
        let place = |key: &Key| outline.places.get(key).map(|span| asking_line(&key.0, *span, dockerfile));
        for (key, resolved) in resolve_all(missing, client, &place).await? {
            reporter.info(format!("{} is {}", key.0, resolved.digest));
            bases.add(key, resolved, false)?;
        }
    }
    let (plan, warnings) = plan::resolve(dockerfile, options, &bases.configs)
        .map_err(|error| refused(error, dockerfile, reporter.as_ref()))?;
    judge(&warnings, &dockerfile.source, reporter.as_ref())?;
    Ok((plan, bases))
}

/// The line that asks for an image, drawn for an error about it. What a `--from`
/// names may have been meant for a stage.
fn asking_line(reference: &Reference, span: Span, dockerfile: &Dockerfile) -> String {
    let error = Diagnostic::error(span, format!("cannot pull `{reference}`"));
    let error = match dockerfile.stages.iter().any(|stage| stage.from.span == span) {
        true => error,
        false => error.with_hint("no earlier stage has this name, so that an image was looked for"),
    };
    error.render(&dockerfile.source)
}

/// The configs that a check of the Dockerfile asks for. An image that cannot be had
/// is left out: what rests on it is not judged then.
///
/// # Errors
/// When a proxy address or a certificate of `net` cannot be used.
pub async fn configs_to_check(
    dockerfile: &Dockerfile,
    options: &Options,
    net: net::Options,
    credentials: registry::Credentials,
    reporter: Arc<dyn Reporter>,
) -> Result<plan::Bases, Error> {
    // Nothing passes through: only configs are read.
    let settings = registry::Options { net, ..registry::Options::new(PathBuf::new()) };
    let client =
        registry::Client::new(settings, credentials, Arc::clone(&reporter)).map_err(Error::Registry)?;
    let mut known = plan::Bases::new();
    let mut asked = BTreeSet::new();
    loop {
        let wanted = plan::images_to_check(dockerfile, options, &known);
        let new: BTreeSet<Key> = wanted.into_iter().filter(|key| asked.insert(key.clone())).collect();
        if new.is_empty() {
            return Ok(known);
        }
        let ask = |key: Key| {
            let client = &client;
            async move { (client.resolve(&key.0, &key.1).await, key) }
        };
        for (answer, key) in futures_util::future::join_all(new.into_iter().map(ask)).await {
            let config = answer.map(|found| (found.digest, ImageConfig::parse(&found.config)));
            match config {
                Ok((digest, Ok(config))) => drop(known.insert(key, BaseImage { digest, config })),
                Ok((_, Err(error))) => reporter.warn(format!("{} is not looked into: {error}", key.0)),
                Err(error) => reporter.warn(format!("{} is not looked into: {error}", key.0)),
            }
        }
    }
}

async fn resolve_all(
    missing: Vec<Key>,
    client: &registry::Client,
    place: &dyn Fn(&Key) -> Option<String>,
) -> Result<Vec<(Key, Resolved)>, Error> {
    let requests = missing.into_iter().map(|key| async move {
        match client.resolve(&key.0, &key.1).await {
            Ok(resolved) => Ok((key, resolved)),
            Err(source) => {
                Err(Error::Pull { place: place(&key), reference: Box::new(key.0), source: Box::new(source) })
            }
        }
    });
    futures_util::future::try_join_all(requests).await
}

fn refused(error: PlanError, dockerfile: &Dockerfile, reporter: &dyn Reporter) -> Error {
    match error {
        PlanError::Diagnostics(diagnostics) => match judge(&diagnostics, &dockerfile.source, reporter) {
            Err(drawn) => drawn,
            Ok(()) => Error::Internal("a plan was refused without an error".to_owned()),
        },
        other => Error::Plan(other),
    }
}
