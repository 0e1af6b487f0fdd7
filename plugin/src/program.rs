//! Programs the image is asked to run instead of us: a command wins over settings.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle::ci::Environment;

/// The program that `name` means, as a shell would find it.
pub(crate) fn find(name: &OsStr, environment: &Environment) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if Path::new(name).components().count() > 1 || name.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let path = environment.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    path.split(':')
        .map(|directory| if directory.is_empty() { Path::new(".") } else { Path::new(directory) })
        .map(|directory| directory.join(name))
        .find(|path| is_program(path))
}

/// Becomes the program; returns only when that fails. The environment is passed
/// on unchanged.
pub(crate) fn become_it(program: &Path, arguments: &[OsString]) -> io::Error {
    let name = arguments.first().map_or(program.as_os_str(), |name| name.as_os_str());
    Command::new(program).arg0(name).args(arguments.iter().skip(1)).exec()
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_shell_finds() {
        let check = |name: &str, path: &str, expected: Option<&str>| {
            let environment = [("PATH".to_owned(), path.to_owned())].into();
            let found = find(OsStr::new(name), &environment);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{name} in {path}");
        };
        check("sh", "/nonexistent:/bin", Some("/bin/sh"));
        check("/bin/sh", "", Some("/bin/sh"));
        check("/bin", "", None);
        check("/etc/passwd", "", None);
        check("no-such-program", "/bin", None);
        check("", "/bin", None);
    }
}
