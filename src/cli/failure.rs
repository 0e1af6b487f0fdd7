//! Why a command did not do what it was asked, and how that is shown.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use thiserror::Error;

use super::door::DoorError;
use crate::build::ErrorKind;

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// Arguments that mean nothing or exclude each other: all of them.
    #[error("{}", .0.join("\nerror: "))]
    Usage(Vec<String>),
    /// The build itself.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// Standard input was to be read.
    #[error("standard input cannot be read")]
    Input(#[source] io::Error),
    /// A file that was named.
    #[error("`{}` cannot be read", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that was asked for.
    #[error("`{}` cannot be written", .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output is gone.
    #[error("standard output cannot be written")]
    Print(#[source] io::Error),
    /// There is no Dockerfile in the context.
    #[error("there is neither a Dockerfile nor a Containerfile in `{}`; name one with --file", .0.display())]
    NoDockerfile(PathBuf),
    /// The ignore file, for a check.
    #[error("the ignore file cannot be used")]
    Context(#[source] crate::context::Error),
    /// The Dockerfile has errors; they are on standard error already.
    #[error("the Dockerfile has {errors} error{}", if *.errors == 1 { "" } else { "s" })]
    Dockerfile {
        /// How many.
        errors: usize,
    },
}

impl Failure {
    /// The kind, which gives the exit code.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) => ErrorKind::Usage,
            Self::Door(error) => error.kind(),
            Self::NoDockerfile(_) | Self::Dockerfile { .. } | Self::Context(_) | Self::Read { .. } => {
                ErrorKind::Build
            }
            Self::Input(_) | Self::Write { .. } | Self::Print(_) => ErrorKind::Other,
        }
    }

    /// Shows it with its causes.
    pub(super) fn report(&self, out: &mut dyn Write) {
        let text = match self {
            Self::Door(error) => error.to_report(),
            other => chain(other),
        };
        // Standard error is the last place to say anything: when it is closed
        // the exit code still speaks.
        let _ = out.write_all(text.as_bytes());
    }
}

/// `error: …` and one `caused by: …` per source. A source whose text the line
/// above already ends with is left out: transparent wrappers say nothing new.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut last = error.to_string();
    // What draws a line of a Dockerfile says `error:` behind the place.
    let drawn = last.lines().next().is_some_and(|line| line.contains(": error: "));
    let mut text = if drawn { format!("{last}\n") } else { format!("error: {last}\n") };
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        if !last.ends_with(&line) {
            text.push_str(&format!("  caused by: {}\n", line.replace('\n', "\n    ")));
            last = line;
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_thing_once() {
        let refused = || io::Error::new(io::ErrorKind::PermissionDenied, "permission denied");
        let failure = Failure::Write { path: "/x".into(), source: refused() };
        assert_eq!(chain(&failure), "error: `/x` cannot be written\n  caused by: permission denied\n");
        assert_eq!(chain(&refused()), "error: permission denied\n");
    }

    #[test]
    fn every_wrong_argument_has_its_line() {
        let failure = Failure::Usage(vec!["one".into(), "two".into()]);
        assert_eq!(chain(&failure), "error: one\nerror: two\n");
        assert_eq!(failure.kind().exit_code(), 2);
    }
}
