//! What agents say to each other (draft-ietf-sshm-ssh-agent, 3 and 5.1; the
//! encodings are those of RFC 4251, 5).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const FAILURE: u8 = 5;
pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const IDENTITIES: u8 = 12;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const SIGNATURE: u8 = 14;

/// As much as OpenSSH's agent takes.
const LONGEST: u32 = 256 << 10;

/// The next message, without its length; `None` at the end.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let length = match from.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length == 0 || length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Memory grows with what really comes, not with what was announced.
    let mut message = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut message).await?;
    match message.len() as u64 == u64::from(length) {
        true => Ok(Some(message)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Sends a message with its length.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    to.flush().await
}

/// Takes a message apart. Everything is `None` where the bytes end too early.
pub(super) struct Parts<'a>(pub(super) &'a [u8]);

impl<'a> Parts<'a> {
    pub(super) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// A positive number, without the zeros in front.
    pub(super) fn integer(&mut self) -> Option<&'a [u8]> {
        Some(without_zeros(self.string()?))
    }
}

pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[first..]
}

/// Puts a message together.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    pub(super) fn of(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(super) fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn string(&mut self, string: &[u8]) {
        self.number(u32::try_from(string.len()).expect("no key or signature is that long"));
        self.0.extend_from_slice(string);
    }

    /// A positive number: a zero goes before a first bit that would be a sign.
    pub(super) fn integer(&mut self, number: &[u8]) {
        let number = without_zeros(number);
        let sign = number.first().is_some_and(|first| first & 0x80 != 0);
        self.string(&[&[0][..usize::from(sign)], number].concat());
    }
}
