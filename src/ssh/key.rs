//! Private keys that sign for a RUN.
//!
//! The cryptography is ring's, which TLS brings anyway. It knows Ed25519, RSA of
//! 2048 to 4096 bits with SHA-2, and ECDSA on P-256 and P-384; other keys are
//! refused with the advice to use an agent.

use std::fmt;

use ring::rand::SystemRandom;
use ring::rsa::{self, KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaEncoding,
};

use super::openssh::{self, Private, Rsa};
use super::remainder::{less_one, remainder};
use super::wire::{self, Message, Parts};
use crate::secret::Secret;

/// The client wants RSA with SHA-256, or with SHA-512 (RFC 8332).
const RSA_SHA256: u32 = 2;
const RSA_SHA512: u32 = 4;

/// A private key; prints its kind only.
pub struct Key {
    pair: Pair,
    /// As it goes over the wire.
    public: Vec<u8>,
    comment: Vec<u8>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, &'static Curve),
    Rsa(Box<rsa::KeyPair>),
}

struct Curve {
    name: &'static str,
    algorithm: &'static signature::EcdsaSigningAlgorithm,
    /// Bytes of a number.
    size: usize,
}

static CURVES: [Curve; 2] = [
    Curve { name: "nistp256", algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING, size: 32 },
    Curve { name: "nistp384", algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING, size: 48 },
];

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.pair.kind())
    }
}

impl Pair {
    fn kind(&self) -> String {
        match self {
            Self::Ed25519(_) => "ssh-ed25519".to_owned(),
            Self::Ecdsa(_, curve) => format!("ecdsa-sha2-{}", curve.name),
            Self::Rsa(_) => "ssh-rsa".to_owned(),
        }
    }
}

impl Key {
    /// Reads a PEM text: OpenSSH's own form, PKCS #8, or PKCS #1 for RSA.
    ///
    /// # Errors
    /// Why not, and what to do about it; nothing of the key is in it.
    pub fn parse(pem: &Secret) -> Result<Self, String> {
        let text = pem.expose_str().ok_or("it is no text")?;
        let (name, bytes) = openssh::unwrap(text)?;
        let refused = |error: ring::error::KeyRejected| format!("it is refused ({error})");
        match name {
            "OPENSSH PRIVATE KEY" => {
                let (private, comment) = openssh::read(&bytes)?;
                Ok(Self::new(pair(&private)?, comment))
            }
            "RSA PRIVATE KEY" => {
                let pair = rsa::KeyPair::from_der(&bytes).map_err(refused)?;
                Ok(Self::new(Pair::Rsa(Box::new(pair)), b""))
            }
            "PRIVATE KEY" => Ok(Self::new(pkcs8(&bytes)?, b"")),
            other => {
                Err(format!("{}, or let `ssh-keygen -p -f FILE` write it anew", openssh::unknown(other)))
            }
        }
    }

    fn new(pair: Pair, comment: &[u8]) -> Self {
        let mut public = Message::default();
        public.string(pair.kind().as_bytes());
        match &pair {
            Pair::Ed25519(pair) => public.string(pair.public_key().as_ref()),
            Pair::Ecdsa(pair, curve) => {
                public.string(curve.name.as_bytes());
                public.string(pair.public_key().as_ref());
            }
            Pair::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                public.integer(&e);
                public.integer(&n);
            }
        }
        Self { public: public.0, pair, comment: comment.to_vec() }
    }

    /// `None` where the key cannot sign the way that is asked for.
    fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let mut answer = Message::default();
        match &self.pair {
            Pair::Ed25519(pair) => {
                answer.string(b"ssh-ed25519");
                answer.string(pair.sign(data).as_ref());
            }
            Pair::Ecdsa(pair, curve) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(curve.size)?;
                let mut numbers = Message::default();
                numbers.integer(r);
                numbers.integer(s);
                answer.string(self.pair.kind().as_bytes());
                answer.string(&numbers.0);
            }
            Pair::Rsa(pair) => {
                let (name, encoding): (&[u8], &'static dyn RsaEncoding) = match flags {
                    flags if flags & RSA_SHA512 != 0 => (b"rsa-sha2-512", &signature::RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA256 != 0 => (b"rsa-sha2-256", &signature::RSA_PKCS1_SHA256),
                    // SHA-1: nobody should accept that any more.
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, data, &mut signature).ok()?;
                answer.string(name);
                answer.string(&signature);
            }
        }
        Some(answer.0)
    }
}

