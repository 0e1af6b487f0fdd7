//! What a checkout knows about itself, read from `.git` without a git program:
//! the commit, its branch, a tag that is exactly here, its time.
//!
//! Everything in `.git` may be hostile: names are taken only where they look like
//! names, and what is read is never written anywhere but into [`Checkout`].

use std::path::{Path, PathBuf};

use super::Files;
use super::git_object::Objects;

/// What a checkout says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checkout {
    pub(super) sha: String,
    pub(super) branch: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) default_branch: Option<String>,
    pub(super) commit_time: Option<i64>,
}

/// How deep `refs/tags` is walked: tag names may contain slashes.
const DEEPEST_TAG: usize = 8;

/// How many symbolic references are followed.
const LONGEST_CHAIN: usize = 5;

/// Reads the checkout whose `.git` (a directory, or a file that names one) is at `path`.
pub(super) fn read(files: &dyn Files, path: &Path) -> Option<Checkout> {
    let repository = Repository::open(files, path)?;
    let head = repository.text(&repository.own.join("HEAD"))?;
    let branch = head.strip_prefix("ref: refs/heads/").map(str::to_owned);
    let sha = match head.strip_prefix("ref: ") {
        Some(name) => repository.resolve(name, LONGEST_CHAIN)?,
        None => object_id(&head)?.to_owned(),
    };
    let objects = Objects::new(files, repository.common.join("objects"));
    let origin = repository.text(&repository.common.join("refs/remotes/origin/HEAD"));
    Some(Checkout {
        branch,
        tag: repository.tag_at(&sha, &objects),
        default_branch: origin
            .and_then(|text| text.strip_prefix("ref: refs/remotes/origin/").map(str::to_owned)),
        commit_time: objects.commit_time(&sha),
        sha,
    })
}

struct Repository<'a> {
    files: &'a dyn Files,
    /// Where HEAD is.
    own: PathBuf,
    /// Where refs and objects are: another place in a linked worktree.
    common: PathBuf,
}

impl<'a> Repository<'a> {
    fn open(files: &'a dyn Files, path: &Path) -> Option<Self> {
        let own = match files.read_text(path) {
            Ok(text) => {
                let named = text.trim().strip_prefix("gitdir: ")?.to_owned();
                path.parent().unwrap_or(Path::new("")).join(named)
            }
            Err(_) => path.to_owned(),
        };
        let common = match files.read_text(&own.join("commondir")) {
            Ok(text) => own.join(text.trim()),
            Err(_) => own.clone(),
        };
        Some(Self { files, own, common })
    }

    fn text(&self, path: &Path) -> Option<String> {
        self.files.read_text(path).ok().map(|text| text.trim().to_owned())
    }

    fn resolve(&self, name: &str, left: usize) -> Option<String> {
        let legal = name.starts_with("refs/") && !name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !legal || left == 0 {
            return None;
        }
        let loose = self.text(&self.own.join(name)).or_else(|| self.text(&self.common.join(name)));
        match loose {
            Some(text) => match text.strip_prefix("ref: ") {
                Some(next) => self.resolve(next, left - 1),
                None => object_id(&text).map(str::to_owned),
            },
            None => self.packed().into_iter().find(|packed| packed.name == name).map(|packed| packed.sha),
        }
    }

    /// The refs in `packed-refs`; a line `^sha` is what the annotated tag before it means.
    fn packed(&self) -> Vec<PackedRef> {
        let mut found: Vec<PackedRef> = Vec::new();
        for line in self.text(&self.common.join("packed-refs")).unwrap_or_default().lines() {
            if let (Some(peeled), Some(last)) = (line.strip_prefix('^'), found.last_mut()) {
                last.peeled = object_id(peeled).map(str::to_owned);
            } else if let Some((sha, name)) = line.split_once(' ')
                && let Some(sha) = object_id(sha)
            {
                found.push(PackedRef { name: name.to_owned(), sha: sha.to_owned(), peeled: None });
            }
        }
        found
    }

