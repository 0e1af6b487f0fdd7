//! The conductor: a [`BuildRequest`] in, an [`Outcome`] out.
//!
//! Only this room knows most others; nobody but the doors knows it.

mod request;

pub use request::{
    BuildRequest, CachePolicy, ContextSource, Destination, DockerfileSource, ErrorKind, Outcome, Output,
    SecretSource,
};
