//! The secret that tells our records from those a RUN wrote.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Authenticates the records of one state directory: 32 random bytes.
#[derive(Clone)]
pub struct Key([u8; 32]);

/// SHA-256's block length, which HMAC pads its key to.
const BLOCK: usize = 64;

impl Key {
    /// The key that the store room kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new key from the kernel's random source.
    ///
    /// # Errors
    /// When `/dev/urandom` cannot be read.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, for the store room to keep (mode 0600).
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HMAC-SHA256 (RFC 2104): H(key ^ outer pad, H(key ^ inner pad, message)).
    /// A plain H(key, message) would allow length extension. Written out here
    /// because it is four lines over sha2, and the hmac crate would be one more
    /// dependency for them.
    pub(super) fn authenticate(&self, message: &[u8]) -> [u8; 32] {
        let inner = Sha256::new().chain_update(self.padded(0x36)).chain_update(message).finalize();
        Sha256::new().chain_update(self.padded(0x5c)).chain_update(inner).finalize().into()
    }

    /// Whether `tag` belongs to `message`. Every byte is compared, so that the
    /// time taken tells a forger nothing.
    pub(super) fn verifies(&self, message: &[u8], tag: &[u8]) -> bool {
        let expected = self.authenticate(message);
        let difference = expected.iter().zip(tag).fold(0, |all, (a, b)| all | (a ^ b));
        tag.len() == expected.len() && difference == 0
    }

    fn padded(&self, pad: u8) -> [u8; BLOCK] {
        let mut block = [pad; BLOCK];
        for (byte, key) in block.iter_mut().zip(self.0) {
            *byte ^= key;
        }
        block
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 4231, test case 1; a 20-byte key is padded with zeros to 32 first,
    /// which HMAC itself would do.
    #[test]
    fn authenticates_as_rfc_4231_says() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        assert_eq!(
            hex(&Key::from_bytes(key).authenticate(b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }

    #[test]
    fn generated_keys_differ_and_do_not_print() {
        let (one, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert_ne!(one.as_bytes(), other.as_bytes());
        assert_eq!(format!("{one:?}"), "Key(***)");
    }

    #[test]
    fn a_shortened_tag_does_not_verify() {
        let key = Key::from_bytes([7; 32]);
        let tag = key.authenticate(b"x");
        assert!(key.verifies(b"x", &tag));
        assert!(!key.verifies(b"x", &tag[..31]));
        assert!(!key.verifies(b"x", b""));
        assert!(!key.verifies(b"y", &tag));
    }
}
