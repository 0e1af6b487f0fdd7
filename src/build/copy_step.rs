//! COPY and ADD as steps: where the sources are, and who owns the copies.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::{self, Picked, Target};
use super::error::StepError;
use super::identity::Accounts;
use super::inputs;
use super::material::{Chain, blocking};
use super::stage::{Made, Site, Work};
use super::tree::LayersTree;
use crate::context::{DirectoryContext, Owners, Selection, SourceTree};
use crate::layer::{self, Stack, UnpackOptions};
use crate::plan::{CopyFrom, CopyOp, CopySource};
use crate::rootfs::LayerTree;

/// Makes the layer of one COPY or ADD.
pub(super) async fn copy(work: &Work, op: &CopyOp) -> Result<Made, StepError> {
    let stack = work.site.materials.stack(&work.chain).await?;
    let owner = match &op.chown {
        Some(chown) => Some(owner(work, chown).await?),
        None => None,
    };
    let source = source(work, &op.from).await?;
    let mut writer = work.writer()?;
    let (site, op) = (Arc::clone(&work.site), op.clone());
    let now = site.epoch.unwrap_or(site.now);
    let packed = blocking(move || {
        let target = Target { base: &stack, owner, now, is_mount: false };
        write(&site, &op, source.as_ref(), &target, &mut writer)?;
        writer.finish().map_err(StepError::Layer)
    })
    .await?;
    work.keep(packed)
}

/// `--chown`: numbers need no look into the stage.
async fn owner(work: &Work, chown: &str) -> Result<(u32, u32), StepError> {
    let numeric = chown.split(':').all(|part| part.parse::<u32>().is_ok());
    let accounts = if numeric { Accounts::default() } else { accounts_of(work, &work.chain).await? };
    Ok(accounts.owner(chown))
}

/// The passwd and group files of a chain, read out of its layers' blobs, so
/// that no tree is unpacked for two small files.
pub(super) async fn accounts_of(work: &Work, chain: &Chain) -> Result<Accounts, StepError> {
    let stack = work.site.materials.stack(chain).await?;
    let mut files = Vec::new();
    for name in ["etc/passwd", "etc/group"] {
        let resolved = stack.resolve(Path::new(name), true).map_err(StepError::Layer)?;
        files.push(match resolved.found {
            Some(found) => {
                let (path, layer) = (found.source_path, &chain.0[found.source_layer]);
                let blob = work.site.materials.blob(layer).await?;
                let media_type = layer.layer.media_type.clone();
                blocking(move || read_one(&blob, &media_type, &path)).await?
            }
            None => Vec::new(),
        });
    }
    let group = files.pop().unwrap_or_default();
    Ok(Accounts { passwd: files.pop().unwrap_or_default(), group })
}

fn read_one(blob: &Path, media_type: &str, path: &Path) -> Result<Vec<u8>, StepError> {
    let file = File::open(blob).map_err(|source| StepError::File { path: blob.to_owned(), source })?;
    let mut found = layer::read_files(file, media_type, &[path]).map_err(StepError::Layer)?;
    Ok(found.remove(path).unwrap_or_default())
}

/// Where a COPY reads.
pub(super) struct Source {
    pub(super) tree: Arc<dyn SourceTree + Send + Sync>,
    /// Images and stages keep their owners; what comes from outside is root's.
    pub(super) owners: Owners,
}

/// The tree that `--from` names; `None` when there is no context to read.
pub(super) async fn source(work: &Work, from: &CopyFrom) -> Result<Option<Source>, StepError> {
    let site = &work.site;
    let directory = |context: &Arc<DirectoryContext>| Source {
        tree: Arc::<DirectoryContext>::clone(context),
        owners: Owners::Ignore,
    };
    let (name, chain) = match from {
        CopyFrom::Context => return Ok(site.contexts.main.as_ref().map(directory)),
        CopyFrom::Named(name) => return Ok(site.contexts.named.get(name).map(directory)),
        CopyFrom::Stage(id) => (format!("stage `{}`", site.stage(*id).name), work.chain_of_stage(*id).await?),
        CopyFrom::Image(reference) => {
            let key = (reference.clone(), site.contexts.platform.clone());
            (format!("image `{reference}`"), site.bases.chain(&key))
        }
    };
    let tree = Arc::new(LayersTree::new(name, &site.materials.trees(&chain).await?));
    Ok(Some(Source { tree, owners: Owners::Count }))
}

fn write(
    site: &Site,
    op: &CopyOp,
    source: Option<&Source>,
    target: &Target<'_>,
    writer: &mut layer::LayerWriter,
) -> Result<(), StepError> {
    let mut picked = Vec::new();
    if let Some(Source { tree, owners }) = source
        && let Some(selection) = inputs::pick(tree.as_ref(), op)?
    {
        picked = with_archives(site, op, tree.as_ref(), selection, *owners == Owners::Count)?;
    }
    for item in &op.sources {
        match item {
            CopySource::Inline { name, content } => picked.push(Picked::Inline {
                name: name.clone(),
                content: content.clone().into_bytes(),
                mode: 0o644,
                mtime: target.now,
            }),
            CopySource::Http(url) | CopySource::Git(url) => {
                return Err(StepError::Unsupported(format!("ADD cannot download yet (`{url}`)")));
            }
            CopySource::Path(_) if source.is_none() => return Err(inputs::no_context()),
            CopySource::Path(_) => {}
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
            picked.push(unpack_archive(site, tree, &item.path)?);
        } else {
            files.push(item);
        }
    }
    picked.push(piece(files));
    Ok(picked)
}

fn unpack_archive(site: &Site, tree: &dyn SourceTree, path: &Path) -> Result<Picked<'static>, StepError> {
    let failed = |source| StepError::File { path: site.materials.unfinished.clone(), source };
    let own = tempfile::tempdir_in(&site.materials.unfinished).map_err(failed)?.keep();
    let directory = File::open(&own).map_err(failed)?;
    let options = UnpackOptions { record_key: site.materials.record_key.clone() };
    let unpacked = layer::unpack_archive(open(tree, path)?, directory.as_fd(), &options);
    let unpacked = unpacked.map_err(StepError::Layer)?;
    let described: BTreeSet<PathBuf> = unpacked.index.iter().map(|entry| entry.path).collect();
    let stack = Stack::new(vec![Arc::new(unpacked.index.clone())]);
    let implied = stack.iter().map(|found| found.entry.path).filter(|path| !described.contains(path));
    let implied = implied.collect();
    let only = LayerTree { tree: own, index: Arc::new(unpacked.index) };
    let tree = LayersTree::new(format!("archive `{}`", path.display()), &[only]);
    Ok(Picked::Archive { tree: Box::new(tree), implied })
}

fn open<'a>(tree: &'a dyn SourceTree, path: &Path) -> Result<Box<dyn Read + Send + 'a>, StepError> {
    tree.open(path).map_err(StepError::Source)
}
