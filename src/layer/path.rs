//! Names in layers: cleaned at the door, compared as `Path` compares them.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Linux' PATH_MAX without the NUL.
pub(super) const LONGEST_PATH: usize = 4095;
/// Linux' NAME_MAX.
const LONGEST_NAME: usize = 255;

/// A name of a tar as a path below the root: leading slashes and `.` dropped,
/// everything else that is not a plain path refused.
pub(super) fn clean(name: &[u8]) -> Result<PathBuf, Error> {
    let unsafe_name = |reason| Error::UnsafeName { path: shortened(name), reason };
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(unsafe_name("it climbs with `..`")),
            _ if component.contains(&0) => return Err(unsafe_name("it contains a NUL byte")),
            _ if component.len() > LONGEST_NAME => {
                return Err(unsafe_name("a component is longer than 255 bytes"));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    if path.len() > LONGEST_PATH {
        return Err(unsafe_name("it is longer than 4095 bytes"));
    }
    Ok(to_path(&path))
}

/// Whether `path` is what [`clean`] makes: the form that an index may hold.
pub(super) fn is_clean(path: &[u8]) -> bool {
    path.is_empty()
        || (path.len() <= LONGEST_PATH
            && path.split(|byte| *byte == b'/').all(|component| {
                !matches!(component, b"" | b"." | b"..")
                    && component.len() <= LONGEST_NAME
                    && !component.contains(&0)
            }))
}

/// The order of `PathBuf`, by components, of two clean paths: byte order with
/// `/` before every other byte, so that what lies below a directory follows it
/// directly.
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) if a[at] == b'/' => Ordering::Less,
        Some(at) if b[at] == b'/' => Ordering::Greater,
        Some(at) => a[at].cmp(&b[at]),
        None => a.len().cmp(&b.len()),
    }
}

/// Whether `path` lies strictly below `directory` (both clean).
pub(super) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

/// Parent and last name; `None` for the root.
pub(super) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

/// The strict ancestors of a clean path, the root excluded, from the top.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A name for an error message: hostile ones may have a megabyte, or codes
/// that a terminal obeys.
fn shortened(name: &[u8]) -> PathBuf {
    PathBuf::from(name[..name.len().min(256)].escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(clean(name.as_bytes()).ok(), expected.map(PathBuf::from), "{name}");
        };
        check("a/b", Some("a/b"));
        check("./a//b/", Some("a/b"));
        check("/etc/passwd", Some("etc/passwd"));
        check("./", Some(""));
        check("", Some(""));
        check("..a/.b", Some("..a/.b"));
        check("a/../b", None);
        check("../x", None);
        check("a\0b", None);
        check(&"n".repeat(256), None);
        check(&"n/".repeat(2100), None);
    }

    proptest! {
        #[test]
        fn order_is_that_of_paths(a in "[ab./-]{0,8}", b in "[ab./-]{0,8}") {
            if let (Ok(a), Ok(b)) = (clean(a.as_bytes()), clean(b.as_bytes())) {
                prop_assert!(is_clean(bytes(&a)));
                prop_assert_eq!(compare(bytes(&a), bytes(&b)), a.cmp(&b));
                prop_assert_eq!(is_below(bytes(&a), bytes(&b)), a != b && a.starts_with(&b));
            }
        }
    }
}
