//! What comes from elsewhere: build contexts and ADD sources from HTTP servers
//! and git repositories.
//!
//! Everything is addressed by content before it is used: a download by the
//! digest of its bytes, a repository by its commit. So the keys of a build are
//! known before anything runs, and what is unchanged is not fetched again: a
//! download is asked for with the validators of the last answer (RFC 9110,
//! 13.1), a commit that a step has already copied is not checked out.
//!
//! Whatever a server or a repository says is hostile: names lead nowhere, git
//! runs without hooks, prompts, or configuration from outside, and speaks no
//! protocol but those of [`git`](Fetcher::checkout).

mod checkout;
mod error;
mod git;
mod http;
mod location;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OnceCell;

pub use checkout::Commit;
pub use error::Error;
pub use http::Downloaded;
pub use location::{GitLocation, Location, LocationError};

use crate::net;
use crate::progress::Reporter;
use crate::secret::Secret;
use crate::store::Store;

/// What fetching needs.
pub struct Options {
    /// How to talk to servers. Its environment also gives git its `PATH`, proxies,
    /// certificates and the SSH agent.
    pub net: net::Options,
    /// The build's secrets: `GIT_AUTH_TOKEN`, `GIT_AUTH_HEADER`, `HTTP_AUTH_TOKEN_HOST`
    /// and `HTTP_AUTH_HEADER_HOST` open doors.
    pub secrets: BTreeMap<String, Secret>,
    /// The socket of an SSH agent for git, instead of the environment's.
    pub ssh_agent: Option<PathBuf>,
    /// Protocols git may speak beside https, http, ssh and git: `file` in tests.
    pub further_protocols: Vec<String>,
    /// Where unfinished things lie; on the store's file system, removed by the caller.
    pub unfinished: PathBuf,
}

/// Fetches.
pub struct Fetcher {
    options: Options,
    store: Arc<Store>,
    reporter: Arc<dyn Reporter>,
    http: OnceCell<net::Http>,
}

impl Fetcher {
    /// Opens nothing yet.
    pub fn new(options: Options, store: Arc<Store>, reporter: Arc<dyn Reporter>) -> Self {
        Self { options, store, reporter, http: OnceCell::new() }
    }

    /// The client, made when it is first needed: it reads the CA files.
    async fn http(&self) -> Result<&net::Http, Error> {
        let make = || async { net::Http::new(self.options.net.clone(), Arc::clone(&self.reporter)) };
        self.http.get_or_try_init(make).await.map_err(|source| Error::Setup(Box::new(source)))
    }

    /// The secret of this name, or of this name for `host`, which wins.
    fn secret(&self, name: &str, separator: char, host: &str) -> Option<&Secret> {
        let own = self.options.secrets.get(&format!("{name}{separator}{host}"));
        own.filter(|secret| !secret.is_empty())
    }
}

#[cfg(test)]
mod tests;
