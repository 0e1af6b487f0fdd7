//! What the user handed in: the Dockerfile's text, its context, its ignore file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::contexts::Foreign;
use super::error::Error;
use super::request::{BuildRequest, ContextSource, DockerfileSource};
use crate::context::{self, DirectoryContext, Ignore, Stop};
use crate::dockerfile::{self, Diagnostic, Dockerfile, Severity, Source};
use crate::plan::{self, BuildPlan, NamedContext, Options};
use crate::progress::Reporter;
use crate::store::Store;

/// A Dockerfile is text that people write: larger is a mistake.
pub(super) const DOCKERFILE_LIMIT: u64 = 16 << 20;

/// A Dockerfile as found.
pub(super) struct Found {
    /// As messages call it.
    name: String,
    /// Where it lies, unless it came as text.
    path: Option<PathBuf>,
    text: Vec<u8>,
}

/// Finds and reads the Dockerfile. Links of a `foreign` context do not lead out of it.
pub(super) fn find(request: &BuildRequest, foreign: bool) -> Result<Found, Error> {
    if let (true, ContextSource::Directory(context)) = (foreign, &request.context)
        && let Some(found) = find_inside(&request.dockerfile, context)?
    {
        return Ok(found);
    }
    let candidates = match (&request.dockerfile, &request.context) {
        (DockerfileSource::Text(text), _) => {
            return Ok(Found { name: "Dockerfile".to_owned(), path: None, text: text.clone() });
        }
        (DockerfileSource::Default, ContextSource::Directory(_)) if foreign => {
            return Err(Error::NoDockerfile { tried: NAMES.map(PathBuf::from).to_vec() });
        }
        (DockerfileSource::Default, ContextSource::Directory(context)) => {
            NAMES.map(|name| context.join(name)).to_vec()
        }
        (DockerfileSource::Default, _) => vec![PathBuf::from("Dockerfile")],
        // It was fetched before.
        (DockerfileSource::Remote(url), _) => vec![PathBuf::from(url)],
        (DockerfileSource::Path(path), ContextSource::Directory(context)) if !foreign => {
            vec![path.clone(), context.join(path)]
        }
        (DockerfileSource::Path(path), _) => vec![path.clone()],
    };
    for path in &candidates {
        match read(path) {
            Ok(text) => return Ok(Found { name: shown(path), path: Some(path.clone()), text }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(Error::ReadDockerfile { path: path.clone(), source }),
        }
    }
    Err(Error::NoDockerfile { tried: candidates })
}

/// The names that are looked for.
const NAMES: [&str; 2] = ["Dockerfile", "Containerfile"];

/// The Dockerfile of a context that came from elsewhere.
fn find_inside(wanted: &DockerfileSource, context: &Path) -> Result<Option<Found>, Error> {
    let candidates = match wanted {
        DockerfileSource::Text(_) | DockerfileSource::Remote(_) => return Ok(None),
        DockerfileSource::Default => NAMES.map(Path::new).to_vec(),
        DockerfileSource::Path(path) => vec![path.as_path()],
    };
    for path in candidates {
        // Its root is the context: `/Dockerfile` and `../Dockerfile` are in it too.
        let inside: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        if let Some(text) = context::read_inside(context, &inside).map_err(Error::Context)? {
            return Ok(Some(Found { name: shown(path), path: None, text }));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > DOCKERFILE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
    }
    Ok(text)
}

fn shown(path: &Path) -> String {
    path.strip_prefix("./").unwrap_or(path).display().to_string()
}

/// Parses it; warnings are reported, errors returned all at once.
pub(super) fn parse(found: &Found, options: &Options, reporter: &dyn Reporter) -> Result<Dockerfile, Error> {
    let checks = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK").map(String::as_str);
    let parsed = dockerfile::parse_checked(&found.name, &found.text, checks);
    judge(&parsed.diagnostics, &parsed.dockerfile.source, reporter)?;
    Ok(parsed.dockerfile)
}

/// Reports warnings; errors become one error that draws them all.
pub(super) fn judge(
    diagnostics: &[Diagnostic],
    source: &Source,
    reporter: &dyn Reporter,
) -> Result<(), Error> {
    let (errors, warnings): (Vec<&Diagnostic>, Vec<&Diagnostic>) =
        diagnostics.iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
    for warning in warnings {
        reporter.warn(warning.render(source));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let drawn: Vec<String> = errors.iter().map(|error| error.render(source)).collect();
    Err(Error::Dockerfile(drawn.join("\n")))
}

/// Reports sources of COPY that the ignore file hides, where that check is wanted.
pub(super) fn judge_ignored(
    request: &BuildRequest,
    found: &Found,
    dockerfile: &Dockerfile,
    options: &Options,
    plan: &BuildPlan,
    reporter: &dyn Reporter,
) -> Result<(), Error> {
    let ContextSource::Directory(directory) = &request.context else { return Ok(()) };
    let ignore = context::ignore_file(directory, found.path.as_deref()).map_err(Error::Context)?;
    let checks = plan::checks(dockerfile, options);
    let hidden = super::check::ignored_sources(&checks, &ignore, &plan.context_sources());
    judge(&hidden, &dockerfile.source, reporter)
}

/// Opens the context with the ignore file that belongs to it:
/// `<Dockerfile>.dockerignore` beside the Dockerfile wins over `.dockerignore`.
pub(super) fn open_context(
    request: &BuildRequest,
    found: &Found,
    foreign: &Foreign,
    store: &Store,
    stop: &Stop,
) -> Result<Option<DirectoryContext>, Error> {
    let ContextSource::Directory(directory) = &request.context else { return Ok(None) };
    let opened = match foreign.main {
        true => open_foreign(directory),
        false => open_own(directory, found.path.as_deref(), store),
    };
    Ok(Some(opened?.stopped_by(Arc::clone(stop))))
}

/// Opens the directories of `--build-context`, each with an ignore file of its own.
pub(super) fn open_named(
    request: &BuildRequest,
    foreign: &Foreign,
    store: &Store,
    stop: &Stop,
) -> Result<BTreeMap<String, Arc<DirectoryContext>>, Error> {
    let mut named = BTreeMap::new();
    for (name, context) in &request.named_contexts {
        let NamedContext::Directory(directory) = context else { continue };
        let opened = match foreign.named.contains(name) {
            true => open_foreign(directory),
            false => open_own(directory, None, store),
        };
        named.insert(name.clone(), Arc::new(opened?.stopped_by(Arc::clone(stop))));
    }
    Ok(named)
}

fn open_own(directory: &Path, dockerfile: Option<&Path>, store: &Store) -> Result<DirectoryContext, Error> {
    let ignore = context::ignore_file(directory, dockerfile).map_err(Error::Context)?;
    let identity = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let index = store.stat_index_path(&identity);
    DirectoryContext::open(directory, ignore, Some(&index)).map_err(Error::Context)
}

/// No ignore file, and no stat index: the directory is new in every build.
fn open_foreign(directory: &Path) -> Result<DirectoryContext, Error> {
    DirectoryContext::open(directory, Ignore::default(), None).map_err(Error::Context)
}
