//! `coracle images`: the names in the state directory.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::arguments::ImagesArguments;
use super::door::{list_images, state_directory};
use super::failure::Failure;
use crate::image::{Digest, Reference};

/// Prints one line per name: name, a tab, digest.
///
/// # Errors
/// When the state directory cannot be read. One that does not exist has no images.
pub(super) fn run(
    arguments: &ImagesArguments,
    environment: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let root = state_directory(arguments.state_dir.as_deref(), environment)?;
    if !root.exists() {
        return Ok(());
    }
    let images = list_images(&root)?;
    print(&images, arguments.quiet, out).map_err(Failure::Print)
}

fn print(images: &[(Reference, Digest)], names_only: bool, out: &mut dyn Write) -> io::Result<()> {
    for (name, digest) in images {
        match names_only {
            true => writeln!(out, "{name}")?,
            false => writeln!(out, "{name}\t{digest}")?,
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_name() {
        let images = [("r.io/a:1".parse().unwrap(), Digest::of("x"))];
        let check = |names_only, expected: String| {
            let mut out = Vec::new();
            print(&images, names_only, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(true, "r.io/a:1\n".to_owned());
        check(false, format!("r.io/a:1\t{}\n", Digest::of("x")));
    }
}
