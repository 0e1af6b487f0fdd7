//! One stage, step by step: known? then named; else done, packed and remembered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::bases::Bases;
use super::error::{Error, StepError};
use super::inputs::{Contexts, StageKeys};
use super::known::Known;
use super::material::{Chain, ChainLayer, Locks, Materials};
use super::quota::Quota;
use super::run::Surroundings;
use super::{copy_step, mounts, run_step, workdir_step};
use crate::dockerfile::{Diagnostic, Source};
use crate::image::{Digest, History, ImageBuilder, ImageConfig};
use crate::layer::{LayerWriter, PackOptions, PackedLayer};
use crate::plan::{self, BuildPlan, Op, Stage, StageBase, StageId, Step};
use crate::progress::{Event, Reporter, StepId, StepOutcome};
use crate::rootfs::Rootfs;
use crate::sandbox::{Sandbox, Storage};
use crate::store::{CacheEntry, Store};

/// What all stages of one build share.
pub(super) struct Site {
    pub(super) plan: BuildPlan,
    pub(super) bases: Bases,
    pub(super) keys: Vec<StageKeys>,
    pub(super) contexts: Contexts,
    pub(super) source: Source,
    pub(super) materials: Materials,
    pub(super) quota: Quota,
    pub(super) sandbox: Box<dyn Sandbox>,
    pub(super) storage: Storage,
    pub(super) surroundings: Surroundings,
    pub(super) pack: PackOptions,
    /// Seconds since 1970: the time of this build.
    pub(super) now: i64,
    pub(super) epoch: Option<i64>,
    /// What the recipe keys know.
    pub(super) known: Known,
    /// Stages that must not use the cache.
    pub(super) uncached: Vec<bool>,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) cancel: CancellationToken,
    pub(super) results: Vec<tokio::sync::watch::Sender<Option<Arc<StageResult>>>>,
    pub(super) step_locks: Locks<Digest>,
    /// Number of the first step of each stage in events.
    pub(super) first_step: Vec<usize>,
    /// How many steps may work at once.
    pub(super) slots: tokio::sync::Semaphore,
}

/// What a stage has become.
pub(super) struct StageResult {
    pub(super) chain: Chain,
    pub(super) builder: ImageBuilder,
    pub(super) executed: usize,
    pub(super) cached: usize,
}

/// A step's effect: its layer, and when that was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) layer: Option<ChainLayer>,
    pub(super) created: i64,
}

/// A stage at work.
pub(super) struct Work {
    pub(super) site: Arc<Site>,
    pub(super) id: StageId,
    pub(super) chain: Chain,
    /// The tree of the last RUN, where the storage goes on with it.
    pub(super) rootfs: Option<Rootfs>,
}

/// What a step reads from outside its own layers: for its key, and then for
/// its work, so that nothing is read out of a layer twice.
#[derive(Default)]
struct Gathered {
    digests: Vec<Digest>,
    copied: Option<copy_step::Source>,
    mounts: mounts::Sources,
}

impl Site {
    pub(super) fn stage(&self, id: StageId) -> &Stage {
        &self.plan.stages[id.0]
    }

    /// Waits for another stage's result.
    pub(super) async fn result(&self, id: StageId) -> Result<Arc<StageResult>, StepError> {
        let mut receiver = self.results[id.0].subscribe();
        tokio::select! {
            () = self.cancel.cancelled() => Err(StepError::Cancelled),
            found = receiver.wait_for(Option::is_some) => match found {
                Ok(result) => result.clone().ok_or(StepError::Cancelled),
                Err(_) => Err(StepError::Cancelled),
            },
        }
    }

    /// Draws the place of a step under a message.
    pub(super) fn place(&self, step: &Step, message: String, tail: &[String]) -> String {
        let span = step.span.unwrap_or(step.from_span);
        let mut drawn = Diagnostic::error(span, message).render(&self.source);
        if !tail.is_empty() {
            drawn.push_str("\nits last lines:\n");
            for line in tail {
                drawn.push_str(&format!("    {line}\n"));
            }
            drawn.truncate(drawn.trim_end().len());
        }
        drawn
    }
}

/// Builds one stage and publishes its result.
pub(super) async fn build(site: Arc<Site>, id: StageId) -> Result<(), Error> {
    let (chain, builder) = base(&site, id).await?;
    let mut work = Work { site: Arc::clone(&site), id, chain, rootfs: None };
    let mut result = StageResult { chain: Chain::default(), builder, executed: 0, cached: 0 };
    let stage = site.stage(id);
    for (position, step) in stage.steps.iter().enumerate() {
        if site.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        work.step(position, step, &mut result).await?;
    }
    result.builder.container(stage.config.config.clone());
    result.builder.author(stage.config.author.clone());
    result.chain = work.chain;
    site.results[id.0].send_replace(Some(Arc::new(result)));
    Ok(())
}

