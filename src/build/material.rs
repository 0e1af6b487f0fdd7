//! Layers on demand: a layer is first only named, and becomes a blob, an entry
//! index or a tree when a step asks for that. A build whose steps are all known
//! never downloads its base.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::hash::Hash;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::error::StepError;
use super::identity::Accounts;
use super::tree::{LayersTree, Wanted};
use crate::image::{Digest, Hasher, Layer, Reference};
use crate::layer::{self, EntryIndex, LowerTrees, Stack, UnpackOptions};
use crate::metadata;
use crate::registry;
use crate::rootfs::LayerTree;
use crate::store::Store;

/// A layer and where its blob can be had if the store has it not.
#[derive(Clone, Debug)]
pub(super) struct ChainLayer {
    pub(super) layer: Layer,
    pub(super) origin: Option<Reference>,
}

/// The layers of a stage so far, bottom first.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain(pub(super) Vec<ChainLayer>);

impl Chain {
    /// Identifies the tree that the layers make (config.md, "Layer ChainID", in
    /// purpose; not the same bytes).
    pub(super) fn id(&self) -> Digest {
        chain_id(self.0.iter().map(|layer| layer.layer.diff_id))
    }

    /// The same of the layers up to this position.
    fn id_up_to(&self, position: usize) -> Digest {
        chain_id(self.0[..=position].iter().map(|layer| layer.layer.diff_id))
    }
}

fn chain_id(diff_ids: impl Iterator<Item = Digest>) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("coracle chain 1");
    for diff_id in diff_ids {
        hasher.field(diff_id.as_bytes());
    }
    hasher.finish()
}

/// One lock per key: two stages that need the same thing wait for each other
/// instead of doing it twice.
pub(super) struct Locks<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K: Eq + Hash> Locks<K> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    pub(super) async fn lock(&self, key: K) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        lock.lock_owned().await
    }
}

/// Gets layers in the form that a step needs.
pub(super) struct Materials {
    pub(super) store: Arc<Store>,
    pub(super) registry: Arc<registry::Client>,
    /// Where unfinished things lie; on the store's file system.
    pub(super) unfinished: PathBuf,
    pub(super) record_key: metadata::Key,
    /// Ends every step of this build.
    pub(super) cancel: CancellationToken,
    locks: Locks<(Digest, Form)>,
    indexes: Mutex<HashMap<Digest, Arc<EntryIndex>>>,
    accounts: Mutex<HashMap<AccountsKey, Accounts>>,
}

/// Layer and name of the two files.
type AccountsKey = Vec<Option<(Digest, PathBuf)>>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Blob,
    Index,
    Tree,
}

