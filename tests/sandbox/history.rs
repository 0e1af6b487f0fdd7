//! Random histories of files, made by a program inside a RUN: this test program
//! itself, which says how the tree was before and after.
//!
//! What it does depends on a seed and on the tree, so it is the same wherever
//! the tree is. What two kinds of storage are known to answer differently
//! (README, "Limits") it leaves out: writing to files that are setuid or have
//! capabilities, rename(2) of directories of the base, and of a file of the base
//! with several names: changing it under two of them, and rename(2) of one of
//! them onto another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use coracle::image::Digest;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags};

/// Where everything happens.
const TOP: &str = "/w";

/// Does `operations` things in `/w` and describes it before and after; what was
/// tried goes between, one line each.
pub(crate) fn perform(seed: u64, operations: u32) -> io::Result<String> {
    let mut text = describe()?;
    let mut history = History::new(seed)?;
    text.push_str("--\n");
    for number in 0..operations {
        history.time = 1_000_000_001 + i64::try_from(seed % 1000).unwrap_or(0) * 1000 + i64::from(number);
        let done = history.step();
        let _ = writeln!(text, "{number} {} {:?}", history.said, done.map_err(|error| error.kind()));
    }
    text.push_str("--\n");
    text.push_str(&describe()?);
    Ok(text)
}

/// Each path on a line: inode, path, and then what counts in a layer.
fn describe() -> io::Result<String> {
    let mut text = String::new();
    let mut ahead = vec![PathBuf::from(TOP)];
    while let Some(path) = ahead.pop() {
        let stat = fs::symlink_metadata(&path)?;
        let kind = stat.file_type();
        let what = if kind.is_dir() {
            for child in fs::read_dir(&path)? {
                ahead.push(child?.path());
            }
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link {}", fs::read_link(&path)?.display())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_file() {
            format!("file {} {}", stat.size(), Digest::of(fs::read(&path)?))
        } else {
            format!("device {}", stat.rdev())
        };
        let below = path.strip_prefix("/").unwrap_or(&path).display();
        let attributes = if kind.is_file() || kind.is_dir() { attributes(&path)? } else { "{}".to_owned() };
        let _ = writeln!(
            text,
            "{}\t{below}\t{what}\t{:o} {}:{} {}\t{attributes}",
            stat.ino(),
            stat.mode() & 0o7777,
            stat.uid(),
            stat.gid(),
            stat.mtime()
        );
    }
    Ok(text)
}

fn attributes(path: &Path) -> io::Result<String> {
    let mut buffer = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut buffer[..])?;
    let mut found = BTreeMap::new();
    for name in buffer[..length].split(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(name).into_owned();
        if (name.starts_with("user.") && !name.starts_with("user.coracle.")) || name == CAPABILITY {
            let mut value = vec![0; 1024];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..])?;
            found.insert(name, value[..length].to_vec());
        }
    }
    Ok(format!("{found:?}"))
}

const CAPABILITY: &str = "security.capability";
/// Version 2, CAP_NET_RAW (linux/capability.h).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

struct History {
    random: u64,
    time: i64,
    /// Names of files of the base that have several.
    members: BTreeMap<PathBuf, Member>,
    /// Of those files that were changed: its first name → under which part.
    changed: BTreeMap<PathBuf, PathBuf>,
    /// Files that were given further names, by all of them.
    linked: BTreeSet<PathBuf>,
    /// Directories that nothing of the base shows through.
    made: BTreeSet<PathBuf>,
    said: String,
}

/// A name of a file of the base that has several.
#[derive(Clone)]
struct Member {
    /// What it was called in the base, the first of its names.
    file: PathBuf,
    /// The name of the base that it comes from: what overlayfs makes one file of.
    part: PathBuf,
}

const DIRECTORIES: [&str; 6] = ["/w", "/w/d", "/w/d/e", "/w/x", "/w/x/y", "/w/m"];
const NAMES: [&str; 7] = ["a", "b", "c", "one", "two", "e", "y"];

