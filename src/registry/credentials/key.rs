//! Keys of docker config files and logins: `host[:port][/path]`, in all the
//! spellings there are.

/// What Docker Hub is called in config files (and was, over the years).
const HUB: [&str; 5] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"];

/// The one spelling of a key: no scheme, no trailing slash, no API version,
/// lower-case host, no `:443`, `docker.io` for Docker Hub.
pub(super) fn normalise(key: &str) -> String {
    let key = key.trim();
    let key = strip_scheme(key).trim_end_matches('/');
    let key = ["/v1", "/v2"].iter().find_map(|version| key.strip_suffix(version)).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let (host, path) = match key.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (key, None),
    };
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let host = if HUB.contains(&host) { "docker.io" } else { host };
    match path {
        Some(path) => format!("{host}/{path}"),
        None => host.to_owned(),
    }
}

fn strip_scheme(key: &str) -> &str {
    ["https://", "http://"]
        .iter()
        .find_map(|scheme| {
            let head = key.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then(|| &key[scheme.len()..])
        })
        .unwrap_or(key)
}

/// The host of a normalised key.
pub(super) fn host_of(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

/// The keys to look for, most specific first: `host/a/b`, `host/a`, `host`.
pub(super) fn chain(host: &str, repository: &str) -> impl Iterator<Item = String> {
    let full = format!("{}/{repository}", normalise(host));
    let mut next = Some(full);
    std::iter::from_fn(move || {
        let current = next.take()?;
        next = current.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        Some(current)
    })
}

/// What a helper program is asked with.
pub(super) fn for_helper(host: &str) -> String {
    match normalise(host).as_str() {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (key, expected) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://registry.hub.docker.com/v2/", "docker.io"),
            ("R.io:443/Team/", "r.io/Team"),
            ("http://r.io:5000", "r.io:5000"),
            ("r.io/v2", "r.io"),
            ("HTTPS://r.io", "r.io"),
            ("é", "é"),
        ] {
            assert_eq!(normalise(key), expected, "{key}");
        }
    }

    #[test]
    fn most_specific_first() {
        let keys: Vec<_> = chain("R.io", "a/b").collect();
        assert_eq!(keys, ["r.io/a/b", "r.io/a", "r.io"]);
    }
}