async fn base(site: &Site, id: StageId) -> Result<(Chain, ImageBuilder), Error> {
    let stage = site.stage(id);
    let (chain, config) = match &stage.base {
        StageBase::Scratch => (Chain::default(), ImageConfig::scratch(&stage.platform)),
        StageBase::Image { reference, platform, .. } => {
            let key = (reference.clone(), platform.clone());
            let config = site.bases.configs.get(&key).map(|base| base.config.clone()).unwrap_or_default();
            (site.bases.chain(&key), config)
        }
        StageBase::Stage(below) => {
            let result = site.result(*below).await.map_err(|_| Error::Cancelled)?;
            return Ok((result.chain.clone(), result.builder.clone()));
        }
    };
    let layers = chain.0.iter().map(|layer| layer.layer.clone()).collect();
    Ok((chain, ImageBuilder::new(config, layers).map_err(Error::Assemble)?))
}

impl Work {
    async fn step(&mut self, position: usize, step: &Step, result: &mut StageResult) -> Result<(), Error> {
        let created = |seconds| Some(rfc3339(seconds));
        if matches!(step.op, Op::Config) {
            let time = result.builder.config().history.last().and_then(|entry| entry.created.clone());
            let time = self.site.epoch.map(rfc3339).or(time).or_else(|| created(self.site.now));
            result.builder.empty(History { created: time, ..step.history.clone() });
            return Ok(());
        }
        let started = Instant::now();
        let event = StepId(self.site.first_step[self.id.0] + position);
        self.site
            .reporter
            .report(Event::StepStarted { id: event, label: label(self.site.stage(self.id), position, step) });
        let done = self.known_or_done(position, step, event).await;
        let outcome = match &done {
            Ok((_, true)) => StepOutcome::Cached,
            Ok((_, false)) => StepOutcome::Done,
            Err(Error::Cancelled) => StepOutcome::Cancelled,
            Err(_) => StepOutcome::Failed,
        };
        self.site.reporter.report(Event::StepFinished { id: event, outcome, elapsed: started.elapsed() });
        let (made, cached) = done?;
        if cached {
            result.cached += 1
        } else {
            result.executed += 1
        }
        let history =
            History { created: created(self.site.epoch.unwrap_or(made.created)), ..step.history.clone() };
        match made.layer {
            Some(layer) => {
                result.builder.layer(layer.layer.clone(), history);
                self.chain.0.push(layer);
            }
            None => result.builder.empty(history),
        }
        Ok(())
    }

    async fn known_or_done(
        &mut self,
        position: usize,
        step: &Step,
        event: StepId,
    ) -> Result<(Made, bool), Error> {
        let site = Arc::clone(&self.site);
        if let Some(made) = site.known.step(self.id, position) {
            return Ok((made.clone(), true));
        }
        let recipe = cache_key(site.epoch, site.keys[self.id.0].steps[position].as_digest());
        // The same step of another stage may be at work: wait for its result.
        let _guard = site.step_locks.lock(recipe).await;
        let gathered = self.gather(step).await.map_err(|error| self.failed(step, error))?;
        let content = self.content_key(step, &gathered);
        if let Some(made) = self.site.cached(self.id, &content)? {
            self.site.remember(&[recipe], &made)?;
            return Ok((made, true));
        }
        let _slot = site.slots.acquire().await.map_err(|_| Error::Cancelled)?;
        let made = self.execute(step, gathered, event).await?;
        self.site.remember(&[recipe, content], &made)?;
        Ok((made, false))
    }

    async fn execute(&mut self, step: &Step, gathered: Gathered, event: StepId) -> Result<Made, Error> {
        match &step.op {
            Op::Run(op) => run_step::run(self, step, op, &gathered.mounts, event).await,
            Op::Copy(op) => {
                copy_step::copy(self, op, gathered.copied).await.map_err(|error| self.failed(step, error))
            }
            Op::Workdir(op) => workdir_step::make(self, op).await.map_err(|error| self.failed(step, error)),
            Op::Config => unreachable!("config steps are recorded, not executed"),
        }
    }

    pub(super) fn failed(&self, step: &Step, error: StepError) -> Error {
        if matches!(error, StepError::Cancelled) || self.site.cancel.is_cancelled() {
            return Error::Cancelled;
        }
        Error::Step { place: self.site.place(step, step_failed(step), &[]), source: Box::new(error) }
    }

    /// The key by what the step really reads: the layers below it and the files
    /// it copies, whichever way they came about.
    fn content_key(&self, step: &Step, gathered: &Gathered) -> Digest {
        let parent = plan::chain_key(&self.chain.id());
        cache_key(self.site.epoch, plan::content_key(&parent, step, &gathered.digests).as_digest())
    }

