//! COPY and ADD as steps: where the sources are, and who owns the copies.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::copy::{self, Picked, Target};
use super::error::StepError;
use super::identity::Accounts;
use super::inputs;
use super::material::{Chain, blocking};
use super::outside::{DownloadTree, Fetched};
use super::stage::{Made, Site, Work};
use super::tree::LayersTree;
use crate::context::{self, DirectoryContext, Ignore, Owners, SelectOptions, Selection, SourceTree};
use crate::layer::{self, EntryIndex, UnpackOptions};
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
    let outside = check_out(work, op).await?;
    let mut writer = work.writer()?;
    let (site, op) = (Arc::clone(&work.site), op.clone());
    let now = site.epoch.unwrap_or(site.now);
    let packed = blocking(move || {
        let target = Target { base: &stack, owner, now };
        write(&site, &op, source.as_ref(), &outside, &target, &mut writer)?;
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

/// Repositories and files join what is copied; `--unpack` opens downloads that
/// are archives.
fn pick_outside<'a>(
    site: &Site,
    op: &CopyOp,
    outside: &'a [Arrived],
    archives: &mut Vec<Archive>,
) -> Result<Vec<Picked<'a>>, StepError> {
    let unpack = op.add.as_ref().is_some_and(|add| add.unpack == Some(true));
    let mut picked = Vec::new();
    for arrived in outside {
        match arrived {
            Arrived::File(tree) => {
                let name = tree.file.name.clone();
                let path = Path::new(&name);
                if unpack && layer::is_archive(open(tree, path)?).map_err(StepError::Layer)? {
                    archives.push(unpack_archive(site, tree, path)?);
                } else {
                    picked.push(Picked::File { tree, node: tree.file_node(), name });
                }
            }
            Arrived::Repository(tree) => {
                let options = SelectOptions { exclude: op.exclude.clone(), parents: false };
                let selection =
                    context::select(tree.as_ref(), &["."], &options).map_err(StepError::Source)?;
                picked.push(Picked::Selection { tree: tree.as_ref(), selection, keep_owner: false });
            }
        }
    }
    Ok(picked)
}

fn write(
    site: &Site,
    op: &CopyOp,
    source: Option<&Source>,
    outside: &[Arrived],
    target: &Target<'_>,
    writer: &mut layer::LayerWriter,
) -> Result<(), StepError> {
    let mut archives = Vec::new();
    let mut selected = None;
    if let Some(Source { tree, owners }) = source
        && let Some(mut selection) = inputs::pick(tree.as_ref(), op)?
    {
        archives = unpack_archives(site, op, tree.as_ref(), &mut selection)?;
        selected = Some((tree.as_ref(), selection, *owners == Owners::Count));
    }
    let arrived = pick_outside(site, op, outside, &mut archives)?;
    let mut picked: Vec<Picked<'_>> = archives.iter().map(Archive::picked).collect();
    picked.extend(arrived);
    if let Some((tree, selection, keep_owner)) = selected {
        picked.push(Picked::Selection { tree, selection, keep_owner });
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

/// ADD unpacks local archives: they leave the selection and become trees.
fn unpack_archives(
    site: &Site,
    op: &CopyOp,
    tree: &dyn SourceTree,
    selection: &mut Selection,
) -> Result<Vec<Archive>, StepError> {
    let wanted = op.add.as_ref().is_some_and(|add| add.unpack != Some(false));
    let mut archives = Vec::new();
    let mut files = Vec::new();
    for item in std::mem::take(&mut selection.items) {
        let archive = wanted
            && item.node.is_file()
            && layer::is_archive(open(tree, &item.path)?).map_err(StepError::Layer)?;
        match archive {
            true => archives.push(unpack_archive(site, tree, &item.path)?),
            false => files.push(item),
        }
    }
    selection.items = files;
    Ok(archives)
}

/// An archive that was unpacked for one ADD.
struct Archive {
    tree: LayersTree,
    index: Arc<EntryIndex>,
}

impl Archive {
    fn picked(&self) -> Picked<'_> {
        Picked::Archive { tree: &self.tree, index: &self.index }
    }
}

fn unpack_archive(site: &Site, tree: &dyn SourceTree, path: &Path) -> Result<Archive, StepError> {
    let failed = |source| StepError::File { path: site.materials.unfinished.clone(), source };
    let own = tempfile::tempdir_in(&site.materials.unfinished).map_err(failed)?.keep();
    let directory = File::open(&own).map_err(failed)?;
    let options = UnpackOptions { record_key: site.materials.record_key.clone() };
    let unpacked = layer::unpack_archive(open(tree, path)?, directory.as_fd(), &options);
    let only = LayerTree { tree: own, index: Arc::new(unpacked.map_err(StepError::Layer)?.index) };
    let tree = LayersTree::new(format!("archive `{}`", path.display()), std::slice::from_ref(&only));
    Ok(Archive { tree, index: only.index })
}

fn open<'a>(tree: &'a dyn SourceTree, path: &Path) -> Result<Box<dyn Read + Send + 'a>, StepError> {
    tree.open(path).map_err(StepError::Source)
}
