//! One file per case:
//!
//! ```text
//! What it is about, in a sentence.
//! row: 37                              the row of the language checklist
//! arg: --build-arg=A=1                 one argument of both builds
//! call: outline                        also ask for `--call=outline`
//! soak: why `make test` leaves it out
//! with: standard                       the files of `tests/judge/standard.files` first
//! differs: config.Env: why it may      a difference that is defended; `*` at the end of a place
//! -- image NAME --                     an image: BASE with this object merged into its config
//! {"config": {"Env": ["A=1"]}}
//! -- Dockerfile --                     NAME, BASE, AWKWARD and TARGETS stand for images of the registry
//! FROM BASE
//! -- dir/file mode=4755 --             a file of the context; `../x` lies beside the context
//! content
//! -- buildkit 0.25 --                  what BuildKit made of it: `picture.rs`
//! ```
//!
//! Attributes of a file: `mode=`, `uid=`, `gid=` (as root only), `mtime=` (seconds; else
//! [`TIME`]), `dir`, `link=TARGET`, `hard=FILE`, `fifo`, `socket`, `char=MAJOR:MINOR` (as
//! root only), `chop` (no newline at the end), `fill=N` (`@@@` stands for N times
//! `x`), `escapes` (`\r`, `\n`, `\t`, `\\` and `\xNN` in the content mean what they mean), `tar` and `tar=gz` (an archive; each line is
//! `KIND MODE UID:GID MTIME PATH [CONTENT or TARGET]`, kinds as in `ls -l`, `h` a hard link).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tar::{Builder, EntryType, Header};

use super::picture::Picture;
use crate::support::{Bench, base};

/// Every file of a context has this time: 2020-01-01.
const TIME: u64 = 1_577_836_800;

/// A case as its file says it.
pub(super) struct Case {
    /// `GROUP/NAME`.
    pub(super) name: String,
    path: PathBuf,
    head: Vec<(String, String)>,
    /// Place and reason.
    pub(super) differs: Vec<(String, String)>,
    /// Images that the registry serves, and what their config says.
    pub(super) images: Vec<(String, Value)>,
    files: Vec<File>,
    /// BuildKit's answer.
    pub(super) golden: Option<Picture>,
}

struct File {
    path: String,
    attributes: Vec<String>,
    content: String,
}

impl Case {
    /// Reads a case.
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let name = name(path);
        let mut sections = sections(&text);
        let head = header(&sections.remove(0).1);
        let mut case = Self {
            name,
            path: path.to_owned(),
            head,
            differs: Vec::new(),
            images: Vec::new(),
            files: Vec::new(),
            golden: None,
        };
        case.differs = case.all("differs").filter_map(|text| text.split_once(": ")).map(owned).collect();
        let shared: Vec<String> = case.all("with").map(str::to_owned).collect();
        for name in shared {
            let path = path.with_file_name(format!("../{name}.files"));
            for (title, content) in self::sections(&fs::read_to_string(path).unwrap()).split_off(1) {
                case.section(&title, content);
            }
        }
        for (title, content) in sections {
            case.section(&title, content);
        }
        case
    }

    fn section(&mut self, title: &str, content: String) {
        let mut words = title.split(' ').map(str::to_owned);
        let first = words.next().unwrap();
        match first.as_str() {
            "buildkit" => self.golden = Some(Picture::parse(title, &content)),
            "image" => {
                let config =
                    serde_json::from_str(&content).unwrap_or_else(|error| panic!("{}: {error}", self.name));
                self.images.push((words.next().unwrap(), config));
            }
            _ => self.files.push(File { path: first, attributes: words.collect(), content }),
        }
    }

    /// All values of a line of the head.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.head.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The arguments of both builds; `REGISTRY` is filled in.
    pub(super) fn arguments(&self, bench: &mut Bench) -> Vec<String> {
        let host = bench.server().host();
        self.all("arg").map(|text| text.replace("REGISTRY", &host)).collect()
    }

    /// Whether the times of the image are chosen from outside.
    pub(super) fn has_epoch(&self) -> bool {
        self.all("arg").any(|arg| {
            let value = arg.strip_prefix("--build-arg=SOURCE_DATE_EPOCH=");
            value.is_some_and(|value| value.parse::<u64>().is_ok())
        })
    }

    /// Whether the head has this line.
    pub(super) fn is(&self, key: &str) -> bool {
        self.all(key).next().is_some()
    }

    /// Writes the context.
    pub(super) fn lay_out(&self, bench: &Bench, words: &Words) {
        for file in &self.files {
            file.write(bench, words);
        }
        give(bench, &bench.path("context"));
        for file in self.files.iter().rev() {
            file.touch(bench);
        }
        touch(&bench.path("context"), TIME);
    }

    /// Replaces the answer in the case's file.
    pub(super) fn write_golden(&self, golden: &Picture) {
        let text = fs::read_to_string(&self.path).unwrap();
        let before = text.find("\n-- buildkit").map_or(text.trim_end_matches('\n'), |at| &text[..at]);
        fs::write(&self.path, format!("{before}\n{golden}")).unwrap();
    }
}

