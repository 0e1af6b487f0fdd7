//! The sources of `RUN --mount` that must be made before a sandbox can mount
//! them: what a bind mount shows of the context, stages and images, and the
//! directories of caches.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::copy::{self, Picked, Target};
use super::copy_step::{self, Source};
use super::error::StepError;
use super::inputs;
use super::material::{Materials, blocking};
use super::stage::{Site, Work};
use crate::context::{self, Owners};
use crate::image::Digest;
use crate::layer::{self, Compression, LayerWriter, PackOptions, Stack, UnpackOptions};
use crate::metadata::{self, Key};
use crate::plan::{
    BindMount, CacheMount, CacheSharing, CopyFrom, CopyOp, CopySource, Mount, MountSource, RunOp, SshMount,
};
use crate::sandbox::{MountSpec, Rung};
use crate::ssh::{self, Access, Served};
use crate::store::MountLock;

/// What a RUN is given, and the locks that must be held while it runs.
#[derive(Default)]
pub(super) struct Prepared {
    /// By position among the RUN's mounts.
    pub(super) specs: BTreeMap<usize, MountSpec>,
    /// Dropped after the step.
    pub(super) held: Vec<MountLock>,
    /// The sockets of agents; dropped after the step too.
    pub(super) agents: Vec<Served>,
}

/// Makes the sources of bind, cache and ssh mounts.
pub(super) async fn prepare(
    work: &Work,
    op: &RunOp,
    sources: &Sources,
    scratch: &Path,
) -> Result<Prepared, StepError> {
    let caches = lock_caches(work, op).await?;
    let mut prepared = Prepared { held: caches.held, ..Prepared::default() };
    let mut sockets = op.ssh_targets().into_iter();
    for (position, mount) in op.mounts.iter().enumerate() {
        let own = scratch.join(format!("mount-{position}"));
        let spec = match mount {
            Mount::Bind(bind) => bind_spec(work, bind, sources.get(&position), own).await?,
            Mount::Cache(cache) => cache_spec(work, cache, own, caches.taken.contains(&cache.id)).await?,
            Mount::Ssh(wanted) => {
                let target = sockets.next().unwrap_or_default();
                match agent(work, wanted, own).await? {
                    Some((source, served)) => {
                        prepared.agents.push(served);
                        MountSpec::Bind { source, target: target.into(), read_only: false }
                    }
                    None => continue,
                }
            }
            Mount::Tmpfs(_) | Mount::Secret(_) => continue,
        };
        prepared.specs.insert(position, spec);
    }
    Ok(prepared)
}

/// A socket of ours that leads to the agent, for this RUN alone; `None` for one
/// that was not given and need not be.
async fn agent(work: &Work, wanted: &SshMount, own: PathBuf) -> Result<Option<(PathBuf, Served)>, StepError> {
    let agent = match work.site.surroundings.agents.get(&wanted.id) {
        Some(agent) => Arc::clone(agent),
        None if wanted.required => return Err(StepError::SshMissing(wanted.id.clone())),
        None => return Ok(None),
    };
    make_directory(&own)?;
    let owner = (wanted.uid, wanted.gid);
    let has_one_id = work.site.sandbox.rung() == Rung::Single;
    let access = Access { mode: wanted.mode, owner: (!has_one_id).then_some(owner) };
    let socket = own.join(SOCKET);
    let served = ssh::serve(agent, &own, SOCKET, access, Arc::clone(&work.site.reporter));
    let given = served.and_then(|served| {
        if has_one_id {
            give_socket(&socket, owner, &work.site.materials.record_key)?;
        }
        Ok(served)
    });
    Ok(Some((socket.clone(), given.map_err(|source| StepError::File { path: socket, source })?)))
}

/// By its record: no other owner can be had.
fn give_socket(socket: &Path, owner: (u32, u32), key: &Key) -> std::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(socket, flags, rustix::fs::Mode::empty())?;
    metadata::give(place.as_fd(), owner, key)
}

const SOCKET: &str = "agent";

/// What bind mounts show, by position among the RUN's mounts.
pub(super) type Sources = BTreeMap<usize, Source>;

/// What the bind mounts of a RUN hold: part of its content key, and where it is.
pub(super) async fn gather(work: &Work, op: &RunOp) -> Result<(Vec<Digest>, Sources), StepError> {
    let mut digests = Vec::from_iter(work.site.contexts.surroundings);
    let mut sources = Sources::new();
    for (position, mount) in op.mounts.iter().enumerate() {
        let Mount::Bind(bind) = mount else { continue };
        if matches!(bind.from, MountSource::Empty) {
            digests.push(Digest::of("empty"));
            continue;
        }
        let read = as_copy(bind);
        let source = copy_step::source(work, &read).await?.ok_or_else(inputs::no_context)?;
        digests.push(source.digest(&read).await?);
        sources.insert(position, source);
    }
    Ok((digests, sources))
}