impl Materials {
    pub(super) fn new(
        store: Arc<Store>,
        registry: Arc<registry::Client>,
        unfinished: PathBuf,
        record_key: metadata::Key,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            store,
            registry,
            unfinished,
            record_key,
            cancel,
            locks: Locks::new(),
            indexes: Mutex::new(HashMap::new()),
            accounts: Mutex::new(HashMap::new()),
        }
    }

    /// The blob's file, downloaded if need be.
    pub(super) async fn blob(&self, layer: &ChainLayer) -> Result<PathBuf, StepError> {
        let digest = layer.layer.digest;
        let _guard = self.locks.lock((digest, Form::Blob)).await;
        if let (false, Some(origin)) = (self.store.has_blob(&digest, layer.layer.size), &layer.origin) {
            let temporary = self.unfinished.join(format!("pull-{}", digest.hex()));
            let descriptor = layer.layer.descriptor();
            let pull = self.registry.pull_blob(origin, &descriptor, &temporary);
            let pulled = self.cancel.run_until_cancelled(pull).await.ok_or(StepError::Cancelled)?;
            pulled.map_err(|source| StepError::Pull {
                reference: Box::new(origin.clone()),
                source: Box::new(source),
            })?;
            self.store.adopt_blob(&temporary, &digest).map_err(StepError::Store)?;
        }
        Ok(self.store.blob_path(&digest))
    }

    /// What the layer contains, read from its blob once.
    pub(super) async fn index(&self, layer: &ChainLayer) -> Result<Arc<EntryIndex>, StepError> {
        let diff_id = layer.layer.diff_id;
        let _guard = self.locks.lock((diff_id, Form::Index)).await;
        if let Some(index) = self.known_index(&diff_id) {
            return Ok(index);
        }
        let blob = self.blob(layer).await?;
        let (store, wanted, temporary) =
            (Arc::clone(&self.store), layer.layer.clone(), self.temporary("entries", &diff_id));
        let index = blocking(move || read_index(&store, &wanted, &blob, &temporary)).await?;
        Ok(self.remember(diff_id, index))
    }

    /// The effective view of a chain.
    pub(super) async fn stack(&self, chain: &Chain) -> Result<Stack, StepError> {
        let mut indexes = Vec::with_capacity(chain.0.len());
        for layer in &chain.0 {
            indexes.push(self.index(layer).await?);
        }
        Ok(Stack::new(indexes))
    }

    /// A chain to read, as `name`, of which nothing is unpacked for this: what
    /// is unpacked already serves files as well. The bytes of others come with
    /// [`Self::fill`].
    pub(super) async fn view(&self, name: String, chain: &Chain) -> Result<LayersTree, StepError> {
        let trees = (0..chain.0.len()).map(|position| self.known_tree(chain, position)).collect();
        Ok(LayersTree::new(name, self.stack(chain).await?, trees))
    }

    /// Takes the bytes of files out of the blobs of a chain, each streamed once.
    pub(super) async fn fill(
        &self,
        mut view: LayersTree,
        chain: &Chain,
        wanted: Wanted,
    ) -> Result<LayersTree, StepError> {
        for (number, names) in wanted {
            let layer = chain.0[number].layer.clone();
            let blob = self.blob(&chain.0[number]).await?;
            let directory = self.unfinished.clone();
            let taking = move || {
                let blob = (blob.as_path(), layer.media_type.as_str());
                let diff_id = view.take(number, blob, &names, &directory)?;
                check_diff_id(&layer, diff_id)?;
                Ok(view)
            };
            view = blocking(taking).await?;
        }
        Ok(view)
    }

    /// These files of a chain, and no others, to be read.
    pub(super) async fn files(
        &self,
        chain: &Chain,
        paths: &BTreeSet<PathBuf>,
    ) -> Result<LayersTree, StepError> {
        let view = self.view("the layers below".to_owned(), chain).await?;
        let wanted = view.wanted_files(paths);
        self.fill(view, chain, wanted).await
    }

    /// The passwd and group files of a chain.
    pub(super) async fn accounts(&self, chain: &Chain) -> Result<Accounts, StepError> {
        const FILES: [&str; 2] = ["etc/passwd", "etc/group"];
        let view = self.view("this stage".to_owned(), chain).await?;
        let key = |(number, path): (usize, PathBuf)| (chain.0[number].layer.diff_id, path);
        let key: AccountsKey = view.places(&FILES).into_iter().map(|place| place.map(key)).collect();
        let known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(accounts) = known {
            return Ok(accounts);
        }
        let wanted = view.wanted_small(&FILES);
        let accounts = super::run::accounts(&self.fill(view, chain, wanted).await?)?;
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(key, accounts.clone());
        Ok(accounts)
    }

    fn known_tree(&self, chain: &Chain, position: usize) -> Option<PathBuf> {
        let of_layer = self.store.tree(&chain.0[position].layer.diff_id);
        of_layer.or_else(|| self.store.tree(&chain.id_up_to(position)))
    }

    /// The unpacked trees of a chain, bottom first.
    pub(super) async fn trees(&self, chain: &Chain) -> Result<Vec<LayerTree>, StepError> {
        let mut trees: Vec<LayerTree> = Vec::with_capacity(chain.0.len());
        for (position, layer) in chain.0.iter().enumerate() {
            let known = || self.known_tree(chain, position);
            let tree = self.tree(layer, chain.id_up_to(position), &known, &trees).await?;
            trees.push(tree);
        }
        Ok(trees)
    }

    async fn tree(
        &self,
        layer: &ChainLayer,
        chain: Digest,
        known: &(dyn Fn() -> Option<PathBuf> + Sync),
        below: &[LayerTree],
    ) -> Result<LayerTree, StepError> {
        let diff_id = layer.layer.diff_id;
        let _guard = self.locks.lock((diff_id, Form::Tree)).await;
        if let Some(tree) = known() {
            return Ok(LayerTree { tree, index: self.index(layer).await? });
        }
        let blob = self.blob(layer).await?;
        let unpack = Unpack {
            store: Arc::clone(&self.store),
            layer: layer.layer.clone(),
            blob,
            chain,
            below: below.to_vec(),
            tree: self.temporary("tree", &chain),
            // Another name than in `index`, which may read the same layer right now.
            entries: self.temporary("tree-entries", &diff_id),
            key: self.record_key.clone(),
        };
        let (tree, index) = blocking(move || unpack.run()).await?;
        Ok(LayerTree { tree, index: self.remember(diff_id, index) })
    }

    fn temporary(&self, what: &str, digest: &Digest) -> PathBuf {
        self.unfinished.join(format!("{what}-{}", digest.hex()))
    }

    fn known_index(&self, diff_id: &Digest) -> Option<Arc<EntryIndex>> {
        let remembered = self.indexes.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id).cloned();
        // A torn or foreign index file is as good as none: it is read again from the blob.
        remembered.or_else(|| {
            Some(self.remember(*diff_id, EntryIndex::load(&self.store.entries_path(diff_id)).ok()?))
        })
    }

    fn remember(&self, diff_id: Digest, index: EntryIndex) -> Arc<EntryIndex> {
        let index = Arc::new(index);
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id, Arc::clone(&index));
        index
    }
}

