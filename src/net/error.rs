//! What can go wrong between here and a server, told by cause.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use reqwest::Method;
use thiserror::Error;
use url::Url;

/// Why a request got no answer, or the client could not be made.
#[derive(Debug, Error)]
pub enum Error {
    /// No answer.
    #[error("{method} {url}: {}", .cause.describe(.authority))]
    NoAnswer {
        /// The verb.
        method: Method,
        /// Where, without query and user name.
        url: String,
        /// `host:port` that was to be reached.
        authority: String,
        /// Why.
        cause: Cause,
        /// A proxy was to be used: what cannot be reached may be that.
        proxied: bool,
        /// What the HTTP library said; it carries no URL.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// A redirect leads where nothing may be sent.
    #[error("{method} {url}: the server points to `{target}`, {reason}")]
    Forbidden {
        /// The verb.
        method: Method,
        /// Who pointed there, without query and user name.
        url: String,
        /// Where to.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// The body's file cannot be read.
    #[error("cannot read `{path}`")]
    Body {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate that was given cannot be used.
    #[error("the certificates given for `{host}` cannot be used: {reason}")]
    Certificates {
        /// The host they are for.
        host: String,
        /// Why.
        reason: String,
    },
    /// A proxy variable holds no usable address.
    #[error("`{variable}` is not a proxy address this program can use")]
    Proxy {
        /// The variable; its value may hold a password.
        variable: String,
    },
    /// rustls or reqwest refuse their configuration.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No address for the name.
    UnknownHost,
    /// Nobody listens.
    ConnectionRefused,
    /// The proxy does not let us through.
    Proxy,
    /// The peer does not speak TLS.
    NotTls,
    /// The peer's certificate is not trusted; what rustls said.
    Certificate(String),
    /// Another TLS failure; what rustls said.
    Tls(String),
    /// No byte moved for too long.
    Timeout,
    /// The connection broke.
    Broken,
    /// Another failure before a connection stood.
    NotConnected,
    /// More redirects than are followed.
    TooManyRedirects,
    /// The answer is not HTTP, or a redirect leads nowhere.
    Malformed,
}

impl Cause {
    fn describe(&self, authority: &str) -> String {
        match self {
            Self::UnknownHost => format!("`{authority}` is unreachable: no address for this host name"),
            Self::ConnectionRefused => format!("`{authority}` is unreachable: connection refused"),
            Self::Proxy => format!("`{authority}` is unreachable through the proxy"),
            Self::NotTls => format!("`{authority}` does not speak HTTPS"),
            Self::Certificate(text) => format!("the certificate of `{authority}` is not trusted ({text})"),
            Self::Tls(text) => format!("no TLS connection to `{authority}` ({text})"),
            Self::Timeout => format!("`{authority}` did not answer in time"),
            Self::Broken => format!("the connection to `{authority}` broke"),
            Self::NotConnected => format!("`{authority}` is unreachable"),
            Self::TooManyRedirects => "too many redirects".to_owned(),
            Self::Malformed => format!("`{authority}` did not answer in HTTP"),
        }
    }

    /// Reads the cause out of what reqwest reports: the kinds that matter here
    /// are only in its chain of sources.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::of_tls(tls);
        }
        if error.is_timeout() {
            return Self::Timeout;
        }
        let chain = chain_text(error);
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return Self::ConnectionRefused,
            Some(io::ErrorKind::TimedOut) => return Self::Timeout,
            _ if chain.contains("dns error") => return Self::UnknownHost,
            _ if chain.contains("tunnel") || chain.contains("proxy") => return Self::Proxy,
            _ if error.is_connect() => return Self::NotConnected,
            _ => {}
        }
        if chain.contains("invalid HTTP") { Self::Malformed } else { Self::Broken }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::InvalidCertificate(why) => Self::Certificate(why.to_string()),
            other => Self::Tls(other.to_string()),
        }
    }

    /// Whether the next try may go better.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Timeout | Self::Broken | Self::ConnectionRefused | Self::NotConnected)
    }

    /// Whether no connection ever stood: the host is not there for us.
    pub fn is_unreachable(&self) -> bool {
        !matches!(self, Self::TooManyRedirects | Self::Malformed)
    }
}

impl Error {
    /// The cause, where no answer came.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::NoAnswer { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let Self::NoAnswer { authority, cause, proxied, .. } = self else { return None };
        let name = authority.strip_suffix(":443").unwrap_or(authority);
        match cause {
            Cause::NotTls => Some(format!(
                "if `{authority}` serves plain HTTP on purpose, allow it with `--insecure-registry {name}`"
            )),
            Cause::Certificate(_) => Some(format!(
                "give the CA that signed it (`SSL_CERT_FILE`), or accept any certificate with `--skip-tls-verify {name}`"
            )),
            Cause::UnknownHost | Cause::ConnectionRefused | Cause::NotConnected if *proxied => Some(format!(
                "a proxy is set: check the proxy variables; `NO_PROXY={authority}` goes around it"
            )),
            Cause::UnknownHost | Cause::ConnectionRefused | Cause::NotConnected => {
                Some(format!("check that `{authority}` is right and can be reached from this runner"))
            }
            Cause::Proxy => Some(format!("check the proxy variables; `NO_PROXY={authority}` goes around it")),
            _ => None,
        }
    }
}

/// A URL fit for a log: signed URLs carry secrets in their query.
pub(super) fn redacted(url: &Url) -> String {
    let mut clean = url.clone();
    clean.set_query(None);
    clean.set_fragment(None);
    // Both fail only for URLs without a host, and those are never requested.
    let _ = clean.set_username("");
    let _ = clean.set_password(None);
    if url.query().is_some() { format!("{clean}?…") } else { clean.to_string() }
}

/// The first error of type `T` in the chain. `io::Error::source` skips the
/// error it wraps, so that one is looked at too.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| find(inner)) {
            return Some(found);
        }
        next = current.source();
    }
    None
}

fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(current) = next {
        text.push_str(&current.to_string());
        text.push('\n');
        next = current.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_may_be_secret() {
        for (url, expected) in [
            ("https://u:p@r.io/v2/?sig=abc", "https://r.io/v2/?…"),
            ("https://r.io/v2/#x", "https://r.io/v2/"),
        ] {
            assert_eq!(redacted(&Url::parse(url).unwrap()), expected);
        }
    }
}
