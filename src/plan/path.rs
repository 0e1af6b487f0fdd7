//! Paths of the image as texts: lexical, always absolute, never above the root.

/// `path` seen from `directory`, without `.`, `..` and doubled slashes.
pub(super) fn join(directory: &str, path: &str) -> String {
    let start = if path.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The same for the target of a COPY, where a slash at the end means a directory.
/// `.`, `x/.` and the empty path mean one too.
pub(super) fn destination(directory: &str, path: &str) -> String {
    let clean = join(directory, path);
    let wants_directory = matches!(path, "" | ".") || path.ends_with('/') || path.ends_with("/.");
    if wants_directory && clean != "/" { clean + "/" } else { clean }
}

/// The last part; empty for the root.
pub(super) fn last(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_clean() {
        let check = |directory: &str, path: &str, expected: &str| {
            assert_eq!(destination(directory, path), expected, "{directory} {path}");
        };
        check("/", "a", "/a");
        check("/w", "a/", "/w/a/");
        check("/w", ".", "/w/");
        check("/w", "", "/w/");
        check("/w", "./a/.", "/w/a/");
        check("/w", "../../..", "/");
        check("/w/x", "..", "/w");
        check("/w", "/", "/");
        check("/w", "/a//b/./c", "/a/b/c");
        check("/w", "..a", "/w/..a");
    }
}
