//! The socket that a RUN talks to.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Agent, key, wire};
use crate::progress::Reporter;

/// As many conversations at once as any RUN needs; further ones wait.
const CONVERSATIONS: usize = 32;

/// Ends with everything it talks to when it is dropped.
#[derive(Debug)]
pub struct Served(JoinHandle<()>);

impl Drop for Served {
    fn drop(&mut self) {
        // The conversations are the task's own and end with it.
        self.0.abort();
    }
}

/// Who may use a socket, as the file system says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// User and group; ours when absent.
    pub owner: Option<(u32, u32)>,
}

/// Listens at `name` in `directory` until the result is dropped. Must be called
/// within tokio's runtime.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(
    agent: Arc<Agent>,
    directory: &Path,
    name: &str,
    access: Access,
    reporter: Arc<dyn Reporter>,
) -> io::Result<Served> {
    // The path of a socket has 108 bytes at most (unix(7)), and that of a state
    // directory may be longer.
    let opened = std::fs::File::open(directory)?;
    let place = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
    let listener = std::os::unix::net::UnixListener::bind(&place)?;
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(access.mode & 0o777))?;
    if let Some((uid, gid)) = access.owner {
        chown(&place, Some(uid), Some(gid))?;
    }
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    Ok(Served(tokio::spawn(listen(listener, agent, reporter))))
}

async fn listen(listener: UnixListener, agent: Arc<Agent>, reporter: Arc<dyn Reporter>) {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= CONVERSATIONS {
            open.join_next().await;
        }
        tokio::select! {
            // A failed conversation is the RUN's affair: ssh tells it.
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let (agent, reporter) = (Arc::clone(&agent), Arc::clone(&reporter));
                    open.spawn(async move { converse(&agent, client, reporter.as_ref()).await });
                }
                // No descriptor left: wait until a conversation has ended.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            },
        }
    }
}

async fn converse(agent: &Agent, mut client: UnixStream, reporter: &dyn Reporter) -> io::Result<()> {
    let mut behind = None;
    while let Some(request) = wire::read(&mut client).await? {
        let answer = match agent {
            Agent::Keys(keys) => key::answer(keys, &request),
            Agent::Socket(path) if is_allowed(&request) => {
                forward(path, &mut behind, &request).await.inspect_err(|error| {
                    reporter.warn(format!("the SSH agent `{}` does not answer: {error}", path.display()));
                })?
            }
            Agent::Socket(_) => vec![wire::FAILURE],
        };
        wire::write(&mut client, &answer).await?;
    }
    Ok(())
}

fn is_allowed(request: &[u8]) -> bool {
    matches!(request.first(), Some(&(wire::REQUEST_IDENTITIES | wire::SIGN_REQUEST)))
}

async fn forward(path: &Path, behind: &mut Option<UnixStream>, request: &[u8]) -> io::Result<Vec<u8>> {
    let agent = match behind {
        Some(agent) => agent,
        None => behind.insert(UnixStream::connect(path).await?),
    };
    wire::write(agent, request).await?;
    wire::read(agent).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
