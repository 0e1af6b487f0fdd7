//! One HTTP client for everything that leaves the machine: registries, token
//! servers, contexts and ADD sources.
//!
//! It promises: TLS by rustls with ring; certificates checked against the
//! system's CA files, or bundled ones where an image has none; plain HTTP only
//! to this machine and to declared hosts; redirects followed here, without the
//! Authorization header once the host changes; retries with backoff in one
//! place; no wait without a limit. What a status means is left to the caller:
//! every final answer, 404 and 503 alike, is a [`Response`].

mod client;
mod error;
mod host;
mod proxy;
mod request;
mod response;
mod retry;
mod roots;
mod tls;

pub use client::{ExtraCertificates, Http, Options};
pub use error::{Cause, Error};
pub use host::is_loopback;
pub use request::{Body, Request};
pub use reqwest::{Method, StatusCode, header};
pub use response::Response;
pub use retry::{Backoff, RetryPolicy};
pub use url::Url;

#[cfg(test)]
mod tests;