    /// Gets at hand what the step reads of contexts, stages and images.
    async fn gather(&self, step: &Step) -> Result<Gathered, StepError> {
        match &step.op {
            Op::Copy(op) => {
                let mut digests = self.site.contexts.outside.digests(op);
                let copied = copy_step::source(self, op).await?;
                if let Some(source) = &copied {
                    digests.push(source.digest(op).await?);
                }
                Ok(Gathered { digests, copied, ..Gathered::default() })
            }
            Op::Run(op) => {
                let (digests, mounts) = mounts::gather(self, op).await?;
                Ok(Gathered { digests, mounts, copied: None })
            }
            Op::Workdir(_) | Op::Config => Ok(Gathered::default()),
        }
    }

    /// The image or stage that a step reads, as a chain.
    pub(super) async fn chain_of_stage(&self, id: StageId) -> Result<Chain, StepError> {
        Ok(self.site.result(id).await?.chain.clone())
    }

    /// Opens a writer for this step's layer.
    pub(super) fn writer(&self) -> Result<LayerWriter, StepError> {
        LayerWriter::create(&self.site.materials.unfinished, self.site.pack).map_err(StepError::Layer)
    }

    /// Takes a packed layer into the store.
    pub(super) fn keep(&self, packed: PackedLayer) -> Result<Made, StepError> {
        self.site.quota.check()?;
        let store = &self.site.materials.store;
        store.adopt_blob(&packed.blob, &packed.layer.digest).map_err(StepError::Store)?;
        store.adopt_entries(&packed.entries, &packed.layer.diff_id).map_err(StepError::Store)?;
        Ok(Made { layer: Some(ChainLayer { layer: packed.layer, origin: None }), created: self.site.now })
    }

    /// An empty directory of this step's own, on the state volume.
    pub(super) fn scratch(&self, event: StepId) -> Result<PathBuf, StepError> {
        let path = self.site.materials.unfinished.join(format!("step-{}", event.0));
        std::fs::create_dir(&path).map_err(|source| StepError::File { path: path.clone(), source })?;
        Ok(path)
    }
}

impl Site {
    fn cached(&self, stage: StageId, key: &Digest) -> Result<Option<Made>, Error> {
        if self.uncached[stage.0] {
            return Ok(None);
        }
        look_up(&self.materials.store, key)
    }

    fn remember(&self, keys: &[Digest], made: &Made) -> Result<(), Error> {
        let entry =
            CacheEntry { layer: made.layer.as_ref().map(|layer| layer.layer.clone()), created: made.created };
        for key in keys {
            self.materials.store.cache_put(key, &entry)?;
        }
        Ok(())
    }
}

/// `[build 2/5] RUN make`; FROM is number one, and as in BuildKit what only
/// changes the config is not counted: `[build] ENV A=1`.
pub(super) fn label(stage: &Stage, position: usize, step: &Step) -> String {
    if matches!(step.op, Op::Config) {
        return format!("[{}] {}", stage.name, step.text);
    }
    let counted = |steps: &[Step]| 1 + steps.iter().filter(|step| !matches!(step.op, Op::Config)).count();
    format!("[{} {}/{}] {}", stage.name, counted(&stage.steps[..=position]), counted(&stage.steps), step.text)
}

/// Layers packed under another SOURCE_DATE_EPOCH have other bytes.
pub(super) fn cache_key(epoch: Option<i64>, key: &Digest) -> Digest {
    match epoch {
        None => *key,
        Some(epoch) => {
            let mut hasher = crate::image::Hasher::new();
            hasher.field(key.as_bytes());
            hasher.field(epoch.to_string());
            hasher.finish()
        }
    }
}

/// What the cache has under `key`, if its layer is still there.
pub(super) fn look_up(store: &Store, key: &Digest) -> Result<Option<Made>, Error> {
    let Some(entry) = store.cache_get(key)? else { return Ok(None) };
    let present = entry.layer.as_ref().is_none_or(|layer| store.has_blob(&layer.digest, layer.size));
    Ok(present.then(|| Made {
        layer: entry.layer.map(|layer| ChainLayer { layer, origin: None }),
        created: entry.created,
    }))
}

/// What stands under the place of a step that failed; the cause follows it.
pub(super) fn step_failed(step: &Step) -> String {
    format!("`{}` failed", first_words(&step.text))
}

/// The start of an instruction, for a message.
pub(super) fn first_words(text: &str) -> String {
    const LIMIT: usize = 60;
    if text.chars().count() <= LIMIT {
        return text.to_owned();
    }
    let cut: String = text.chars().take(LIMIT).collect();
    format!("{cut}…")
}

/// Seconds since 1970 as the OCI spec writes times.
pub(super) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