impl History {
    fn new(seed: u64) -> io::Result<Self> {
        let mut files: BTreeMap<u64, BTreeSet<PathBuf>> = BTreeMap::new();
        let mut ahead = vec![PathBuf::from(TOP)];
        while let Some(path) = ahead.pop() {
            let stat = fs::symlink_metadata(&path)?;
            if stat.is_dir() {
                for child in fs::read_dir(&path)? {
                    ahead.push(child?.path());
                }
            } else {
                files.entry(stat.ino()).or_default().insert(path);
            }
        }
        let mut members = BTreeMap::new();
        for names in files.into_values().filter(|names| names.len() > 1) {
            let first = names.first().cloned().unwrap_or_default();
            let member = |name: PathBuf| (name.clone(), Member { file: first.clone(), part: name });
            members.extend(names.into_iter().map(member));
        }
        Ok(Self {
            random: seed,
            time: 0,
            members,
            changed: BTreeMap::new(),
            linked: BTreeSet::new(),
            made: BTreeSet::new(),
            said: String::new(),
        })
    }

    fn below(&mut self, most: usize) -> usize {
        // Knuth's MMIX generator; the high bits are the good ones.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or(0) % most
    }

    fn path(&mut self) -> PathBuf {
        let directory = DIRECTORIES[self.below(DIRECTORIES.len())];
        Path::new(directory).join(NAMES[self.below(NAMES.len())])
    }

    /// Something that is there, or any name.
    fn target(&mut self) -> io::Result<PathBuf> {
        if self.below(3) == 0 {
            return Ok(self.path());
        }
        let mut all = BTreeSet::new();
        let mut ahead = vec![PathBuf::from(TOP)];
        while let Some(directory) = ahead.pop() {
            for child in fs::read_dir(&directory)? {
                let child = child?;
                if child.file_type()?.is_dir() {
                    ahead.push(child.path());
                }
                all.insert(child.path());
            }
        }
        let at = self.below(all.len().max(1));
        Ok(all.into_iter().nth(at).unwrap_or_else(|| PathBuf::from("/w/a")))
    }

    fn directory(&mut self) -> PathBuf {
        PathBuf::from(DIRECTORIES[1 + self.below(DIRECTORIES.len() - 1)])
    }

    /// One thing. An error is as good as a success: it must be the same one.
    fn step(&mut self) -> io::Result<()> {
        let operation = self.below(23);
        let (path, other) = (self.target()?, self.path());
        let number = self.below(1000);
        self.said = format!("{operation} {} {} {number}", path.display(), other.display());
        match operation {
            0 | 1 => self.write(&path, number, |options| options.create(true).truncate(true)),
            2 => self.write(&path, number, |options| options.append(true)),
            3 => self.in_place(&path, |_, path| {
                OpenOptions::new().write(true).open(path)?.set_len(number as u64 % 7)
            }),
            4 => self.in_place(&path, |_, path| {
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.seek(SeekFrom::Start(4096 * (number as u64 % 5)))?;
                file.write_all(b"sparse")
            }),
            5 => self.rewrite(&path),
            6 => self.touch(&path, |_, path| {
                let mode = [0o600, 0o755, 0o4755, 0o644, 0o1711][number % 5];
                match fs::symlink_metadata(path)?.is_symlink() {
                    true => Ok(()),
                    false => fs::set_permissions(path, PermissionsExt::from_mode(mode)),
                }
            }),
            7 => self.touch(&path, |_, path| lchown(path, Some(number as u32 % 3), None)),
            8 => self.touch(&path, |history, path| history.set_time(path)),
            9 => self.touch(&path, |_, path| set_seconds(path, 1_000_000_000)),
            10 => self.attribute(&path, number),
            11 => self.in_place(&path, |_, path| {
                Ok(rustix::fs::setxattr(path, CAPABILITY, &NET_RAW, XattrFlags::empty())?)
            }),
            12 => self.link(&path, &other),
            13 => {
                symlink(format!("target{number}"), &path)?;
                self.set_times(&path)
            }
            14 | 15 => self.rename_file(&path, &other),
            16 => self.rename_directory(other),
            17 => self.remove_file(&path),
            18 => self.remove_directory(&path, number),
            19 => self.replace(&path, number),
            20 => {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
                fs::set_permissions(&path, PermissionsExt::from_mode(0o640))?;
                self.set_times(&path)
            }
            21 => self.exchange(&path, &other),
            _ => {
                let directory = self.directory();
                self.make_directory(&directory)
            }
        }
    }

