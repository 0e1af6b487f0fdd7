//! `SCM_CREDENTIALS` (unix(7)): a sender may say who it is. The kernel knows one
//! id here and refuses all others; so what is said is judged, and sent as that id.
//! Receivers are told it, too.

use std::io;

use nix::libc;

use super::Identity;
use super::call::Call;
use super::credentials::{Credentials, Ids, SETGID, SETUID};
use crate::sandbox::supervisor::Answer;

/// Offsets in `struct msghdr`, and of the fields of `struct cmsghdr`.
const CONTROL: u64 = 32;
const HEADER: usize = 16;
/// `struct ucred` behind the header: process, user, group.
const USER: usize = HEADER + 4;
const GROUP: usize = HEADER + 8;
const END: usize = HEADER + 12;

/// As much as the kernel takes of it (net.core.optmem_max is of this size).
const MOST: usize = 128 << 10;

impl Identity {
    pub(super) fn send_message(&self, call: &Call<'_>) -> io::Result<Answer> {
        let header = call.read_numbers(call.long(1) + CONTROL, 4)?;
        let [address, length] = [0, 2].map(|at| u64::from(header[at]) | u64::from(header[at + 1]) << 32);
        if length == 0 {
            return Ok(Answer::GoOn);
        }
        let mut control = vec![0; usize::try_from(length).unwrap_or(MOST).min(MOST)];
        call.read(address, &mut control)?;
        let caller = self.caller(call);
        for at in said(&control) {
            let word = |place: usize| number(&control, at + place);
            if !may_say(&caller, word(USER), word(GROUP)) {
                return Ok(Answer::Error(libc::EPERM));
            }
            call.write_numbers(address + (at + USER) as u64, &[0, 0])?;
        }
        Ok(Answer::GoOn)
    }
}

fn may_say(caller: &Credentials, user: u32, group: u32) -> bool {
    let has = |ids: Ids, id: u32| [ids.real, ids.effective, ids.saved].contains(&id);
    (has(caller.user, user) || caller.can(SETUID)) && (has(caller.group, group) || caller.can(SETGID))
}

/// Where credentials begin, header included (cmsg(3)).
fn said(control: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while control.len() >= at + HEADER {
        let length = number(control, at) as usize;
        let kind = (number(control, at + 8).cast_signed(), number(control, at + 12).cast_signed());
        if length < HEADER || length > control.len() - at {
            break;
        }
        if kind == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) && length >= END {
            found.push(at);
        }
        at += length.next_multiple_of(8);
    }
    found
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u32]) -> Vec<u8> {
        let mut bytes = (HEADER as u64 + 4 * data.len() as u64).to_ne_bytes().to_vec();
        bytes.extend([level, kind].iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend(data.iter().flat_map(|number| number.to_ne_bytes()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn finds_what_is_said() {
        let rights = message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[3]);
        let credentials = message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[9, 7, 8]);
        assert_eq!(said(&[&rights[..], &credentials].concat()), [24]);
        assert_eq!(said(&credentials), [0]);
        assert_eq!(said(&credentials[..20]), [0; 0]);
        assert_eq!(said(&message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[9])), [0; 0]);
        assert_eq!(said(&[0; 64]), [0; 0]);
        assert_eq!(said(&[0xff; 64]), [0; 0]);
    }

    #[test]
    fn users_say_who_they_are() {
        let [root, alice] = [0, 7].map(|id| Credentials::initial(id, id, &[], 1 << SETUID | 1 << SETGID));
        assert!(may_say(&root, 3, 4) && may_say(&alice, 7, 7));
        assert!(!may_say(&alice, 0, 7) && !may_say(&alice, 7, 0));
    }
}
