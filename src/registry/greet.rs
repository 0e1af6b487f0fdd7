//! Does a registry answer, and would it let us in? For `coracle doctor`.

use super::scope::Access;
use super::{Client, Error};
use crate::net::Request;

/// How a registry answered to `GET /v2/` (OCI distribution spec, "Determining Support").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What was asked, without query.
    pub url: String,
    /// The HTTP status when nothing was shown.
    pub status: u16,
    /// Its `Date` header.
    pub date: Option<String>,
    /// Whether it lets us in.
    pub login: Login,
}

/// Whether a registry lets us in. What we may do there is known per repository only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// It wants none.
    NotAsked,
    /// It took what was shown.
    Accepted {
        /// Where the credential comes from, or `no credentials`.
        who: String,
    },
    /// It wants more than was shown.
    Refused {
        /// Its words.
        reason: String,
    },
}

impl Client {
    /// Asks the registry at `host` (`docker.io`, or `host[:port]`) for its API,
    /// first as nobody, then with what is known for it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn greet(&self, host: &str) -> Result<Greeting, Error> {
        let no_answer = |source| Error::NoAnswer { registry: host.to_owned(), source: Box::new(source) };
        let origin = self.http.origin(super::client::api_host(host)).await.map_err(no_answer)?;
        let url = origin.join("v2/").expect("a plain path joins to every origin");
        let response = self.http.send(&Request::get(url.clone())).await.map_err(no_answer)?;
        let status = response.status().as_u16();
        let date = response.header("date").map(str::to_owned);
        let asked = response.log_url();
        let login = if status == 401 {
            // Without a repository the scope is empty, as for `docker login`.
            let access = Access {
                registry: host.to_owned(),
                repository: String::new(),
                action: "pull",
                mount_from: None,
            };
            match self.gate.send(&self.http, &origin, &access, Request::get(url)).await {
                Ok(answer) if answer.status().is_success() => {
                    Login::Accepted { who: self.gate.who(&access).await }
                }
                Ok(answer) => Login::Refused { reason: format!("HTTP status {}", answer.status().as_u16()) },
                Err(error @ Error::NoAnswer { .. }) => return Err(error),
                Err(Error::Unauthorized { who, reply, .. }) => {
                    Login::Refused { reason: format!("{who}: {reply}") }
                }
                Err(error) => Login::Refused { reason: error.to_string() },
            }
        } else {
            Login::NotAsked
        };
        Ok(Greeting { url: asked, status, date, login })
    }
}