/// A bind mount shows what a COPY of its source would write.
fn as_copy(bind: &BindMount) -> CopyOp {
    CopyOp {
        from: match &bind.from {
            MountSource::Stage(id) => CopyFrom::Stage(*id),
            MountSource::Image(reference) => CopyFrom::Image(reference.clone()),
            MountSource::Named(name) => CopyFrom::Named(name.clone()),
            MountSource::Context | MountSource::Empty => CopyFrom::Context,
        },
        sources: vec![CopySource::Path(literal(&bind.source))],
        destination: SHOWN.to_owned(),
        chown: None,
        chmod: None,
        link: true,
        parents: false,
        exclude: Vec::new(),
        add: None,
    }
}

/// The source of a mount is a path: wildcards in it mean themselves.
fn literal(path: &str) -> String {
    let escaped = |c: char| if "*?[\\".contains(c) { vec!['\\', c] } else { vec![c] };
    path.chars().flat_map(escaped).collect()
}

/// Where the source of a bind mount lies in the tree that is made for it.
const SHOWN: &str = "/shown";

/// `source` is there unless the mount shows an empty directory.
async fn bind_spec(
    work: &Work,
    bind: &BindMount,
    source: Option<&Source>,
    own: PathBuf,
) -> Result<MountSpec, StepError> {
    make_directory(&own)?;
    let tree = own.join("tree");
    make_directory(&tree)?;
    match source {
        Some(source) => show(work, bind, source.clone(), &own, &tree).await?,
        None => make_directory(&tree.join(SHOWN.trim_start_matches('/')))?,
    }
    let source = tree.join(SHOWN.trim_start_matches('/'));
    let target = PathBuf::from(&bind.target);
    // What the tree holds is this step's own: writes to it are thrown away with it.
    Ok(MountSpec::Bind { source, target, read_only: !bind.writable })
}

/// Writes what the mount shows as a layer and unpacks it: one way of copying,
/// with the same owners, links and limits as COPY.
async fn show(
    work: &Work,
    bind: &BindMount,
    source: Source,
    own: &Path,
    tree: &Path,
) -> Result<(), StepError> {
    let op = as_copy(bind);
    let site: Arc<Site> = Arc::clone(&work.site);
    let (own, into) = (own.to_owned(), tree.to_owned());
    blocking(move || {
        let options = PackOptions { compression: Compression::None, ..site.pack };
        let mut writer = LayerWriter::create(&own, options).map_err(StepError::Layer)?;
        let Some(selection) = inputs::pick(source.tree.as_ref(), &op)? else { return Ok(()) };
        let keep_owner = source.owners == Owners::Count;
        let picked = [Picked::Selection { tree: source.tree.as_ref(), selection, keep_owner }];
        let base = Stack::new(Vec::new());
        let target = Target { base: &base, owner: None, now: site.now, is_mount: true, below: None };
        copy::write_layer(&op, &picked, &target, &mut writer).map_err(StepError::Copy)?;
        let packed = writer.finish().map_err(StepError::Layer)?;
        unpack(&site, &packed, &into)
    })
    .await
}

fn unpack(site: &Site, packed: &layer::PackedLayer, into: &Path) -> Result<(), StepError> {
    let open =
        |path: &Path| File::open(path).map_err(|source| StepError::File { path: path.to_owned(), source });
    let options = UnpackOptions { record_key: site.materials.record_key.clone() };
    let (blob, directory) = (open(&packed.blob)?, open(into)?);
    layer::unpack(blob, &packed.layer.media_type, directory.as_fd(), None, &options)
        .map_err(StepError::Layer)?;
    Ok(())
}

/// The caches of a RUN that others have.
struct Caches {
    held: Vec<MountLock>,
    /// Private ones that another step has.
    taken: BTreeSet<String>,
}