/// `GROUP/NAME` of a case's file.
pub(super) fn name(path: &Path) -> String {
    let group = path.parent().unwrap().file_name().unwrap().to_string_lossy();
    format!("{group}/{}", path.file_stem().unwrap().to_string_lossy())
}

/// `title` and content of each `-- title --`; the first has no title.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut found = vec![(String::new(), String::new())];
    for line in text.split_inclusive('\n') {
        let title = line.trim_end().strip_prefix("-- ").and_then(|line| line.strip_suffix(" --"));
        match (title, found.last_mut()) {
            (Some(title), _) => found.push((title.to_owned(), String::new())),
            (None, Some((_, content))) => content.push_str(line),
            _ => {}
        }
    }
    found
}

const KEYS: [&str; 6] = ["row", "arg", "call", "soak", "with", "differs"];

fn header(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| line.split_once(": ").filter(|(key, _)| KEYS.contains(key)).map(owned);
    text.lines().filter_map(pair).collect()
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Whether a place is meant by a `differs:` line.
pub(super) fn matches(known: &str, place: &str) -> bool {
    known.strip_suffix('*').map_or(known == place, |start| place.starts_with(start))
}

impl File {
    fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find_map(|text| text.strip_prefix(key)?.strip_prefix('='))
    }

    fn has(&self, word: &str) -> bool {
        self.attributes.iter().any(|text| text == word)
    }

    fn place(&self, bench: &Bench) -> PathBuf {
        bench.path("context").join(self.path.replace("%20", " "))
    }

    fn write(&self, bench: &Bench, words: &Words) {
        let path = self.place(bench);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = self.attribute("link") {
            symlink(target, &path).unwrap();
        } else if let Some(other) = self.attribute("hard") {
            fs::hard_link(bench.path("context").join(other), &path).unwrap();
        } else if self.has("dir") {
            fs::create_dir_all(&path).unwrap();
        } else if self.has("socket") {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        } else if let Some(device) = self.attribute("char") {
            let (major, minor) = device.split_once(':').unwrap();
            let device = nix::sys::stat::makedev(major.parse().unwrap(), minor.parse().unwrap());
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
            nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, device).unwrap();
        } else if self.has("fifo") {
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        } else {
            fs::write(&path, self.bytes(words)).unwrap();
        }
    }

    fn bytes(&self, words: &Words) -> Vec<u8> {
        let is_dockerfile = self.path.contains("Dockerfile");
        let mut text = if is_dockerfile { words.filled(&self.content) } else { self.content.clone() };
        if self.has("tar") {
            return archive(&text);
        }
        if self.attribute("tar").is_some() {
            return base::gzip(&archive(&text));
        }
        if self.has("chop") {
            text.truncate(text.trim_end_matches('\n').len());
        }
        if let Some(count) = self.attribute("fill") {
            text = text.replace("@@@", &"x".repeat(count.parse().unwrap()));
        }
        if self.has("escapes") { unescaped(&text) } else { text.into_bytes() }
    }

    /// Owner, mode and time, once everything is there.
    fn touch(&self, bench: &Bench) {
        let path = self.place(bench);
        let number = |key: &str| self.attribute(key).map(|text| text.parse().unwrap());
        if self.attribute("link").is_some() || self.attribute("hard").is_some() {
            return;
        }
        std::os::unix::fs::chown(&path, number("uid"), number("gid")).unwrap();
        let usual = if self.has("dir") { 0o755 } else { 0o644 };
        let mode = self.attribute("mode").map_or(usual, |text| u32::from_str_radix(text, 8).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if !["fifo", "socket"].iter().any(|special| self.has(special)) && self.attribute("char").is_none() {
            touch(&path, self.attribute("mtime").map_or(TIME, |text| text.parse().unwrap()));
        }
        let parents = path.ancestors().skip(1).take_while(|parent| *parent != bench.path("context"));
        parents
            .take_while(|parent| parent.starts_with(bench.path("")))
            .for_each(|parent| touch(parent, TIME));
    }
}

