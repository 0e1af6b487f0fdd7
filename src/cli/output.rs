//! `--output`: what the image is written to.

use std::path::PathBuf;

use super::fields::{fields, truth};
use crate::build::Output;

/// What one `--output` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OutputWish {
    /// A file or directory; `None` for `type=image` and `type=registry`.
    pub(super) output: Option<Output>,
    /// Further names, from `name=`.
    pub(super) names: Vec<String>,
    /// Push.
    pub(super) push: bool,
}

/// Reads one `--output`.
///
/// # Errors
/// One line that says what is wrong, or why it is refused and what to use.
pub(super) fn parse(spec: &str) -> Result<OutputWish, String> {
    let named = |reason: String| format!("--output `{spec}`: {reason}");
    if !spec.contains('=') {
        return Err(named(
            "the files of the image alone cannot be exported yet; use type=oci,dest=PATH".into(),
        ));
    }
    let mut raw = Raw::default();
    for (key, value) in fields(spec).map_err(named)? {
        raw.set(&key, value.as_deref()).map_err(named)?;
    }
    raw.decide().map_err(named)
}

/// The keys as they were given.
#[derive(Default)]
struct Raw {
    kind: String,
    destination: Option<PathBuf>,
    names: Vec<String>,
    push: bool,
    tar: Option<bool>,
}

impl Raw {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        match (key, value) {
            ("type", Some(kind)) => self.kind = kind.to_owned(),
            ("dest", Some(path)) if !path.is_empty() => self.destination = Some(PathBuf::from(path)),
            ("name", Some(names)) => {
                self.names
                    .extend(names.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned));
            }
            ("push", value) => self.push = truth("push", value)?,
            ("tar", value) => self.tar = Some(truth("tar", value)?),
            ("oci-mediatypes", value) if truth("oci-mediatypes", value)? => {}
            ("compression", Some("gzip")) => {}
            (key, value) => {
                let shown = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
                return Err(format!("`{shown}` is not supported (known: type, dest, name, push, tar)"));
            }
        }
        Ok(())
    }

    fn decide(self) -> Result<OutputWish, String> {
        let output = match self.kind.as_str() {
            "oci" => Some(self.oci()?),
            "docker" => Some(self.docker()?),
            "image" | "registry" if self.destination.is_some() => {
                return Err("`dest` has no meaning here; use type=oci,dest=PATH".into());
            }
            "image" | "registry" => None,
            "local" | "tar" => {
                return Err(
                    "the files of the image alone cannot be exported yet; use type=oci,dest=PATH".into()
                );
            }
            "" => return Err("`type` is missing (oci, docker, image, registry)".into()),
            other => return Err(format!("type `{other}` is unknown (oci, docker, image, registry)")),
        };
        let push = self.push || self.kind == "registry";
        if push && output.is_some() {
            return Err("`push` goes with type=image; give --push besides this output".into());
        }
        Ok(OutputWish { output, names: self.names, push })
    }

    /// A tar when the name ends in `.tar` or is `-`, or `tar=true`; else a directory.
    fn oci(&self) -> Result<Output, String> {
        let destination = self.destination.clone().ok_or("`dest` is missing (a directory, FILE.tar or -)")?;
        if destination.as_os_str() == "-" {
            return Ok(Output::OciArchive(None));
        }
        let by_name = destination.extension().is_some_and(|extension| extension == "tar");
        Ok(match self.tar.unwrap_or(by_name) {
            true => Output::OciArchive(Some(destination)),
            false => Output::OciDirectory(destination),
        })
    }

    fn docker(&self) -> Result<Output, String> {
        if self.tar == Some(false) {
            return Err("a docker archive is always a tar; use type=oci for a directory".into());
        }
        let destination =
            self.destination.clone().ok_or("there is no daemon to load into; add dest=FILE.tar or dest=-")?;
        Ok(Output::DockerArchive((destination.as_os_str() != "-").then_some(destination)))
    }
}

/// Whether `output` takes standard output for itself.
pub(super) fn takes_stdout(output: &Output) -> bool {
    matches!(output, Output::OciArchive(None) | Output::DockerArchive(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: Option<Output>, push: bool) {
        let wish = parse(spec).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((wish.output, wish.push), (expected, push), "{spec}");
    }

    #[test]
    fn types_and_destinations() {
        check("type=oci,dest=x", Some(Output::OciDirectory("x".into())), false);
        check("type=oci,dest=x.tar", Some(Output::OciArchive(Some("x.tar".into()))), false);
        check("type=oci,dest=x,tar=true", Some(Output::OciArchive(Some("x".into()))), false);
        check("type=oci,dest=x.tar,tar=false", Some(Output::OciDirectory("x.tar".into())), false);
        check("type=oci,dest=-", Some(Output::OciArchive(None)), false);
        check("type=docker,dest=x.tar", Some(Output::DockerArchive(Some("x.tar".into()))), false);
        check("type=docker,dest=-", Some(Output::DockerArchive(None)), false);
        check("type=image", None, false);
        check("type=image,push=true", None, true);
        check("type=registry", None, true);
    }

    #[test]
    fn names_come_with_it() {
        let wish = parse(r#"type=image,"name=r.io/a,r.io/b",push=true"#).unwrap();
        assert_eq!(wish.names, ["r.io/a", "r.io/b"]);
    }

    #[test]
    fn refusals_say_what_to_use() {
        for (spec, part) in [
            ("type=docker", "dest=FILE.tar"),
            ("type=local,dest=x", "type=oci"),
            ("out", "type=oci"),
            ("type=oci", "`dest` is missing"),
            ("dest=x", "`type` is missing"),
            ("type=zip,dest=x", "unknown"),
            ("type=oci,dest=x,level=3", "level=3"),
            ("type=image,push=perhaps", "neither true nor false"),
        ] {
            let error = parse(spec).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{spec}: {error}");
        }
    }
}