/// How often a cache that another step has is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Locks the caches that must not be shared: each once, and in the same order
/// for every step, so that no two wait for each other.
async fn lock_caches(work: &Work, op: &RunOp) -> Result<Caches, StepError> {
    let mut wanted: BTreeMap<&str, bool> = BTreeMap::new();
    for mount in &op.mounts {
        let Mount::Cache(cache) = mount else { continue };
        // On `chroot` it is moved into the one tree and back: two at once is
        // not possible, and a shared one is locked.
        let moved = work.site.sandbox.rung() == Rung::Chroot && cache.sharing == CacheSharing::Shared;
        if moved || cache.sharing != CacheSharing::Shared {
            *wanted.entry(&cache.id).or_default() |= moved || cache.sharing == CacheSharing::Locked;
        }
    }
    let (store, cancel) = (&work.site.materials.store, &work.site.cancel);
    let mut caches = Caches { held: Vec::new(), taken: BTreeSet::new() };
    for (id, wait) in wanted {
        loop {
            match store.mount_lock(id).map_err(StepError::Store)? {
                Some(lock) => caches.held.push(lock),
                None if wait => {
                    let pause = tokio::time::sleep(ASK_AGAIN);
                    cancel.run_until_cancelled(pause).await.ok_or(StepError::Cancelled)?;
                    continue;
                }
                None => drop(caches.taken.insert(id.to_owned())),
            }
            break;
        }
    }
    Ok(caches)
}

async fn cache_spec(
    work: &Work,
    cache: &CacheMount,
    own: PathBuf,
    taken: bool,
) -> Result<MountSpec, StepError> {
    let (cache, seed) = seeded(work, cache, &own).await?;
    let (target, read_only) = (PathBuf::from(&cache.target), cache.readonly);
    let (site, wanted) = (Arc::clone(&work.site), cache.clone());
    let source =
        blocking(move || cache_directory(&site.materials, &wanted, own, taken, seed.as_deref())).await?;
    Ok(MountSpec::Bind { source, target, read_only })
}

/// A cache that starts as a copy of something: another source is another
/// cache, as in BuildKit. Its directory is filled before anybody can see it.
async fn seeded(
    work: &Work,
    cache: &CacheMount,
    own: &Path,
) -> Result<(CacheMount, Option<PathBuf>), StepError> {
    if matches!(cache.from, MountSource::Empty) {
        return match cache.source.as_str() {
            "" | "/" => Ok((cache.clone(), None)),
            source => {
                let (pattern, tree) = (source.to_owned(), "an empty cache (name its `from`)".to_owned());
                Err(StepError::Source(context::Error::NotFound { pattern, tree, ignored: None }))
            }
        };
    }
    let bind = BindMount {
        from: cache.from.clone(),
        source: cache.source.clone(),
        target: cache.target.clone(),
        writable: true,
    };
    let read = as_copy(&bind);
    let source = copy_step::source(work, &read).await?.ok_or_else(inputs::no_context)?;
    let content = source.digest(&read).await?;
    let tree = own.with_extension("seed");
    make_directory(own)?;
    make_directory(&tree)?;
    show(work, &bind, source, own, &tree).await?;
    let id = format!("{}:{content}", cache.id);
    let own_directory = tree.join(SHOWN.trim_start_matches('/'));
    Ok((CacheMount { id, ..cache.clone() }, Some(own_directory)))
}

/// The cache's directory. A private cache that somebody has is replaced by a
/// directory of this step's own.
fn cache_directory(
    materials: &Materials,
    cache: &CacheMount,
    own: PathBuf,
    taken: bool,
    seed: Option<&Path>,
) -> Result<PathBuf, StepError> {
    if taken {
        match seed {
            Some(seed) => return Ok(seed.to_owned()),
            None => make_directory(&own)?,
        }
        own_by(&own, cache, &materials.record_key)?;
        return Ok(own);
    }
    let directory = materials.store.mount_directory(&cache.id).map_err(StepError::Store)?;
    let is_new = std::fs::read_dir(&directory).map(|mut entries| entries.next().is_none());
    let failed = |source| StepError::File { path: directory.clone(), source };
    match (is_new.map_err(failed)?, seed) {
        // Both are empty or whole: a rename never leaves half a cache.
        (true, Some(seed)) => std::fs::rename(seed, &directory).map_err(failed)?,
        (true, None) => own_by(&directory, cache, &materials.record_key)?,
        (false, _) => {}
    }
    Ok(directory)
}

fn own_by(directory: &Path, cache: &CacheMount, key: &Key) -> Result<(), StepError> {
    let failed = |source| StepError::File { path: directory.to_owned(), source };
    let given =
        File::open(directory).and_then(|opened| metadata::give(opened.as_fd(), (cache.uid, cache.gid), key));
    given.map_err(failed)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(cache.mode)).map_err(failed)
}

fn make_directory(path: &Path) -> Result<(), StepError> {
    std::fs::create_dir(path).map_err(|source| StepError::File { path: path.to_owned(), source })
}
