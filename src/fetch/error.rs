//! Why something could not be fetched.

use std::io;
use std::path::PathBuf;

use thiserror::Error as ThisError;

use super::LocationError;
use crate::{context, net, store};

/// Why something could not be fetched. URLs are shown without user and password.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The text is no place that can be fetched from.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] Box<net::Error>),
    /// No answer, or one that broke off.
    #[error("cannot download `{url}`")]
    Download {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: Box<net::Error>,
    },
    /// The server's answer is not the file.
    #[error("cannot download `{url}`: the server answered {status}")]
    Status {
        /// Who answered.
        url: String,
        /// With its name.
        status: String,
    },
    /// Other bytes than were promised.
    #[error("`{url}` has another checksum than the Dockerfile says (expected `{expected}`, found `{found}`)")]
    Checksum {
        /// What was downloaded.
        url: String,
        /// As written.
        expected: String,
        /// Computed.
        found: String,
    },
    /// A checksum by an algorithm we do not know.
    #[error("`{0}` is not a checksum (expected `sha256:`, `sha384:` or `sha512:` and hex digits)")]
    ChecksumForm(String),
    /// There is no git program.
    #[error("`git` is needed for `{url}` and was not found: install it in the image that runs the build")]
    NoGit {
        /// The repository.
        url: String,
    },
    /// git said no.
    #[error("git cannot {action} `{url}`: {said}")]
    Git {
        /// What it was to do.
        action: &'static str,
        /// The repository.
        url: String,
        /// The last lines of its standard error.
        said: String,
    },
    /// The repository has no such ref.
    #[error("`{url}` has no branch, tag or ref `{reference}`")]
    NoReference {
        /// The repository.
        url: String,
        /// As written.
        reference: String,
    },
    /// Another commit than was promised.
    #[error(
        "`{reference}` of `{url}` is another commit than expected (expected `{expected}`, found `{found}`)"
    )]
    Commit {
        /// The repository.
        url: String,
        /// As written.
        reference: String,
        /// As written.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The repository has no such directory.
    #[error("`{url}` has no directory `{subdirectory}`")]
    NoDirectory {
        /// The repository.
        url: String,
        /// As written.
        subdirectory: String,
    },
    /// The checkout cannot be read.
    #[error("cannot read the checkout of `{url}`")]
    Checkout {
        /// The repository.
        url: String,
        /// Why.
        #[source]
        source: Box<context::Error>,
    },
    /// A file of ours.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state directory.
    #[error("the state directory failed")]
    Store(#[source] Box<store::Error>),
}
