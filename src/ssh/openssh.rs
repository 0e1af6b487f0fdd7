//! Private keys as ssh-keygen writes them (OpenSSH's PROTOCOL.key), and the
//! text around every kind of key (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::wire::Parts;

const MAGIC: &[u8] = b"openssh-key-v1\0";

/// What to do about a key that only its passphrase opens.
pub(super) const LOCKED: &str = "it is protected by a passphrase; start an agent, add it there (`eval $(ssh-agent)`, \
                                 `ssh-add FILE`) and pass the agent on with `--ssh default`";

/// The first block of a PEM text: its name, and its bytes.
pub(super) fn unwrap(text: &str) -> Result<(&str, Vec<u8>), String> {
    let none = || "it is no private key (expected `-----BEGIN … PRIVATE KEY-----`)".to_owned();
    let (_, rest) = text.split_once("-----BEGIN ").ok_or_else(none)?;
    let (name, rest) = rest.split_once("-----").ok_or_else(none)?;
    let (body, _) = rest.split_once(&format!("-----END {name}-----")).ok_or_else(none)?;
    // Old files say it in a header, new ones inside.
    if body.contains("ENCRYPTED") || name.contains("ENCRYPTED") {
        return Err(LOCKED.to_owned());
    }
    // CI systems keep secrets on one line, its ends as spaces or as `\n`.
    let body: String = body.replace("\\n", " ").split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(body).map_err(|_not_base64| "it is damaged".to_owned())?;
    Ok((name, bytes))
}

/// The parts of a key, by its kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Private<'a> {
    Ed25519 { seed: &'a [u8], public: &'a [u8] },
    Ecdsa { curve: &'a [u8], public: &'a [u8], private: &'a [u8] },
    Rsa(Box<Rsa<'a>>),
}

/// Big-endian numbers by the names RFC 8017 gives them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rsa<'a> {
    pub(super) n: &'a [u8],
    pub(super) e: &'a [u8],
    pub(super) d: &'a [u8],
    pub(super) q_inv: &'a [u8],
    pub(super) p: &'a [u8],
    pub(super) q: &'a [u8],
}

/// Reads the first key of a file, and its comment.
pub(super) fn read(bytes: &[u8]) -> Result<(Private<'_>, &[u8]), String> {
    let damaged = || "it is damaged".to_owned();
    let mut file = Parts(bytes.strip_prefix(MAGIC).ok_or_else(damaged)?);
    let cipher = file.string().ok_or_else(damaged)?;
    if cipher != b"none" {
        return Err(LOCKED.to_owned());
    }
    // How the passphrase makes a key, its parameters, how many keys, the public one.
    let skipped = (file.string(), file.string(), file.number(), file.string());
    let (Some(_), Some(_), Some(_), Some(_)) = skipped else { return Err(damaged()) };
    let mut parts = Parts(file.string().ok_or_else(damaged)?);
    // Two equal numbers show that it was decrypted rightly.
    if parts.number().zip(parts.number()).is_none_or(|(one, two)| one != two) {
        return Err(damaged());
    }
    let kind = parts.string().ok_or_else(damaged)?;
    let private = match kind {
        b"ssh-ed25519" => ed25519(&mut parts),
        b"ssh-rsa" => rsa(&mut parts),
        kind if kind.starts_with(b"ecdsa-sha2-") => ecdsa(&mut parts),
        other => return Err(unknown(&String::from_utf8_lossy(other))),
    };
    let private = private.ok_or_else(damaged)?;
    Ok((private, parts.string().unwrap_or_default()))
}

/// A kind of key that is not known.
pub(super) fn unknown(kind: &str) -> String {
    let kind: String = kind.chars().filter(|letter| !letter.is_control()).take(60).collect();
    format!(
        "a key of kind `{kind}` is not known (ssh-ed25519, ssh-rsa of 2048 to 4096 bits, ecdsa-sha2-nistp256 and \
         nistp384); an agent knows more: add it there with `ssh-add` and give `--ssh default`"
    )
}

fn ed25519<'a>(parts: &mut Parts<'a>) -> Option<Private<'a>> {
    let public = parts.string()?;
    // The seed, and the public key once more.
    let seed = parts.string()?.get(..32)?;
    Some(Private::Ed25519 { seed, public })
}

fn ecdsa<'a>(parts: &mut Parts<'a>) -> Option<Private<'a>> {
    Some(Private::Ecdsa { curve: parts.string()?, public: parts.string()?, private: parts.integer()? })
}

fn rsa<'a>(parts: &mut Parts<'a>) -> Option<Private<'a>> {
    let [n, e, d, q_inv, p, q] = [
        parts.integer()?,
        parts.integer()?,
        parts.integer()?,
        parts.integer()?,
        parts.integer()?,
        parts.integer()?,
    ];
    // The prime factors are odd, so that one less is one bit less; none is one.
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1) && number != [1];
    (odd(p) && odd(q)).then(|| Private::Rsa(Box::new(Rsa { n, e, d, q_inv, p, q })))
}