/// Runs `work` where blocking is allowed.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, StepError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StepError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn read_index(store: &Store, layer: &Layer, blob: &Path, temporary: &Path) -> Result<EntryIndex, StepError> {
    let (index, found) = layer::index(open(blob)?, &layer.media_type).map_err(StepError::Layer)?;
    check_diff_id(layer, found)?;
    keep_index(store, &index, &layer.diff_id, temporary)?;
    Ok(index)
}

fn keep_index(
    store: &Store,
    index: &EntryIndex,
    diff_id: &Digest,
    temporary: &Path,
) -> Result<(), StepError> {
    index.save(temporary).map_err(StepError::Layer)?;
    store.adopt_entries(temporary, diff_id).map_err(StepError::Store)
}

fn check_diff_id(layer: &Layer, found: Digest) -> Result<(), StepError> {
    if found == layer.diff_id {
        return Ok(());
    }
    Err(StepError::DiffId { digest: layer.digest, expected: layer.diff_id, found })
}

fn open(path: &Path) -> Result<File, StepError> {
    File::open(path).map_err(|source| StepError::File { path: path.to_owned(), source })
}

struct Unpack {
    store: Arc<Store>,
    layer: Layer,
    blob: PathBuf,
    chain: Digest,
    below: Vec<LayerTree>,
    tree: PathBuf,
    entries: PathBuf,
    key: metadata::Key,
}

impl Unpack {
    fn run(self) -> Result<(PathBuf, EntryIndex), StepError> {
        let file = |source| StepError::File { path: self.tree.clone(), source };
        std::fs::create_dir(&self.tree).map_err(file)?;
        let into = File::open(&self.tree).map_err(file)?;
        let stack = Stack::new(self.below.iter().map(|tree| Arc::clone(&tree.index)).collect());
        let trees: Vec<PathBuf> = self.below.iter().map(|tree| tree.tree.clone()).collect();
        let below = LowerTrees { stack: &stack, trees: &trees };
        let options = UnpackOptions { record_key: self.key.clone() };
        let unpacked =
            layer::unpack(open(&self.blob)?, &self.layer.media_type, into.as_fd(), Some(&below), &options)
                .map_err(StepError::Layer)?;
        check_diff_id(&self.layer, unpacked.diff_id)?;
        keep_index(&self.store, &unpacked.index, &self.layer.diff_id, &self.entries)?;
        let id = if unpacked.looked_below { self.chain } else { self.layer.diff_id };
        let tree = self.store.adopt_tree(&self.tree, &id).map_err(StepError::Store)?;
        Ok((tree, unpacked.index))
    }
}