    /// The tag that is exactly at `sha`; of several the greatest name, which for
    /// versions of equal length is the newest.
    fn tag_at(&self, sha: &str, objects: &Objects<'_>) -> Option<String> {
        let mut tags: Vec<String> = self
            .packed()
            .into_iter()
            .filter(|packed| packed.peeled.as_deref().unwrap_or(&packed.sha) == sha)
            .filter_map(|packed| packed.name.strip_prefix("refs/tags/").map(str::to_owned))
            .collect();
        let mut loose = Vec::new();
        self.loose_tags(&self.common.join("refs/tags"), "", DEEPEST_TAG, &mut loose);
        for (name, target) in loose {
            if target == sha || objects.tag_target(&target).as_deref() == Some(sha) {
                tags.push(name);
            }
        }
        tags.into_iter().max()
    }

    fn loose_tags(&self, directory: &Path, prefix: &str, left: usize, found: &mut Vec<(String, String)>) {
        if left == 0 {
            return;
        }
        for name in self.files.names(directory) {
            let path = directory.join(&name);
            let full = format!("{prefix}{name}");
            if self.files.is_directory(&path) {
                self.loose_tags(&path, &format!("{full}/"), left - 1, found);
            } else if let Some(sha) = self.text(&path).as_deref().and_then(object_id) {
                found.push((full, sha.to_owned()));
            }
        }
    }
}

struct PackedRef {
    name: String,
    sha: String,
    peeled: Option<String>,
}

/// The text when it is an object id of either hash.
fn object_id(text: &str) -> Option<&str> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (matches!(text.len(), 40 | 64) && hex).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::MemoryFiles;
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn check(files: &[(&str, String)], expected: Option<(&str, Option<&str>, Option<&str>)>) {
        let files = MemoryFiles(files.iter().map(|(k, v)| ((*k).into(), v.clone().into_bytes())).collect());
        let found = read(&files, Path::new(".git"));
        let found = found.as_ref().map(|c| (c.sha.as_str(), c.branch.as_deref(), c.tag.as_deref()));
        assert_eq!(found, expected);
    }

    #[test]
    fn heads() {
        check(&[], None);
        check(&[(".git/HEAD", format!("{A}\n"))], Some((A, None, None)));
        check(
            &[
                (".git/HEAD", "ref: refs/heads/a/b\n".into()),
                (".git/packed-refs", format!("# pack-refs with: peeled\n{A} refs/heads/a/b\n")),
            ],
            Some((A, Some("a/b"), None)),
        );
        check(&[(".git/HEAD", "ref: refs/heads/../../../etc/passwd\n".into())], None);
        check(&[(".git/HEAD", "ref: refs/heads/x\n".into()), (".git/refs/heads/x", "root:x:0".into())], None);
    }

    #[test]
    fn loops_end() {
        check(
            &[(".git/HEAD", "ref: refs/heads/a".into()), (".git/refs/heads/a", "ref: refs/heads/a".into())],
            None,
        );
    }

    #[test]
    fn exact_tags() {
        let packed = format!("{B} refs/tags/v1.0.0\n^{A}\n{A} refs/tags/u\n{B} refs/tags/z\n");
        check(&[(".git/HEAD", A.into()), (".git/packed-refs", packed)], Some((A, None, Some("v1.0.0"))));
        check(
            &[(".git/HEAD", A.into()), (".git/refs/tags/api/v2", A.into()), (".git/refs/tags/x", B.into())],
            Some((A, None, Some("api/v2"))),
        );
    }

    #[test]
    fn linked_worktree() {
        check(
            &[
                (".git", "gitdir: ../main/.git/worktrees/w\n".into()),
                (".git/../nothing", String::new()),
                ("../main/.git/worktrees/w/HEAD", "ref: refs/heads/t\n".into()),
                ("../main/.git/worktrees/w/commondir", "../..\n".into()),
                ("../main/.git/worktrees/w/../../refs/heads/t", A.into()),
            ],
            Some((A, Some("t"), None)),
        );
    }
}
