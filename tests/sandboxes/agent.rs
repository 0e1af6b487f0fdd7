//! An SSH agent that holds no key, for `RUN --mount=type=ssh`.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// SSH_AGENT_IDENTITIES_ANSWER with a count of 0 (draft-ietf-sshm-ssh-agent, 3.5).
const NO_KEYS: [u8; 9] = [0, 0, 0, 5, 12, 0, 0, 0, 0];

/// Answers on `socket`, whoever asks, until the program ends.
pub fn listen(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o777)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is its own affair.
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
}

fn answer(mut stream: UnixStream) -> io::Result<()> {
    let mut length = [0; 4];
    loop {
        stream.read_exact(&mut length)?;
        let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or(0)];
        stream.read_exact(&mut request)?;
        stream.write_all(&NO_KEYS)?;
    }
}
