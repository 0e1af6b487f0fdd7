//! The SSH agent of `RUN --mount=type=ssh`.
//!
//! A RUN never gets the user's agent itself: it gets a socket of ours
//! ([`serve`]), and of what it asks there two questions are answered, which keys
//! there are and to sign with one of them (draft-ietf-sshm-ssh-agent, 3.5 and
//! 3.6). Adding, removing and locking keys, and every extension, are refused, as
//! BuildKit refuses them. Behind the socket is either the user's agent or, for
//! key files, a small agent of our own: the keys stay in this process.

mod key;
mod openssh;
mod remainder;
mod serve;
mod wire;

use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use thiserror::Error as ThisError;

pub use key::Key;
pub use serve::{Access, Served, serve};

use crate::secret::Secret;

/// Where the keys of an agent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentSource {
    /// One socket, or files with private keys.
    Paths(Vec<PathBuf>),
    /// A private key itself.
    Key(Secret),
}

/// What answers a RUN.
#[derive(Debug)]
pub enum Agent {
    /// The agent behind this socket.
    Socket(PathBuf),
    /// We do, with these keys.
    Keys(Vec<Key>),
}

/// Why there is no agent. Nothing of a key is in it.
#[derive(Debug, ThisError)]
pub enum Error {
    /// A socket or key file.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than a socket.
    #[error("`{}` is the socket of an agent: it stands alone, without keys beside it", path.display())]
    SocketAmongKeys {
        /// The socket.
        path: PathBuf,
    },
    /// A file that is no usable key.
    #[error("{place} cannot be used: {reason}")]
    Key {
        /// The file, quoted.
        place: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// A private key is a few kilobytes at most; BuildKit reads no more either.
const LARGEST_KEY: u64 = 100 << 10;

impl Agent {
    /// Looks at what is there, and reads keys.
    ///
    /// # Errors
    /// When a path cannot be read, a key is protected by a passphrase or of a kind
    /// that is not known, or a socket is among several paths.
    pub fn open(source: &AgentSource) -> Result<Self, Error> {
        let paths = match source {
            AgentSource::Key(pem) => return Ok(Self::Keys(vec![key(pem, "the key")?])),
            AgentSource::Paths(paths) => paths,
        };
        let mut keys = Vec::with_capacity(paths.len());
        for path in paths {
            let failed = |source| Error::Read { path: path.clone(), source };
            match std::fs::metadata(path).map_err(failed)?.file_type().is_socket() {
                true if paths.len() == 1 => return Ok(Self::Socket(path.clone())),
                true => return Err(Error::SocketAmongKeys { path: path.clone() }),
                false => {
                    let pem = read(path).map_err(failed)?;
                    keys.push(key(&pem, &format!("`{}`", path.display()))?);
                }
            }
        }
        Ok(Self::Keys(keys))
    }
}

fn key(pem: &Secret, place: &str) -> Result<Key, Error> {
    Key::parse(pem).map_err(|reason| Error::Key { place: place.to_owned(), reason })
}

fn read(path: &Path) -> io::Result<Secret> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_KEY).read_to_end(&mut bytes)?;
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests;
