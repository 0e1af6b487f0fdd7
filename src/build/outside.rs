//! ADD sources from elsewhere: what they are before keys are made, and their
//! files when a step copies them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{Error, StepError};
use crate::context::{self, Node, NodeKind, SourceTree};
use crate::fetch::{self, Commit, Downloaded, Fetcher, GitLocation, Location};
use crate::image::{Digest, Hasher};
use crate::plan::{AddOptions, BuildPlan, CopyOp, CopySource, Op, Step};

/// One source as the Dockerfile asks for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    source: String,
    checksum: Option<String>,
    keep_git_dir: bool,
}

/// What a wish came to.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// A file, in the store.
    File(Downloaded),
    /// A repository, not checked out yet.
    Git(GitLocation, Commit),
}

/// Everything the plan adds from elsewhere.
pub(super) struct Outside {
    pub(super) fetcher: Fetcher,
    known: BTreeMap<Wish, Fetched>,
}

impl Outside {
    /// Downloads files and looks up commits, side by side.
    pub(super) async fn fetch(
        fetcher: Fetcher,
        plan: &BuildPlan,
        draw: &dyn Fn(&Step, StepError) -> Error,
    ) -> Result<Self, Error> {
        let mut wishes: BTreeMap<Wish, &Step> = BTreeMap::new();
        for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
            let Op::Copy(op) = &step.op else { continue };
            for wish in op.sources.iter().filter_map(|source| wish(op, source)) {
                wishes.entry(wish).or_insert(step);
            }
        }
        let fetch = |(wish, step): (Wish, &Step)| {
            let (fetcher, step) = (&fetcher, step.clone());
            async move {
                match fetch_one(fetcher, &wish).await {
                    Ok(fetched) => Ok((wish, fetched)),
                    Err(error) => Err(draw(&step, StepError::Fetch(Box::new(error)))),
                }
            }
        };
        let known = futures_util::future::try_join_all(wishes.into_iter().map(fetch)).await?;
        Ok(Self { fetcher, known: known.into_iter().collect() })
    }

    /// What a source came to; `None` for one that is not from elsewhere.
    pub(super) fn of(&self, op: &CopyOp, source: &CopySource) -> Option<&Fetched> {
        self.known.get(&wish(op, source)?)
    }

    /// The digests of a step's sources from elsewhere: part of its keys.
    pub(super) fn digests(&self, op: &CopyOp) -> Vec<Digest> {
        let digest = |fetched: &Fetched| match fetched {
            Fetched::File(file) => {
                let mut hasher = Hasher::new();
                hasher.field("coracle file 1");
                hasher.field(file.digest.as_bytes());
                // The time is part of what ADD promises.
                hasher.field(file.mtime.to_string());
                hasher.finish()
            }
            Fetched::Git(location, commit) => commit.content(location),
        };
        op.sources.iter().filter_map(|source| self.of(op, source)).map(digest).collect()
    }
}

fn wish(op: &CopyOp, source: &CopySource) -> Option<Wish> {
    let AddOptions { checksum, keep_git_dir, .. } = op.add.clone().unwrap_or_default();
    match source {
        CopySource::Http(url) => Some(Wish { source: url.clone(), checksum, keep_git_dir: false }),
        CopySource::Git(url) => Some(Wish { source: url.clone(), checksum, keep_git_dir }),
        CopySource::Path(_) | CopySource::Inline { .. } => None,
    }
}

async fn fetch_one(fetcher: &Fetcher, wish: &Wish) -> Result<Fetched, fetch::Error> {
    let checksum = wish.checksum.as_deref();
    match Location::of_add(&wish.source)? {
        Location::Http(url) => fetcher.download(&url, checksum).await.map(Fetched::File),
        Location::Git(mut location) => {
            location.keep_git_dir |= wish.keep_git_dir;
            location.expect(checksum);
            let commit = fetcher.commit(&location).await?;
            Ok(Fetched::Git(location, commit))
        }
    }
}

/// A downloaded file as a tree of one name.
pub(super) struct DownloadTree {
    pub(super) file: Downloaded,
    pub(super) blob: PathBuf,
}

impl DownloadTree {
    /// Mode 0600 and root's, as BuildKit's http source has it.
    pub(super) fn file_node(&self) -> Node {
        Node {
            kind: NodeKind::File { size: self.file.size },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: self.file.mtime,
            xattrs: BTreeMap::new(),
            link_group: None,
        }
    }
}

impl SourceTree for DownloadTree {
    fn node(&self, path: &Path) -> Result<Option<Node>, context::Error> {
        let name = Path::new(&self.file.name);
        match path {
            path if path == name => Ok(Some(self.file_node())),
            path if path.as_os_str().is_empty() => {
                Ok(Some(Node { kind: NodeKind::Directory, mode: 0o755, ..self.file_node() }))
            }
            _ => Ok(None),
        }
    }

    fn children(&self, _path: &Path) -> Result<Vec<OsString>, context::Error> {
        Ok(vec![OsString::from(&self.file.name)])
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send + '_>, context::Error> {
        match File::open(&self.blob) {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => {
                Err(context::Error::Read { path: path.to_owned(), tree: self.description(), source })
            }
        }
    }

    fn content_digest(&self, _path: &Path, _node: &Node) -> Result<Digest, context::Error> {
        Ok(self.file.digest)
    }

    fn description(&self) -> String {
        format!("the download `{}`", self.file.name)
    }
}
