//! COPY and ADD as steps: where the sources are, and who owns the copies.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::{self, Picked, Target};
use super::error::StepError;
use super::identity::{Accounts, IdentityError};
use super::inputs;
use super::material::blocking;
use super::outside::{DownloadTree, Fetched};
use super::stage::{Made, Site, Work};
use super::tree::LayersTree;
use crate::context::{self, DirectoryContext, Ignore, Owners, SelectOptions, Selection, SourceTree};
use crate::image::Digest;
use crate::layer::{self, Spool, Stack};
use crate::plan::{CopyFrom, CopyOp, CopySource};

/// Makes the layer of one COPY or ADD.
pub(super) async fn copy(work: &Work, op: &CopyOp, source: Option<Source>) -> Result<Made, StepError> {
    let stack = work.site.materials.stack(&work.chain).await?;
    let owner = match &op.chown {
        Some(chown) => Some(owner(work, chown, op.is_independent()).await?),
        None => None,
    };
    let outside = check_out(work, op).await?;
    let mut writer = work.writer()?;
    let (site, op) = (Arc::clone(&work.site), op.clone());
    let now = site.epoch.unwrap_or(site.now);
    let (chain, runtime) = (work.chain.clone(), tokio::runtime::Handle::current());
    let packed = blocking(move || {
        let below = |paths: &BTreeSet<PathBuf>| -> Result<Box<dyn SourceTree>, _> {
            Ok(Box::new(runtime.block_on(site.materials.files(&chain, paths))?))
        };
        let target = Target { base: &stack, owner, now, is_mount: false, below: Some(&below) };
        write(&site, &op, source.as_ref(), &outside, &target, &mut writer)?;
        writer.finish().map_err(StepError::Layer)
    })
    .await?;
    work.keep(packed)
}

/// `--chown`, or the USER of a WORKDIR: numbers need no look into the stage,
/// and a name cannot be looked up where there is no stage to look into.
pub(super) async fn owner(work: &Work, chown: &str, alone: bool) -> Result<(u32, u32), StepError> {
    let accounts = match Accounts::name_in(chown) {
        None => Accounts::default(),
        Some(name) if alone || work.chain.0.is_empty() => {
            return Err(StepError::Identity(IdentityError::NoAccounts(name.to_owned())));
        }
        Some(_) => work.site.materials.accounts(&work.chain).await?,
    };
    Ok(accounts.owner(chown))
}

/// Where a COPY reads, with all that it reads at hand.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) tree: Arc<dyn SourceTree + Send + Sync>,
    /// Images and stages keep their owners; what comes from outside is root's.
    pub(super) owners: Owners,
}

impl Source {
    /// The digest of what `op` reads of it.
    pub(super) async fn digest(&self, op: &CopyOp) -> Result<Digest, StepError> {
        let (source, op) = (self.clone(), op.clone());
        blocking(move || inputs::digest_sources(source.tree.as_ref(), &op, source.owners)).await
    }
}

/// The tree that `--from` names; `None` when there is no context to read.
pub(super) async fn source(work: &Work, op: &CopyOp) -> Result<Option<Source>, StepError> {
    let site = &work.site;
    let directory = |context: &Arc<DirectoryContext>| Source {
        tree: Arc::<DirectoryContext>::clone(context),
        owners: Owners::Ignore,
    };
    let (name, chain) = match &op.from {
        CopyFrom::Context => return Ok(site.contexts.main.as_ref().map(directory)),
        CopyFrom::Named(name) => return Ok(site.contexts.named.get(name).map(directory)),
        CopyFrom::Stage(id) => (format!("stage `{}`", site.stage(*id).name), work.chain_of_stage(*id).await?),
        CopyFrom::Image(reference) => {
            let key = (reference.clone(), site.contexts.platform.clone());
            (format!("image `{reference}`"), site.bases.chain(&key))
        }
    };
    let (view, op) = (site.materials.view(name, &chain).await?, op.clone());
    let (view, wanted) = blocking(move || {
        let selection = inputs::pick(&view, &op)?;
        let wanted = selection.map(|selection| view.wanted(&selection)).transpose();
        Ok((view, wanted.map_err(StepError::Source)?.unwrap_or_default()))
    })
    .await?;
    let tree = Arc::new(site.materials.fill(view, &chain, wanted).await?);
    Ok(Some(Source { tree, owners: Owners::Count }))
}

/// A source from elsewhere, ready to be read.
enum Arrived {
    File(DownloadTree),
    Repository(Box<DirectoryContext>),
}

