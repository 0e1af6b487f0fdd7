//! Which contexts there are, and where `check` finds a Dockerfile in one.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::build::ContextSource;
use crate::fetch::Location;

/// Largest Dockerfile that is read, in bytes. The largest known ones have some
/// hundred kilobytes; whatever is larger is another kind of file.
const LARGEST_DOCKERFILE: u64 = 16 << 20;

/// What the argument means; an error is one line.
pub(super) fn context_source(path: &Path) -> Result<ContextSource, String> {
    let text = path.to_string_lossy();
    if text == "-" {
        return Ok(ContextSource::Stdin);
    }
    match Location::of_context(&text) {
        Some(Ok(_)) => return Ok(ContextSource::Remote(text.into_owned())),
        Some(Err(error)) => return Err(format!("the context {error}")),
        None => {}
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(ContextSource::Directory(path.to_owned())),
        Ok(found) if found.is_file() => Ok(ContextSource::Archive(path.to_owned())),
        Ok(_) => Err(format!("the context `{text}` is neither a directory nor an archive")),
        Err(error) => Err(format!("the context `{text}` cannot be read: {error}")),
    }
}

/// Name and text of the Dockerfile that `file` names, or of the default one.
///
/// # Errors
/// When there is none or it cannot be read.
pub(super) fn read_dockerfile(context: &Path, file: Option<&Path>) -> Result<(String, Vec<u8>), Failure> {
    match file {
        Some(path) if path == Path::new("-") => {
            Ok(("<stdin>".to_owned(), read(&mut io::stdin().lock()).map_err(Failure::Input)?))
        }
        None if context == Path::new("-") => {
            Ok(("<stdin>".to_owned(), read(&mut io::stdin().lock()).map_err(Failure::Input)?))
        }
        Some(path) => {
            let inside = context.join(path);
            let found = if !path.exists() && inside.exists() { inside } else { path.to_owned() };
            read_path(found)
        }
        None => read_path(default_dockerfile(context)?),
    }
}

fn default_dockerfile(context: &Path) -> Result<PathBuf, Failure> {
    ["Dockerfile", "Containerfile"]
        .iter()
        .map(|name| context.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| Failure::NoDockerfile(context.to_owned()))
}

fn read_path(path: PathBuf) -> Result<(String, Vec<u8>), Failure> {
    let text = fs::File::open(&path).and_then(|mut file| read(&mut file));
    match text {
        Ok(text) => Ok((path.display().to_string(), text)),
        Err(source) => Err(Failure::Read { path, source }),
    }
}

fn read(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    input.take(LARGEST_DOCKERFILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST_DOCKERFILE {
        return Err(io::Error::other(format!("it has more than {LARGEST_DOCKERFILE} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_apart() {
        let check = |path: &str, expected: Option<ContextSource>| {
            let found = context_source(Path::new(path));
            assert!(found.as_ref().err().is_none_or(|line| !line.contains('\n')), "{found:?}");
            assert_eq!(found.ok(), expected, "{path}");
        };
        let remote = |text: &str| Some(ContextSource::Remote(text.to_owned()));
        check("-", Some(ContextSource::Stdin));
        check("/", Some(ContextSource::Directory("/".into())));
        check("https://example.com/x.tar.gz", remote("https://example.com/x.tar.gz"));
        check("git@example.com:x.git#main", remote("git@example.com:x.git#main"));
        check("https://example.com/x.git#a b", None);
        check("/no/such/directory", None);
        check("/dev/null", None);
    }

    #[test]
    fn finds_a_dockerfile() {
        let context = tempfile::tempdir().unwrap();
        let check = |file: Option<&str>, expected: Option<&str>| {
            let found = read_dockerfile(context.path(), file.map(Path::new)).ok();
            let text = found.map(|(_, text)| String::from_utf8(text).unwrap());
            assert_eq!(text.as_deref(), expected, "{file:?}");
        };
        check(None, None);
        fs::write(context.path().join("Containerfile"), "c").unwrap();
        check(None, Some("c"));
        fs::write(context.path().join("Dockerfile"), "d").unwrap();
        check(None, Some("d"));
        check(Some("Containerfile"), Some("c"));
        check(Some("other"), None);
    }
}
