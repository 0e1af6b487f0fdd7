//! From the process that becomes the RUN to its stub: the listener of its
//! system calls, and the root that they are about.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::filter::{self, Heard};
use super::{attributes, identity};
use crate::sandbox::protections::{Protection, Protections};
use crate::sandbox::raw;

/// What a stub gets.
pub(in crate::sandbox) struct Handover {
    pub(in crate::sandbox) listener: OwnedFd,
    /// `/` of the RUN.
    pub(in crate::sandbox) root: OwnedFd,
    pub(in crate::sandbox) heard: Heard,
    /// [`raw::Listener::killable`].
    pub(in crate::sandbox) killable: bool,
}

/// Whether this process could install a listener: tried, because a profile may
/// refuse it, and because there is one at most.
pub(in crate::sandbox) fn is_possible() -> bool {
    const RETURN: u16 = 0x06;
    let allow = seccompiler::sock_filter { code: RETURN, jt: 0, jf: 0, k: nix::libc::SECCOMP_RET_ALLOW };
    raw::install_listener(&[allow]).is_ok()
}

/// Installs the filter on this thread and sends its listener away. Where that
/// is refused, which a probe told, the RUN goes without; but not with `one_id`,
/// where nothing is right without.
///
/// # Errors
/// When there is a listener and the stub cannot be told, or there must be one.
pub(in crate::sandbox) fn give(
    to: &UnixStream,
    root: BorrowedFd<'_>,
    heard: Heard,
    protections: Protections,
    one_id: bool,
) -> io::Result<()> {
    let paths = filter::program(heard, protections);
    let listener = match (one_id, heard) {
        (true, Heard::Devices) => raw::install_listener(&identity::program(&[]))?,
        (true, _) => raw::install_listener(&identity::program(&paths))?,
        (false, _) => match raw::install_listener(&paths) {
            Ok(listener) => listener,
            Err(_) => return without_one(protections),
        },
    };
    let descriptors = [listener.fd.as_raw_fd(), root.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let heard = match heard {
        Heard::Devices => b'd',
        Heard::Paths => b'p',
        Heard::Neighbours => b'n',
    };
    let word = [heard, u8::from(listener.killable)];
    // Not sendmsg(2): the listener hears of that, and nobody listens yet.
    let mut headers = MultiHeaders::<()>::preallocate(1, Some(nix::cmsg_space!([RawFd; 2])));
    let messages = [[IoSlice::new(&word)]];
    Ok(sendmmsg(to.as_raw_fd(), &mut headers, &messages, [None], rights, MsgFlags::empty()).map(drop)?)
}

/// Nobody makes devices then, nor tells a record from another attribute.
fn without_one(protections: Protections) -> io::Result<()> {
    // Without no_new_privs, which a control leaves out, no filter can be had at all.
    let possible = protections.keep(Protection::NoNewPrivileges);
    if !possible || !protections.keep(Protection::Attributes) {
        return Ok(());
    }
    crate::sandbox::sys::install_filter(&attributes::refusing_program())
}

/// Nothing when the child ended, or went without.
pub(in crate::sandbox) fn take(from: &UnixStream) -> io::Result<Option<Handover>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0; 2];
    recvmsg(from, &mut [IoSliceMut::new(&mut word)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let (Some(listener), Some(root)) = (descriptors.next(), descriptors.next()) else { return Ok(None) };
    let heard = match word[0] {
        b'n' => Heard::Neighbours,
        b'p' => Heard::Paths,
        _ => Heard::Devices,
    };
    Ok(Some(Handover { listener, root, heard, killable: word[1] != 0 }))
}