/// Gets what the plan only named: a file is in the store since then.
async fn check_out(work: &Work, op: &CopyOp) -> Result<Vec<Arrived>, StepError> {
    let outside = &work.site.contexts.outside;
    let mut arrived = Vec::new();
    for fetched in op.sources.iter().filter_map(|source| outside.of(op, source)) {
        arrived.push(match fetched {
            Fetched::File(file) => {
                let blob = work.site.materials.store.blob_path(&file.digest);
                Arrived::File(DownloadTree { file: file.clone(), blob })
            }
            Fetched::Git(location, commit) => {
                let checkout = outside.fetcher.checkout(location, commit).await;
                let directory = checkout.map_err(|error| StepError::Fetch(Box::new(error)))?;
                let opened = DirectoryContext::open(&directory, Ignore::default(), None);
                let tree = opened.map_err(StepError::Source)?;
                Arrived::Repository(Box::new(tree.described_as(format!("`{}`", location.shown()))))
            }
        });
    }
    Ok(arrived)
}

/// A file or repository as something to copy; `--unpack` opens downloads that
/// are archives.
fn pick_outside<'a>(site: &Site, op: &CopyOp, arrived: &'a Arrived) -> Result<Picked<'a>, StepError> {
    match arrived {
        Arrived::File(tree) => {
            let name = tree.file.name.clone();
            let unpack = op.add.as_ref().is_some_and(|add| add.unpack == Some(true));
            if unpack && layer::is_archive(open(tree, Path::new(&name))?).map_err(StepError::Layer)? {
                return read_archive(site, tree, Path::new(&name));
            }
            Ok(Picked::File { tree, node: tree.file_node(), name })
        }
        Arrived::Repository(tree) => {
            let options = SelectOptions { exclude: op.exclude.clone(), parents: false };
            let selection = context::select(tree.as_ref(), &["."], &options).map_err(StepError::Source)?;
            Ok(Picked::Selection { tree: tree.as_ref(), selection, keep_owner: false })
        }
    }
}

fn write(
    site: &Site,
    op: &CopyOp,
    source: Option<&Source>,
    outside: &[Arrived],
    target: &Target<'_>,
    writer: &mut layer::LayerWriter,
) -> Result<(), StepError> {
    let mut picked = Vec::new();
    if let Some(Source { tree, owners }) = source
        && let Some(selection) = inputs::pick(tree.as_ref(), op)?
    {
        picked = with_archives(site, op, tree.as_ref(), selection, *owners == Owners::Count)?;
    }
    for arrived in outside {
        picked.push(pick_outside(site, op, arrived)?);
    }
    for item in &op.sources {
        match item {
            CopySource::Inline { name, content } => picked.push(Picked::Inline {
                name: name.clone(),
                content: content.clone().into_bytes(),
                mode: 0o644,
                mtime: target.now,
            }),
            CopySource::Path(_) if source.is_none() => return Err(inputs::no_context()),
            CopySource::Path(_) | CopySource::Http(_) | CopySource::Git(_) => {}
        }
    }
    copy::write_layer(op, &picked, target, writer).map_err(StepError::Copy)
}

/// ADD unpacks local archives where they stand among the sources: they become
/// trees between what is copied before and after them.
fn with_archives<'a>(
    site: &Site,
    op: &CopyOp,
    tree: &'a (dyn SourceTree + Send + Sync),
    mut selection: Selection,
    keep_owner: bool,
) -> Result<Vec<Picked<'a>>, StepError> {
    let wanted = op.add.as_ref().is_some_and(|add| add.unpack != Some(false));
    let items = std::mem::take(&mut selection.items);
    let piece = |items| Picked::Selection { tree, selection: selection.with_items(items), keep_owner };
    if !wanted {
        return Ok(vec![piece(items)]);
    }
    let (mut picked, mut files) = (Vec::new(), Vec::new());
    for item in items {
        if item.node.is_file() && layer::is_archive(open(tree, &item.path)?).map_err(StepError::Layer)? {
            picked.push(piece(std::mem::take(&mut files)));
            picked.push(read_archive(site, tree, &item.path)?);
        } else {
            files.push(item);
        }
    }
    picked.push(piece(files));
    Ok(picked)
}

fn read_archive(site: &Site, tree: &dyn SourceTree, path: &Path) -> Result<Picked<'static>, StepError> {
    let mut spool = Spool::create(&site.materials.unfinished).map_err(StepError::Layer)?;
    let (index, bodies) = spool.take_archive(open(tree, path)?).map_err(StepError::Layer)?;
    let described: BTreeSet<PathBuf> = index.iter().map(|entry| entry.path).collect();
    let stack = Stack::new(vec![Arc::new(index)]);
    let implied = stack.iter().map(|found| found.entry.path).filter(|path| !described.contains(path));
    let implied = implied.collect();
    let name = format!("archive `{}`", path.display());
    let tree = LayersTree::of_archive(name, stack, spool, bodies);
    Ok(Picked::Archive { tree: Box::new(tree), implied })
}

fn open<'a>(tree: &'a dyn SourceTree, path: &Path) -> Result<Box<dyn Read + Send + 'a>, StepError> {
    tree.open(path).map_err(StepError::Source)
}
