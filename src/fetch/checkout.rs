//! Repositories: which commit a reference is, and the files of a commit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::git::Git;
use super::location::{is_commit, is_reference};
use super::{Error, Fetcher, GitLocation};
use crate::context::{self, DirectoryContext, Ignore, SourceTree};
use crate::image::{Digest, Hasher};

/// A reference, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its full name.
    pub name: String,
    /// The ref it was found under; `None` when the location names a commit.
    reference: Option<String>,
}

impl Commit {
    /// Identifies the files that a checkout gives.
    pub fn content(&self, location: &GitLocation) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field("coracle git 1");
        hasher.field(&self.name);
        hasher.field(location.subdirectory.as_os_str().as_encoded_bytes());
        hasher.field([location.keep_git_dir, location.submodules, location.commit_time].map(u8::from));
        // `.git` and submodules at relative addresses differ between mirrors; the
        // password, which CIs make anew for each job, changes nothing.
        hasher.field(location.shown());
        hasher.finish()
    }
}

/// One line of ls-remote.
struct Advertised<'a> {
    commit: &'a str,
    name: &'a str,
}

impl Fetcher {
    /// Which commit the location means now.
    ///
    /// # Errors
    /// When git is missing, the repository cannot be reached, has no such
    /// reference, or the reference is another commit than the checksum says.
    pub async fn commit(&self, location: &GitLocation) -> Result<Commit, Error> {
        location.check_by_commit()?;
        if let (true, Some(commit)) = (location.by_commit, &location.checksum) {
            return Ok(Commit { name: commit.clone(), reference: None });
        }
        let wanted = location.reference.as_deref().unwrap_or("HEAD");
        if is_commit(wanted) {
            let commit = Commit { name: wanted.to_owned(), reference: None };
            return check(location, wanted, commit, &[wanted]);
        }
        let place = self.temporary("git")?;
        let git = Git::new(self, location, place.path().join("home"))?;
        let peeled = format!("{wanted}^{{}}");
        let listed = git
            .run("list the refs of", place.path(), &["ls-remote", "--quiet", "origin", wanted, &peeled])
            .await?;
        let refs: Vec<Advertised<'_>> = listed.lines().filter_map(advertised).collect();
        let find = |name: &str| refs.iter().find(|found| found.name == name);
        // As git checkout does it, branches come before tags.
        let names = [wanted.to_owned(), format!("refs/heads/{wanted}"), format!("refs/tags/{wanted}")];
        let Some(found) = names.iter().find_map(|name| find(name)) else {
            let reference = wanted.to_owned();
            return Err(Error::NoReference { url: location.shown(), reference });
        };
        // An annotated tag is an object of its own that names the commit.
        let commit = find(&format!("{}^{{}}", found.name)).unwrap_or(found).commit;
        let known = Commit { name: commit.to_owned(), reference: Some(found.name.to_owned()) };
        check(location, wanted, known, &[commit, found.commit])
    }

    /// The files of a commit, in a directory of their own below the unfinished
    /// things; the path is the location's subdirectory in it. Modes are 0644 and
    /// 0755, as git knows no others.
    ///
    /// # Errors
    /// When git fails, or there is no such directory.
    pub async fn checkout(&self, location: &GitLocation, commit: &Commit) -> Result<PathBuf, Error> {
        let place = self.temporary("git")?.keep();
        let git = Git::new(self, location, place.join("home"))?;
        let tree = place.join("tree");
        fs::create_dir(&tree).map_err(|source| Error::File { path: tree.clone(), source })?;
        git.run("prepare a copy of", &tree, &["init", "--quiet"]).await?;
        fetch(&git, &tree, commit).await?;
        git.run("check out", &tree, &["checkout", "--quiet", "--force", "--detach", &commit.name, "--"])
            .await?;
        if location.submodules && tree.join(".gitmodules").symlink_metadata().is_ok() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            git.run("fetch the submodules of", &tree, &update).await?;
        }
        if location.commit_time {
            let printed = git.run("read", &tree, &["show", "-s", "--format=%ct", &commit.name, "--"]).await?;
            // The tree itself is no file of the repository: its time does not count.
            let seconds = printed.trim().parse().unwrap_or(0);
            set_times(&tree, seconds).map_err(|source| Error::File { path: tree.clone(), source })?;
        }
        if location.keep_git_dir {
            tidy(&git, &tree, location).await?;
        }
        let (keep, from) = (location.keep_git_dir, tree.clone());
        normalise(&from, keep).map_err(|source| Error::File { path: from, source })?;
        subdirectory(location, &tree)
    }

    fn temporary(&self, prefix: &str) -> Result<tempfile::TempDir, Error> {
        let directory = &self.options.unfinished;
        let made = tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir_in(directory);
        made.map_err(|source| Error::File { path: directory.clone(), source })
    }
}

