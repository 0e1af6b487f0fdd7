//! What it costs to see what a RUN changed in a plain directory: processor time
//! and memory, in a process that does nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use coracle::rootfs::Snapshot;

use super::bench::Bench;
use super::{SCAN, switch};

/// Names made, found to have changed, seconds of processor time for the list
/// and for the comparison, and the peak of the process' memory in KiB.
#[derive(Clone, Copy, Debug)]
struct Cost {
    entries: usize,
    suspects: usize,
    list: f64,
    compare: f64,
    peak: u64,
}

/// Makes a tree of about `entries` names in `directory`, lists it, changes
/// little, and compares; the cost as one line.
pub(crate) fn perform(entries: usize, directory: &Path) -> io::Result<String> {
    let root = directory.join("root");
    let made = make_tree(&root, entries)?;
    let started = processor_time()?;
    let before = Snapshot::take(&root, directory).map_err(io::Error::other)?;
    let listed = processor_time()?;
    for number in 0..10 {
        fs::write(root.join(format!("flat/file-{number}")), "changed")?;
    }
    fs::remove_dir_all(root.join("tree-0"))?;
    let changed = processor_time()?;
    let suspects = before.count_suspects(&root, directory).map_err(io::Error::other)?;
    let compared = processor_time()?;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let peak = peak.trim().trim_end_matches(" kB");
    Ok(format!("{made} {suspects} {} {} {peak}", listed - started, compared - changed))
}

/// A quarter of the names in one directory, the others in directories of 40.
fn make_tree(root: &Path, entries: usize) -> io::Result<usize> {
    const EACH: usize = 40;
    fs::create_dir_all(root.join("flat"))?;
    let mut made = 2;
    for number in 0..entries / 4 {
        fs::write(root.join(format!("flat/file-{number}")), "")?;
        made += 1;
    }
    let mut number = 0;
    while made < entries {
        let directory = root.join(format!("tree-{}/package-{number}", number % 50));
        fs::create_dir_all(&directory)?;
        for file in 0..EACH - 3 {
            fs::write(directory.join(format!("some-module-{file}.js")), "")?;
        }
        symlink("some-module-0.js", directory.join("index.js"))?;
        fs::hard_link(directory.join("some-module-1.js"), directory.join("linked.js"))?;
        (made, number) = (made + EACH, number + 1);
    }
    Ok(made)
}

/// Seconds, of this thread, which is the only one.
fn processor_time() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    Ok(nanoseconds.unwrap_or(0) as f64 / 1e9)
}

fn cost(bench: &Bench, entries: usize) -> Cost {
    let directory = bench.directory();
    let mut command = Command::new("/proc/self/exe");
    command.args([SCAN, &entries.to_string()]).arg(directory.path()).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<f64> = text.split_whitespace().map(|field| field.parse().unwrap()).collect();
    let [entries, suspects, list, compare, peak] = fields[..] else { panic!("{text:?}") };
    Cost { entries: entries as usize, suspects: suspects as usize, list, compare, peak: peak as u64 }
}

/// What memory a tree needs besides: its largest directory's names.
const MOST_FOR_EIGHT_TIMES_THE_TREE_KIB: u64 = 2 << 10;
const MOST_KIB: u64 = 96 << 10;

/// `CORACLE_SCAN_ENTRIES` names, or 16,000, in the memory of 2,000. Says what
/// it took; time is not judged here (`bench/changes.sh`).
pub(crate) fn scans_in_little_memory(bench: &Bench) {
    let wanted = switch("CORACLE_SCAN_ENTRIES").and_then(|number| number.to_str()?.parse().ok());
    let small = cost(bench, 2_000);
    let large = cost(bench, wanted.unwrap_or(16_000));
    println!(
        "scan: {} names: {:.2} s to list, {:.2} s to compare (processor time), peak {} KiB, {} suspects",
        large.entries, large.list, large.compare, large.peak, large.suspects
    );
    assert!(small.suspects > 10 && large.suspects > 10, "{large:?}");
    assert!(large.suspects < large.entries, "{large:?}");
    let more = large.peak.saturating_sub(small.peak);
    assert!(large.peak < MOST_KIB, "{large:?}");
    if wanted.is_none() {
        assert!(more < MOST_FOR_EIGHT_TIMES_THE_TREE_KIB, "{small:?} {large:?}");
    }
}
