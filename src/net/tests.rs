//! Whom the client believes, where it goes through a proxy, and what it says
//! when it does not get through. The servers here are reached through a proxy
//! that takes every name to this machine: loopback names have rules of their own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Cause, Error, ExtraCertificates, Http, Options, Request, RetryPolicy, Url};
use crate::progress::Silent;

const SELF_SIGNED: &str = include_str!("../../tests/support/certificates/selfsigned.pem");
const SIGNED: &str = include_str!("../../tests/support/certificates/signed.pem");
const AUTHORITY: &str = include_str!("../../tests/support/certificates/authority.pem");

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

/// Reads a head, up to the empty line.
fn head(stream: &mut impl Read) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    String::from_utf8(text).ok()
}

/// Serves connections on a thread, for as long as the test binary runs.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn plain_server() -> u16 {
    listen(|mut stream| {
        // A TLS greeting has no empty line: answer what cannot be read, as servers do.
        let mut first = [0];
        if stream.read_exact(&mut first).is_ok() && first[0] != 0x16 {
            head(&mut stream);
            let _ = stream.write_all(ANSWER);
        } else {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    })
}

fn tls_server(pem: &'static str) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    listen(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        // Clients that refuse the certificate break off here.
        if head(&mut stream).is_some() {
            let _ = stream.write_all(ANSWER);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

/// A proxy that takes `CONNECT anything:443` to one port and `:80` to another.
fn proxy(secure: u16, plain: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    let port = listen(move |mut stream| {
        let Some(text) = head(&mut stream) else { return };
        let line = text.lines().next().unwrap_or_default().to_owned();
        seen.lock().unwrap().push(line.clone());
        if !line.starts_with("CONNECT") {
            let mut server = TcpStream::connect(("127.0.0.1", plain)).unwrap();
            server.write_all(text.as_bytes()).unwrap();
            let _ = std::io::copy(&mut server, &mut stream);
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", secure)).unwrap();
        let (mut back, mut from) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut back);
            let _ = back.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut stream, &mut server);
        let _ = server.shutdown(std::net::Shutdown::Both);
    });
    (port, log)
}

fn options(proxy: u16) -> Options {
    let address = format!("http://127.0.0.1:{proxy}");
    let names = ["http_proxy", "https_proxy"];
    Options {
        environment: names
            .iter()
            .map(|name| ((*name).to_owned(), address.clone()))
            .collect::<BTreeMap<_, _>>(),
        idle_timeout: Duration::from_secs(5),
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        ..Options::default()
    }
}

fn extra(host: Option<&str>, pem: &str) -> ExtraCertificates {
    ExtraCertificates { host: host.map(str::to_owned), pem: pem.as_bytes().to_vec() }
}

async fn ask(options: Options, url: &str) -> Result<u16, Error> {
    let http = Http::new(options, Arc::new(Silent))?;
    let mut response = http.send(&Request::get(Url::parse(url).unwrap())).await?;
    assert_eq!(response.bytes(10).await?, Some(b"hi".to_vec()));
    Ok(response.status().as_u16())
}

/// Asks `https://NAME/` of a server with a certificate, and says why it failed.
async fn check(pem: &'static str, change: impl Fn(&mut Options), name: &str, expected: Option<&str>) {
    let (proxy, _) = proxy(tls_server(pem), plain_server());
    let mut options = options(proxy);
    change(&mut options);
    let outcome = ask(options, &format!("https://{name}/")).await;
    let failure = outcome.err().map(|error| match error.cause() {
        Some(Cause::Certificate(_)) => "certificate",
        _ => panic!("{error} {error:?}"),
    });
    assert_eq!(failure, expected);
}

#[tokio::test]
async fn certificates_are_believed_for_a_reason() {
    let refused = Some("certificate");
    check(SELF_SIGNED, |_| {}, "registry.test", refused).await;
    check(SIGNED, |_| {}, "registry.test", refused).await;
    // The very certificate, though openssl marks it as an authority.
    let own = |host: Option<&'static str>| {
        move |options: &mut Options| options.extra_certificates.push(extra(host, SELF_SIGNED))
    };
    check(SELF_SIGNED, own(None), "registry.test", None).await;
    check(SELF_SIGNED, own(Some("registry.test")), "registry.test", None).await;
    check(SELF_SIGNED, own(Some("other.test")), "registry.test", refused).await;
    check(SELF_SIGNED, own(None), "wrong-name.test", refused).await;
    let authority = |options: &mut Options| options.extra_certificates.push(extra(None, AUTHORITY));
    check(SIGNED, authority, "registry.test", None).await;
    check(SIGNED, authority, "wrong-name.test", refused).await;
    check(SELF_SIGNED, authority, "registry.test", refused).await;
}