fn advertised(line: &str) -> Option<Advertised<'_>> {
    let (commit, name) = line.split_once('\t')?;
    let plain = name.strip_suffix("^{}").unwrap_or(name);
    (is_commit(commit) && is_reference(plain)).then_some(Advertised { commit, name })
}

/// `names` are what a checksum may abbreviate: the commit, and its tag.
fn check(location: &GitLocation, wanted: &str, commit: Commit, names: &[&str]) -> Result<Commit, Error> {
    match &location.checksum {
        Some(expected) if !names.iter().any(|name| name.starts_with(expected.as_str())) => {
            Err(Error::Commit {
                url: location.shown(),
                reference: wanted.to_owned(),
                expected: expected.clone(),
                found: commit.name,
            })
        }
        _ => Ok(commit),
    }
}

/// One commit and nothing of its history where the server can do that, else
/// everything. The commit counts, not what the ref has become meanwhile.
async fn fetch(git: &Git<'_>, tree: &Path, commit: &Commit) -> Result<(), Error> {
    let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "origin"];
    for source in commit.reference.iter().chain([&commit.name]) {
        let arguments = [&shallow[..], &[source.as_str()]].concat();
        if git.run("fetch", tree, &arguments).await.is_ok() && has(git, tree, commit).await {
            return Ok(());
        }
    }
    let all = [
        "fetch",
        "--quiet",
        "--no-recurse-submodules",
        "origin",
        "+refs/heads/*:refs/remotes/origin/*",
        "+refs/tags/*:refs/tags/*",
    ];
    git.run("fetch", tree, &all).await?;
    Ok(())
}

async fn has(git: &Git<'_>, tree: &Path, commit: &Commit) -> bool {
    git.run("read", tree, &["cat-file", "-e", &format!("{}^{{commit}}", commit.name)]).await.is_ok()
}

/// What `.git` shows of how it was made goes; where it came from stays, without
/// a password.
async fn tidy(git: &Git<'_>, tree: &Path, location: &GitLocation) -> Result<(), Error> {
    git.run("configure", tree, &["config", "remote.origin.url", &location.shown()]).await?;
    let fetch = "+refs/heads/*:refs/remotes/origin/*";
    git.run("configure", tree, &["config", "remote.origin.fetch", fetch]).await?;
    for name in ["FETCH_HEAD", "ORIG_HEAD", "logs"] {
        let path = tree.join(".git").join(name);
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        match removed {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Everything below `directory` but `.git` gets this time, links themselves.
fn set_times(directory: &Path, seconds: i64) -> std::io::Result<()> {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_name() == ".git" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, entry.path(), &times, flags)?;
        }
    }
    Ok(())
}

/// Modes do not depend on our umask, and `.git` stays only where it is wanted.
fn normalise(directory: &Path, keep_git: bool) -> std::io::Result<()> {
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            match (kind.is_dir(), entry.file_name() == ".git" && !keep_git) {
                (true, true) => fs::remove_dir_all(&path)?,
                (false, true) => fs::remove_file(&path)?,
                (true, false) => pending.push(path),
                (false, false) if kind.is_file() => {
                    let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
                    let mode = if executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
                }
                (false, false) => {}
            }
        }
    }
    Ok(())
}

/// The subdirectory, links in it followed inside the repository only.
fn subdirectory(location: &GitLocation, tree: &Path) -> Result<PathBuf, Error> {
    let unreadable = |source| Error::Checkout { url: location.shown(), source: Box::new(source) };
    let root = DirectoryContext::open(tree, Ignore::default(), None).map_err(unreadable)?;
    let real = context::resolve(&root, &location.subdirectory).map_err(unreadable)?;
    match root.node(&real).map_err(unreadable)? {
        Some(node) if node.is_directory() => Ok(tree.join(real)),
        _ => {
            let subdirectory = location.subdirectory.display().to_string();
            Err(Error::NoDirectory { url: location.shown(), subdirectory })
        }
    }
}
