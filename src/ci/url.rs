//! Repository URLs as a label may show them: https, no user, no `.git`.

/// Cleans a repository URL: `git@host:path` and `ssh://` become https and lose
/// their port, and user information, query, `.git` and trailing slashes go. User
/// information is where job tokens hide.
pub fn clean_url(url: &str) -> String {
    let url = url.trim();
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => ("http", rest.to_owned()),
        Some(("ssh" | "git+ssh" | "git", rest)) => ("https", without_port(rest)),
        Some((_, rest)) => ("https", rest.to_owned()),
        None => ("https", scp_form(url)),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") }
}

/// What follows the host, without slashes at its ends: `owner/repository`.
pub fn url_path(cleaned: &str) -> Option<&str> {
    let (_, rest) = cleaned.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    (!path.is_empty()).then_some(path)
}

/// `git@host:path` (scp's way to write it) as `git@host/path`.
fn scp_form(url: &str) -> String {
    match url.split_once(':') {
        Some((host, path)) if !host.contains('/') => format!("{host}/{}", path.trim_start_matches('/')),
        _ => url.to_owned(),
    }
}

/// Cuts the port: an ssh port means nothing to https.
fn without_port(rest: &str) -> String {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    format!("{authority}/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans() {
        for (given, expected) in [
            ("git@g.example.com:o/r.git", "https://g.example.com/o/r"),
            ("ssh://git@g.example.com:2222/o/r.git", "https://g.example.com/o/r"),
            ("https://u:p@g.example.com/o/r.git/", "https://g.example.com/o/r"),
            ("https://u:p@ss@g.example.com/o/r", "https://g.example.com/o/r"),
            ("https://g.example.com:8443/o/r?token=x#y", "https://g.example.com:8443/o/r"),
            ("http://bitbucket.org/o/r", "http://bitbucket.org/o/r"),
            ("https://g.example.com/", "https://g.example.com"),
        ] {
            assert_eq!(clean_url(given), expected, "{given}");
        }
        assert_eq!(url_path("https://g.example.com/o/r"), Some("o/r"));
        assert_eq!(url_path("https://g.example.com"), None);
    }
}
