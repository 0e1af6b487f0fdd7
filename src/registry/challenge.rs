//! `WWW-Authenticate`: several headers, several challenges in each
//! (RFC 9110 section 11.6.1).

use crate::net::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants us to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Fetch a token and show that.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        /// `invalid_token`, `insufficient_scope` (RFC 6750 section 3.1).
        error: Option<String>,
    },
    /// Show the user name and password.
    Basic,
}

/// The challenge to follow: Bearer before Basic; others are not understood.
pub(super) fn choose(headers: &HeaderMap) -> Option<Challenge> {
    let parsed: Vec<Raw> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect();
    let bearer = parsed.iter().filter(|raw| raw.scheme == "bearer").find_map(|raw| {
        Some(Challenge::Bearer {
            realm: raw.get("realm")?,
            service: raw.get("service"),
            scope: raw.get("scope"),
            error: raw.get("error"),
        })
    });
    bearer.or_else(|| parsed.iter().any(|raw| raw.scheme == "basic").then_some(Challenge::Basic))
}

#[derive(Debug, PartialEq, Eq)]
struct Raw {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Raw {
    fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.parameters.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then(|| value.clone())
    }
}

/// A word followed by `=` is a parameter of the challenge before it; any other
/// word begins a challenge.
fn parse(header: &str) -> Vec<Raw> {
    let mut challenges: Vec<Raw> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        if end == 0 {
            // At the end, or at a stray `=`, which no grammar allows: stop there.
            return challenges;
        }
        let word = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        match (rest.trim_start().strip_prefix('='), challenges.last_mut()) {
            (Some(after), Some(challenge)) => {
                let (value, left) = value(after.trim_start());
                challenge.parameters.push((word, value));
                rest = left;
            }
            _ => challenges.push(Raw { scheme: word, parameters: Vec::new() }),
        }
    }
}

/// A quoted or bare value, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut out = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return (out, &quoted[index + 1..]),
            '\\' => out.extend(characters.next().map(|(_, escaped)| escaped)),
            other => out.push(other),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::header::HeaderValue;

    fn check(headers: &[&str], expected: Option<Challenge>) {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_str(header).unwrap());
        }
        assert_eq!(choose(&map), expected, "{headers:?}");
    }

    fn bearer(
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        error: Option<&str>,
    ) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: own(service),
            scope: own(scope),
            error: own(error),
        })
    }

    #[test]
    fn challenges() {
        check(&[], None);
        check(&["Negotiate"], None);
        check(&["Basic realm=\"x, y\""], Some(Challenge::Basic));
        check(&["BASIC"], Some(Challenge::Basic));
        check(
            &["Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull,push\""],
            bearer("https://a/t", Some("s"), Some("repository:a:pull,push"), None),
        );
        check(
            &["Basic realm=x, bearer Realm=https://a/t , error = \"invalid_token\""],
            bearer("https://a/t", None, None, Some("invalid_token")),
        );
        check(&["Basic realm=\"x\"", "Bearer realm=\"h\\\"i\""], bearer("h\"i", None, None, None));
        check(&["Bearer service=\"no realm\", Basic realm=x"], Some(Challenge::Basic));
        check(&["=, =\"", "Bearer realm=\"unclosed"], bearer("unclosed", None, None, None));
    }
}
