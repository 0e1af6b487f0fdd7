//! What each gzip level costs and saves: the table in `layer/compress.rs`.
//!
//!     cargo bench --bench gzip_level [DIRECTORY…]
//!
//! Packs the first 400 MB of files below the directories (default: this
//! machine's programs and documentation) as one layer per level, and prints
//! megabytes per CPU second (reading and hashing included) and the share of the
//! size that is left.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};

use coracle::layer::{Compression, Entry, Kind, LayerWriter, PackOptions};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const ENOUGH: u64 = 400_000_000;
const DEFAULT: [&str; 2] = ["/usr/bin", "/usr/share/doc"];

#[expect(clippy::print_stdout, reason = "a program for people")]
fn main() -> Result<(), Box<dyn Error>> {
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let tops = if named.is_empty() { DEFAULT.map(str::to_owned).to_vec() } else { named };
    let files = some_of(&tops)?;
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    println!(
        "{} files, {} MB\n\n| level | MB per CPU second | left |\n|---|---|---|",
        files.len(),
        total / 1_000_000
    );
    for level in 1..=6 {
        let before = cpu_seconds()?;
        let packed = pack(&files, level)?;
        let rate = total as f64 / 1e6 / (cpu_seconds()? - before);
        println!("| {level} | {rate:.0} | {:.3} |", packed as f64 / total as f64);
    }
    Ok(())
}

/// Regular files with their sizes, sorted within each directory, up to [`ENOUGH`]
/// bytes, the same share from each top.
fn some_of(tops: &[String]) -> Result<Vec<(PathBuf, u64)>, Box<dyn Error>> {
    let mut found = Vec::new();
    for top in tops {
        let mut room = ENOUGH / tops.len() as u64;
        collect(Path::new(top), &mut room, &mut found)?;
    }
    Ok(found)
}

fn collect(directory: &Path, room: &mut u64, found: &mut Vec<(PathBuf, u64)>) -> Result<(), Box<dyn Error>> {
    let mut entries = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        let size = entry.metadata()?.len();
        if kind.is_dir() {
            collect(&entry.path(), room, found)?;
        } else if kind.is_file() && size <= *room && File::open(entry.path()).is_ok() {
            *room -= size;
            found.push((entry.path(), size));
        }
    }
    Ok(())
}

fn pack(files: &[(PathBuf, u64)], level: u32) -> Result<u64, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let options = PackOptions { compression: Compression::Gzip { level }, ..PackOptions::default() };
    let mut writer = LayerWriter::create(directory.path(), options)?;
    for (number, (path, size)) in files.iter().enumerate() {
        let entry = Entry {
            path: PathBuf::from(format!("{number:08}")),
            kind: Kind::File { size: *size },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        };
        writer.append(&entry, Some(&mut File::open(path)?))?;
    }
    Ok(writer.finish()?.layer.size)
}

fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64 / 1e6)
}