#[tokio::test]
async fn certificates_of_declared_hosts_are_not_asked_for() {
    let skip = |options: &mut Options| options.skip_tls_verify.push("registry.test".to_owned());
    check(SELF_SIGNED, skip, "registry.test", None).await;
    check(SELF_SIGNED, skip, "other.test", Some("certificate")).await;
    let insecure = |options: &mut Options| options.insecure_hosts.push("registry.test:443".to_owned());
    check(SELF_SIGNED, insecure, "registry.test", None).await;
}

#[tokio::test]
async fn plain_http_only_where_it_is_allowed() {
    let plain = plain_server();
    let (proxy, _) = proxy(plain, plain);
    let error = ask(options(proxy), "https://registry.test/").await.unwrap_err();
    assert_eq!(error.cause(), Some(&Cause::NotTls), "{error:?}");
    assert!(error.hint().unwrap().contains("`--insecure-registry registry.test`"));
    for (declared, expected) in [(true, "http://registry.test/"), (false, "https://registry.test/")] {
        let mut options = options(proxy);
        if declared {
            options.insecure_hosts.push("registry.test".to_owned());
        }
        let http = Http::new(options, Arc::new(Silent)).unwrap();
        assert_eq!(http.origin("registry.test").await.unwrap().as_str(), expected);
    }
}

#[tokio::test]
async fn an_insecure_host_that_speaks_tls_is_spoken_to_so() {
    let (proxy, _) = proxy(tls_server(SELF_SIGNED), plain_server());
    let mut options = options(proxy);
    options.insecure_hosts.push("registry.test".to_owned());
    let http = Http::new(options, Arc::new(Silent)).unwrap();
    assert_eq!(http.origin("registry.test").await.unwrap().as_str(), "https://registry.test/");
}

#[tokio::test]
async fn this_machine_is_reached_past_the_proxy_and_over_either_protocol() {
    let (proxy, log) = proxy(1, 1);
    for (port, scheme) in [(plain_server(), "http"), (tls_server(SELF_SIGNED), "https")] {
        let http = Http::new(options(proxy), Arc::new(Silent)).unwrap();
        let host = format!("127.0.0.1:{port}");
        let origin = http.origin(&host).await.unwrap();
        assert_eq!(origin.as_str(), format!("{scheme}://{host}/"));
    }
    assert_eq!(*log.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = ask(options(gone), "https://registry.test/").await.unwrap_err();
    assert_eq!(error.cause(), Some(&Cause::ConnectionRefused));
    assert!(error.hint().unwrap().contains("check the proxy variables"));
}

#[tokio::test]
async fn a_host_is_only_a_host() {
    let http = Http::new(Options::default(), Arc::new(Silent)).unwrap();
    for host in ["a/b", "u:p@a", "a?b", "a#b", ""] {
        assert!(http.origin(host).await.is_err(), "{host}");
    }
}

#[test]
fn plain_http_leads_on_to_plain_http_only_where_that_was_asked_for() {
    let http = Http::new(Options::default(), Arc::new(Silent)).unwrap();
    let check = |request: &Request, target: &str, allowed: bool| {
        let target = Url::parse(target).unwrap();
        assert_eq!(http.check_redirect(request, &target).is_ok(), allowed, "{} to {target}", request.url);
    };
    let get = |url: &str| Request::get(Url::parse(url).unwrap());
    check(&get("http://a.example/x"), "http://b.example/y", false);
    let plain = get("http://a.example/x").plain_onward();
    check(&plain, "http://b.example/y", true);
    check(&plain, "https://b.example/y", true);
    check(&plain, "ftp://b.example/y", false);
    check(&plain, "http://169.254.169.254/y", false);
    check(&get("https://a.example/x").plain_onward(), "http://b.example/y", false);
}
