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

/// A working directory as BuildKit writes it into the config: an absolute one as it
/// is, `//` and `..` included, a relative one joined and clean, an empty one as before.
pub(super) fn workdir(current: &str, wanted: &str) -> String {
    match wanted {
        "" if current.starts_with('/') => current.to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => join(&join("/", current), relative),
    }
}

/// The same for a Windows image, with slashes and without the drive, which must be `C:`.
pub(super) fn windows_workdir(current: &str, wanted: &str) -> String {
    let plain = |path: &str| {
        let path = path.replace('\\', "/");
        path.strip_prefix("C:").or(path.strip_prefix("c:")).unwrap_or(&path).to_owned()
    };
    join(&plain(current), &plain(wanted))
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
    fn working_directories_are_kept_as_written() {
        let check = |current: &str, wanted: &str, expected: &str| {
            assert_eq!(workdir(current, wanted), expected, "{current} {wanted}");
        };
        check("/", "/x//y/../w/", "/x//y/../w/");
        check("/a/", "b/../c/", "/a/c");
        check("/a/", "", "/a/");
        check("", "", "/");
        check("rel", "sub", "/rel/sub");
        check("/a", "../..", "/");
    }

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