/// Answers one request for `keys`.
pub(super) fn answer(keys: &[Key], request: &[u8]) -> Vec<u8> {
    let answer = match request.split_first() {
        Some((&wire::REQUEST_IDENTITIES, _)) => Some(identities(keys)),
        Some((&wire::SIGN_REQUEST, rest)) => signature_for(keys, rest),
        _ => None,
    };
    answer.unwrap_or_else(|| vec![wire::FAILURE])
}

fn identities(keys: &[Key]) -> Vec<u8> {
    let mut answer = Message::of(wire::IDENTITIES);
    answer.number(u32::try_from(keys.len()).expect("nobody has that many keys"));
    for key in keys {
        answer.string(&key.public);
        answer.string(&key.comment);
    }
    answer.0
}

fn signature_for(keys: &[Key], request: &[u8]) -> Option<Vec<u8>> {
    let mut request = Parts(request);
    let (public, data, flags) = (request.string()?, request.string()?, request.number()?);
    let key = keys.iter().find(|key| key.public == public)?;
    let mut answer = Message::of(wire::SIGNATURE);
    answer.string(&key.sign(data, flags)?);
    Some(answer.0)
}

fn pair(private: &Private<'_>) -> Result<Pair, String> {
    let refused = |error: ring::error::KeyRejected| format!("it is refused ({error})");
    match private {
        Private::Ed25519 { seed, public } => {
            Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Pair::Ed25519).map_err(refused)
        }
        Private::Ecdsa { curve, public, private } => {
            let curve = CURVES
                .iter()
                .find(|known| known.name.as_bytes() == *curve)
                .ok_or_else(|| openssh::unknown(&format!("ecdsa-sha2-{}", String::from_utf8_lossy(curve))))?;
            let fill = curve.size.saturating_sub(private.len());
            let private = [vec![0; fill].as_slice(), private].concat();
            let (algorithm, random) = (curve.algorithm, SystemRandom::new());
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, public, &random)
                .map(|pair| Pair::Ecdsa(pair, curve))
                .map_err(refused)
        }
        Private::Rsa(parts) => rsa_pair(parts).map(|pair| Pair::Rsa(Box::new(pair))).map_err(refused),
    }
}

/// OpenSSH leaves out the two exponents of the Chinese remainder theorem.
fn rsa_pair(parts: &Rsa<'_>) -> Result<rsa::KeyPair, ring::error::KeyRejected> {
    let Rsa { n, e, d, q_inv, p, q } = *parts;
    let exponent = |factor: &[u8]| {
        let rest = remainder(d, &less_one(factor));
        // As long as the factor: ring wants no zeros in front of shorter ones.
        wire::without_zeros(&rest).to_vec()
    };
    let (of_p, of_q) = (exponent(p), exponent(q));
    rsa::KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: &of_p,
        dQ: &of_q,
        qInv: q_inv,
    })
}

fn pkcs8(bytes: &[u8]) -> Result<Pair, String> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
        return Ok(Pair::Ed25519(pair));
    }
    for curve in &CURVES {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve.algorithm, bytes, &SystemRandom::new()) {
            return Ok(Pair::Ecdsa(pair, curve));
        }
    }
    rsa::KeyPair::from_pkcs8(bytes)
        .map(|pair| Pair::Rsa(Box::new(pair)))
        .map_err(|_other| openssh::unknown("PKCS #8"))
}
