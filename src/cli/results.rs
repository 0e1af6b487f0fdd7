//! What a finished build leaves for scripts: the digest on a stream, the image
//! id and the metadata in files.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::failure::Failure;
use crate::build::Outcome;

/// Writes `--iidfile` and `--metadata-file`.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(
    outcome: &Outcome,
    iidfile: Option<&Path>,
    metadata_file: Option<&Path>,
) -> Result<(), Failure> {
    if let Some(path) = iidfile {
        write_file(path, outcome.config_digest.to_string().as_bytes())?;
    }
    if let Some(path) = metadata_file {
        write_file(path, &metadata(outcome))?;
    }
    Ok(())
}

/// The digest alone on a line.
///
/// # Errors
/// When the stream is closed.
pub(super) fn print(outcome: &Outcome, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{}", outcome.digest).and_then(|()| out.flush()).map_err(Failure::Print)
}

/// The keys that `docker buildx build` writes.
fn metadata(outcome: &Outcome) -> Vec<u8> {
    let names: Vec<String> = outcome.names.iter().map(ToString::to_string).collect();
    let document = json!({
        "containerimage.config.digest": outcome.config_digest,
        "containerimage.digest": outcome.digest,
        "image.name": names.join(","),
    });
    let mut bytes = serde_json::to_vec_pretty(&document).expect("a map with text keys serialises");
    bytes.push(b'\n');
    bytes
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|source| Failure::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn outcome() -> Outcome {
        Outcome {
            digest: Digest::of("m"),
            config_digest: Digest::of("c"),
            pushed: Vec::new(),
            names: vec!["r.io/a:1".parse().unwrap(), "r.io/a:2".parse().unwrap()],
            size: 3,
            executed: 1,
            cached: 0,
        }
    }

    #[test]
    fn files_for_scripts() {
        let directory = tempfile::tempdir().unwrap();
        let (id, metadata) = (directory.path().join("id"), directory.path().join("metadata"));
        write(&outcome(), Some(&id), Some(&metadata)).unwrap();
        assert_eq!(fs::read_to_string(id).unwrap(), Digest::of("c").to_string());
        let document: serde_json::Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
        assert_eq!(document["containerimage.digest"], Digest::of("m").to_string());
        assert_eq!(document["image.name"], "r.io/a:1,r.io/a:2");
    }

    #[test]
    fn the_digest_stands_alone() {
        let mut out = Vec::new();
        print(&outcome(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{}\n", Digest::of("m")));
    }
}
