//! Pushing a whole image under several names.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};

use super::{BlobSource, Client, Error, Pushed};
use crate::image::{Descriptor, Digest, Reference};

/// An image and where it goes.
#[derive(Clone, Debug)]
pub struct ImagePush<'a> {
    /// Full references; any number per repository and registry.
    pub destinations: &'a [Reference],
    /// Config and layers: what each is, where its bytes are, and a repository
    /// it may be mounted from.
    pub blobs: Vec<(Descriptor, BlobSource, Option<Reference>)>,
    /// The manifest's exact bytes.
    pub manifest: &'a [u8],
    /// The manifest's media type.
    pub media_type: &'a str,
}

impl Client {
    /// Pushes an image: every blob once per repository, several at a time, and
    /// when all are everywhere one manifest per destination. So no tag ever
    /// names an image that is not complete. Says per destination repository
    /// and blob how it got there.
    ///
    /// # Errors
    /// The first failure; transfers under way are given up.
    pub async fn push_image(
        &self,
        push: &ImagePush<'_>,
    ) -> Result<BTreeMap<(String, Digest), Pushed>, Error> {
        let mut outcome = BTreeMap::new();
        let mut earlier: BTreeMap<&str, &Reference> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for destination in push.destinations.iter().filter(|d| seen.insert(d.name())) {
            // A further repository of a registry takes what the first one got.
            let neighbour = earlier.get(destination.registry()).copied();
            for (digest, pushed) in self.push_blobs(destination, neighbour, push).await? {
                outcome.insert((destination.name(), digest), pushed);
            }
            earlier.entry(destination.registry()).or_insert(destination);
        }
        for destination in push.destinations {
            self.push_manifest(destination, push.manifest, push.media_type).await?;
        }
        Ok(outcome)
    }

    async fn push_blobs(
        &self,
        destination: &Reference,
        neighbour: Option<&Reference>,
        push: &ImagePush<'_>,
    ) -> Result<Vec<(Digest, Pushed)>, Error> {
        let mut seen = BTreeSet::new();
        let once = push.blobs.iter().filter(|(descriptor, ..)| seen.insert(descriptor.digest));
        let sends: Vec<_> = once
            .map(|(descriptor, source, mount_from)| async move {
                let from = neighbour.or(mount_from.as_ref());
                let pushed = self.push_blob(destination, descriptor, source.clone(), from).await?;
                Ok::<_, Error>((descriptor.digest, pushed))
            })
            .collect();
        futures_util::stream::iter(sends).buffer_unordered(self.parallel).try_collect().await
    }
}