/// Everything in the context belongs to whoever builds.
fn give(bench: &Bench, path: &Path) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_symlink() {
            bench.give(&entry.path());
        }
        if entry.file_type().unwrap().is_dir() {
            give(bench, &entry.path());
        }
    }
}

fn touch(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = fs::File::open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
}

/// A tar of lines as they are said above.
fn archive(text: &str) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for line in text.lines() {
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        let rest = fields.get(5).map(|text| unescaped(text)).unwrap_or_default();
        let (uid, gid) = fields[2].split_once(':').unwrap();
        let mut header = Header::new_gnu();
        header.set_mode(u32::from_str_radix(fields[1], 8).unwrap());
        header.set_uid(uid.parse().unwrap());
        header.set_gid(gid.parse().unwrap());
        header.set_mtime(fields[3].parse().unwrap());
        header.set_size(if fields[0] == "-" { rest.len() as u64 } else { 0 });
        header.set_entry_type(match fields[0] {
            "-" => EntryType::Regular,
            "d" => EntryType::Directory,
            "l" => EntryType::Symlink,
            "h" => EntryType::Link,
            "p" => EntryType::Fifo,
            other => panic!("{other} is no kind of entry"),
        });
        // The raw name: some are meant to be refused.
        header.as_gnu_mut().unwrap().name[..fields[4].len()].copy_from_slice(fields[4].as_bytes());
        if matches!(fields[0], "l" | "h") {
            header.as_gnu_mut().unwrap().linkname[..rest.len()].copy_from_slice(&rest);
        }
        header.set_cksum();
        tar.append(&header, if fields[0] == "-" { rest.as_slice() } else { &[] }).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (what, used) = match &rest[at + 1..at + 2] {
            "r" => (b'\r', 2),
            "n" => (b'\n', 2),
            "t" => (b'\t', 2),
            "x" => (u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap(), 4),
            other => (other.as_bytes()[0], 2),
        };
        bytes.push(what);
        rest = &rest[at + used..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The words of a Dockerfile that stand for images.
pub(super) struct Words {
    /// `127.0.0.1:PORT`.
    pub(super) host: String,
    known: Vec<(String, String)>,
}

impl Words {
    /// The words that every case has.
    pub(super) fn new(host: String) -> Self {
        let mut words = Self { host, known: Vec::new() };
        words.add("BASE", "library/base");
        words.add("AWKWARD", "library/awkward");
        words.add("TARGETS", "library/targets");
        words
    }

    /// A word of the case.
    pub(super) fn add(&mut self, word: &str, repository: &str) {
        self.known.push((word.to_owned(), format!("{}/{repository}:latest", self.host)));
    }

    fn filled(&self, text: &str) -> String {
        let mut filled = text.replace("REGISTRY", &self.host);
        for (word, reference) in &self.known {
            filled = replace_word(&filled, word, reference);
        }
        filled
    }
}

fn replace_word(text: &str, word: &str, by: &str) -> String {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let alone = !before.ends_with(inside) && !after.starts_with(inside);
        result.push_str(before);
        result.push_str(if alone { by } else { word });
        rest = after;
    }
    result + rest
}
