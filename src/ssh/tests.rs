//! Keys, answers, and a conversation over a socket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, UnparsedPublicKey,
};
use tokio::net::UnixStream;

use super::wire::{Message, Parts};
use super::*;
use crate::progress::Silent;

fn pem(name: &str, bytes: &[u8]) -> Secret {
    Secret::new(format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", STANDARD.encode(bytes)))
}

fn ed25519() -> Secret {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    pem("PRIVATE KEY", document.as_ref())
}

/// A file as ssh-keygen writes it.
fn openssh(cipher: &[u8], kind: &[u8], parts: &[&[u8]], comment: &[u8]) -> Secret {
    let mut private = Message::default();
    private.number(7);
    private.number(7);
    private.string(kind);
    parts.iter().for_each(|part| private.string(part));
    private.string(comment);
    let mut file = Message(b"openssh-key-v1\0".to_vec());
    file.string(cipher);
    file.string(b"none");
    file.string(b"");
    file.number(1);
    file.string(b"public");
    file.string(&private.0);
    pem("OPENSSH PRIVATE KEY", &file.0)
}

fn refused(pem: &Secret) -> String {
    Key::parse(pem).unwrap_err()
}

fn sign_request(public: &[u8], flags: u32) -> Vec<u8> {
    let mut request = Message::of(wire::SIGN_REQUEST);
    request.string(public);
    request.string(b"data");
    request.number(flags);
    request.0
}

/// The first key of an answer, and its comment.
fn first_identity(answer: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut parts = Parts(&answer[1..]);
    assert_eq!((answer[0], parts.number()), (wire::IDENTITIES, Some(1)));
    (parts.string().unwrap().to_vec(), parts.string().unwrap().to_vec())
}

#[test]
fn signs_with_a_key_of_openssh() {
    let seed = [9; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public = pair.public_key().as_ref();
    let file = openssh(b"none", b"ssh-ed25519", &[public, &[&seed[..], public].concat()], b"me@here");
    let keys = [Key::parse(&file).unwrap()];
    let (name, comment) = first_identity(&key::answer(&keys, &[wire::REQUEST_IDENTITIES]));
    assert_eq!(comment, b"me@here");
    let answer = key::answer(&keys, &sign_request(&name, 0));
    let whole = Parts(&answer[1..]).string().unwrap();
    let mut parts = Parts(whole);
    assert_eq!((answer[0], parts.string()), (wire::SIGNATURE, Some(&b"ssh-ed25519"[..])));
    let signature = parts.string().unwrap();
    UnparsedPublicKey::new(&ring::signature::ED25519, public).verify(b"data", signature).unwrap();
}

#[test]
fn ecdsa_signatures_are_two_numbers() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let keys = [Key::parse(&pem("PRIVATE KEY", document.as_ref())).unwrap()];
    let (name, _) = first_identity(&key::answer(&keys, &[wire::REQUEST_IDENTITIES]));
    let answer = key::answer(&keys, &sign_request(&name, 0));
    let mut parts = Parts(Parts(&answer[1..]).string().unwrap());
    assert_eq!(parts.string(), Some(&b"ecdsa-sha2-nistp256"[..]));
    let mut numbers = Parts(parts.string().unwrap());
    let fill = |number: &[u8]| [vec![0; 32 - number.len()].as_slice(), number].concat();
    let fixed = [fill(numbers.integer().unwrap()), fill(numbers.integer().unwrap())].concat();
    let mut public = Parts(&name);
    public.string();
    public.string();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED;
    UnparsedPublicKey::new(algorithm, public.string().unwrap()).verify(b"data", &fixed).unwrap();
}

#[test]
fn says_what_to_do_about_a_key_it_cannot_use() {
    let check = |pem: &Secret, part: &str| {
        let said = refused(pem);
        assert!(said.contains(part) && !said.contains('\n'), "`{part}` is not in {said}");
    };
    check(&Secret::new("swordfish"), "no private key");
    check(&pem("OPENSSH PRIVATE KEY", b"x"), "damaged");
    check(&openssh(b"aes256-ctr", b"ssh-ed25519", &[], b""), "ssh-add");
    check(&pem("ENCRYPTED PRIVATE KEY", b"x"), "passphrase");
    check(&openssh(b"none", b"ssh-dss", &[], b""), "`ssh-dss` is not known");
    check(&pem("EC PRIVATE KEY", b"x"), "ssh-keygen -p");
    check(&openssh(b"none", b"ssh-rsa", &[&[1][..]; 6], b""), "damaged");
    check(&openssh(b"none", b"ecdsa-sha2-nistp521", &[b"nistp521", b"", b""], b""), "nistp521");
}

#[test]
fn a_key_on_one_line_is_a_key() {
    let text = ed25519().expose_str().unwrap().trim().replace('\n', "\\n");
    Key::parse(&Secret::new(text)).unwrap();
}

#[test]
fn answers_two_questions_only() {
    let keys = [Key::parse(&ed25519()).unwrap()];
    // Add, remove, remove all, lock, an extension, and nothing.
    for request in [&[17][..], &[18], &[19], &[22, 0, 0, 0, 0], &[27], &[], &[13, 0, 0, 0, 9]] {
        assert_eq!(key::answer(&keys, request), [wire::FAILURE], "{request:?}");
    }
    assert_eq!(key::answer(&keys, &sign_request(b"other", 0)), [wire::FAILURE]);
}

async fn ask(client: &mut UnixStream, request: &[u8]) -> Vec<u8> {
    wire::write(client, request).await.unwrap();
    wire::read(client).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_agent_behind_a_socket_is_asked_two_questions_only() {
    let place = tempfile::tempdir().unwrap();
    let keys = Agent::open(&AgentSource::Key(ed25519())).unwrap();
    let access = Access { mode: 0o640, owner: None };
    let reporter: std::sync::Arc<dyn crate::progress::Reporter> = std::sync::Arc::new(Silent);
    let serve = |agent: Agent, name: &str| {
        serve(agent.into(), place.path(), name, access, std::sync::Arc::clone(&reporter)).unwrap()
    };
    let behind = serve(keys, "behind");
    let path = place.path().join("behind");
    let agent = Agent::open(&AgentSource::Paths(vec![path.clone()])).unwrap();
    assert!(matches!(agent, Agent::Socket(_)));
    let _front = serve(agent, "front");
    let mut client = UnixStream::connect(place.path().join("front")).await.unwrap();
    assert_eq!(ask(&mut client, &[19]).await, [wire::FAILURE]);
    let (name, _) = first_identity(&ask(&mut client, &[wire::REQUEST_IDENTITIES]).await);
    assert_eq!(ask(&mut client, &sign_request(&name, 0)).await[0], wire::SIGNATURE);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777,
        0o640
    );
    // With the agent behind it gone the conversation ends.
    drop((behind, client));
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let mut client = UnixStream::connect(place.path().join("front")).await.unwrap();
    wire::write(&mut client, &[wire::REQUEST_IDENTITIES]).await.unwrap();
    assert!(wire::read(&mut client).await.is_ok_and(|answer| answer.is_none()));
    // So does one with a message longer than any.
    let mut client = UnixStream::connect(place.path().join("front")).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut client, &[0xff; 8]).await.unwrap();
    assert!(wire::read(&mut client).await.ok().flatten().is_none());
}

#[test]
fn a_socket_stands_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = Agent::open(&AgentSource::Paths(vec![path.clone(), path])).unwrap_err();
    assert!(matches!(error, Error::SocketAmongKeys { .. }));
    let error = Agent::open(&AgentSource::Paths(vec!["/no/such/key".into()])).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
}