    fn write(
        &mut self,
        path: &Path,
        number: usize,
        how: fn(&mut OpenOptions) -> &mut OpenOptions,
    ) -> io::Result<()> {
        let exists = fs::symlink_metadata(path).is_ok();
        let write = |path: &Path| {
            let mut file = how(OpenOptions::new().write(true).mode(0o644)).open(path)?;
            file.write_all(format!("{number}\n").as_bytes())
        };
        if exists {
            return self.in_place(path, |_, path| write(path));
        }
        write(path)?;
        fs::set_permissions(path, PermissionsExt::from_mode(0o644))?;
        self.set_times(path)
    }

    /// Writes to a regular file, which is not setuid or setgid and has no
    /// capability.
    fn in_place(
        &mut self,
        path: &Path,
        work: impl FnOnce(&mut Self, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let stat = fs::symlink_metadata(path)?;
        if !stat.is_file() || stat.mode() & 0o6000 != 0 || attributes(path)?.contains(CAPABILITY) {
            return Ok(());
        }
        self.touch(path, |history, path| {
            work(history, path)?;
            history.set_time(path)
        })
    }

    /// Other bytes of the same length, or the same ones, and the old time.
    fn rewrite(&mut self, path: &Path) -> io::Result<()> {
        let stat = fs::symlink_metadata(path)?;
        let is_same = self.below(2) == 0;
        self.in_place(path, |_, path| {
            let mut bytes = fs::read(path)?;
            if let (Some(first), false) = (bytes.first_mut(), is_same) {
                *first ^= 1;
            }
            OpenOptions::new().write(true).open(path)?.write_all(&bytes)
        })?;
        self.touch(path, |_, path| set_seconds(path, stat.mtime()))
    }

    fn attribute(&mut self, path: &Path, number: usize) -> io::Result<()> {
        let stat = fs::symlink_metadata(path)?;
        if !stat.is_file() && !stat.is_dir() {
            return Ok(());
        }
        let name = ["user.a", "user.b"][number % 2];
        self.touch(path, |_, path| match number % 5 {
            0 => Ok(rustix::fs::removexattr(path, name)?),
            value => Ok(rustix::fs::setxattr(path, name, &[value as u8], XattrFlags::empty())?),
        })
    }

    /// Changes a file, unless it is one of the base that was changed under
    /// another name.
    fn touch(
        &mut self,
        path: &Path,
        work: impl FnOnce(&mut Self, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(Member { file, part }) = self.members.get(path).cloned()
            && *self.changed.entry(file).or_insert_with(|| part.clone()) != part
        {
            return Ok(());
        }
        work(self, path)
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(from)?.is_file() {
            return Ok(());
        }
        fs::hard_link(from, to)?;
        self.linked.extend([from.to_owned(), to.to_owned()]);
        if let Some(member) = self.members.get(from).cloned() {
            self.members.insert(to.to_owned(), member);
        }
        self.set_parent_time(to)
    }

    fn rename_file(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if fs::symlink_metadata(from)?.is_dir() || self.may_be_same(from, to) {
            return Ok(());
        }
        fs::rename(from, to)?;
        self.gone(to);
        if self.linked.remove(from) {
            self.linked.insert(to.to_owned());
        }
        if let Some(member) = self.members.remove(from) {
            self.members.insert(to.to_owned(), member);
        }
        self.set_parent_time(from)?;
        self.set_parent_time(to)
    }

    /// Of two names of one file rename(2) does nothing, and on overlayfs may
    /// say ESTALE, or remove one.
    fn may_be_same(&self, one: &Path, other: &Path) -> bool {
        let file = |path| self.members.get(path).map(|member| &member.file);
        (self.linked.contains(one) && self.linked.contains(other))
            || (file(one).is_some() && file(one) == file(other))
    }

    /// Two files, each with the other's name.
    fn exchange(&mut self, one: &Path, other: &Path) -> io::Result<()> {
        let is_directory = |path| Ok::<_, io::Error>(fs::symlink_metadata(path)?.is_dir());
        if is_directory(one)? || is_directory(other)? || self.may_be_same(one, other) {
            return Ok(());
        }
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
        let linked = [one, other].map(|path| self.linked.remove(path));
        let members = [one, other].map(|path| self.members.remove(path));
        let names = [other, one].map(Path::to_owned);
        self.linked.extend(names.iter().zip(linked).filter(|(_, is)| *is).map(|(name, _)| name.clone()));
        self.members
            .extend(names.into_iter().zip(members).filter_map(|(name, member)| Some((name, member?))));
        self.set_parent_time(one)?;
        self.set_parent_time(other)
    }

    /// Only one that was made here: overlayfs moves no other.
    fn rename_directory(&mut self, to: PathBuf) -> io::Result<()> {
        let Some(from) = self.made.iter().nth(self.random as usize % self.made.len().max(1)).cloned() else {
            return Ok(());
        };
        self.said = format!("{} of {}", self.said, from.display());
        let renamed = fs::rename(&from, &to);
        // A rename that overlayfs refuses may have moved the times all the same.
        self.set_parent_time(&from)?;
        self.set_parent_time(&to)?;
        renamed?;
        let moved = |path: &PathBuf| match path.strip_prefix(&from) {
            Ok(below) => to.join(below).components().collect(),
            Err(_) => path.clone(),
        };
        self.made = self.made.iter().map(moved).collect();
        self.linked = self.linked.iter().map(moved).collect();
        self.members = self.members.iter().map(|(path, member)| (moved(path), member.clone())).collect();
        Ok(())
    }

    fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
        self.made.insert(path.to_owned());
        self.set_times(path)
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        self.gone(path);
        self.set_parent_time(path)
    }

    fn remove_directory(&mut self, path: &Path, number: usize) -> io::Result<()> {
        let path = if number.is_multiple_of(3) { self.directory() } else { path.to_owned() };
        match number % 2 {
            0 => fs::remove_dir(&path)?,
            _ if fs::symlink_metadata(&path)?.is_dir() => fs::remove_dir_all(&path)?,
            _ => return Ok(()),
        }
        self.gone(&path);
        self.set_parent_time(&path)
    }

    /// A directory by a file, and the other way round.
    fn replace(&mut self, path: &Path, number: usize) -> io::Result<()> {
        let path = if number.is_multiple_of(2) { self.directory() } else { path.to_owned() };
        let is_directory = fs::symlink_metadata(&path)?.is_dir();
        match is_directory {
            true => fs::remove_dir_all(&path)?,
            false => fs::remove_file(&path)?,
        }
        self.gone(&path);
        if !is_directory {
            return self.make_directory(&path);
        }
        File::create(&path)?.write_all(b"file now\n")?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
        chown(&path, Some(1), Some(2))?;
        self.set_times(&path)
    }

    /// Whatever had this name, and names below it, has it no longer.
    fn gone(&mut self, path: &Path) {
        self.made.retain(|made| !made.starts_with(path));
        self.linked.retain(|name| !name.starts_with(path));
        self.members.retain(|name, _| !name.starts_with(path));
    }

    fn set_times(&self, path: &Path) -> io::Result<()> {
        self.set_time(path)?;
        self.set_parent_time(path)
    }

    fn set_time(&self, path: &Path) -> io::Result<()> {
        set_seconds(path, self.time)
    }

    /// A parent that is a file may be one that was changed under another name.
    fn set_parent_time(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new(TOP));
        match fs::symlink_metadata(parent)?.is_dir() {
            true => self.set_time(parent),
            false => Ok(()),
        }
    }
}

fn set_seconds(path: &Path, seconds: i64) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 7 },
    };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
