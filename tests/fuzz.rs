//! Generated input for what reads hostile text and bytes: the Dockerfile parser
//! (and the plan behind it), the word expander, the ignore matcher, the tar
//! reader. Nothing may panic, hang, or grow without bounds.
//!
//! Input is made from a grammar's pieces, then damaged. A second for each target
//! in `make test`; `CORACLE_FUZZ_SECONDS=600` in `make soak`. A failure names the
//! seed that makes it again (`CORACLE_FUZZ_SEED`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use coracle::context::Ignore;
use coracle::dockerfile::{self, word};
use coracle::image::Platform;
use coracle::{layer, plan};
use libtest_mimic::Trial;

use crate::support::{plain, switch};

pub fn trials() -> Vec<Trial> {
    vec![
        plain("fuzz::parser", || run("parser", parser)),
        plain("fuzz::expander", || run("expander", expander)),
        plain("fuzz::ignore", || run("ignore", ignore)),
        plain("fuzz::tar", || run("tar", tar)),
    ]
}

/// One input may take this long at most; a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(10);
/// A run may grow by this much at most.
const GROWTH: u64 = 256 << 20;

fn run(name: &str, target: fn(&mut Dice)) -> Result<(), String> {
    let number = |name: &str| switch(name).and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("CORACLE_FUZZ_SECONDS").unwrap_or(1));
    let first = number("CORACLE_FUZZ_SEED").unwrap_or(1);
    let (started, before, mut count) = (Instant::now(), resident(), 0);
    for seed in first.. {
        let at = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            target(&mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
        }));
        assert!(ended.is_ok(), "seed {seed} panics");
        assert!(at.elapsed() < PATIENCE, "seed {seed} takes {:?}", at.elapsed());
        count += 1;
        if started.elapsed() >= time {
            break;
        }
    }
    let growth = resident().saturating_sub(before);
    assert!(growth < GROWTH, "{count} inputs left {growth} bytes behind");
    if time > Duration::from_secs(1) {
        report(&format!("fuzz: {name}: {} s, {count} inputs, {} MiB growth", time.as_secs(), growth >> 20));
    }
    Ok(())
}

/// The result file of `make soak` is made of these lines.
#[expect(clippy::print_stderr, reason = "libtest-mimic shows nothing that a passed test has to say")]
fn report(line: &str) {
    eprintln!("{line}");
}

/// Bytes of memory in use, from `/proc/self/statm` (proc(5)): pages of 4 KiB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// xorshift64*: the same seed throws the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Pieces one after the other.
    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most) + 1).map(|_| self.one(pieces)).collect()
    }

    /// Some bytes changed, doubled, or cut off.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes.truncate(at),
                2 => drop(bytes.remove(at)),
                _ => {
                    let end = (at + self.below(64)).min(bytes.len());
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
    }
}

const WORDS: &[&str] = &[
    "a",
    "b/c",
    "$X",
    "${X}",
    "${X:-y}",
    "${X:+",
    "${X/a/b}",
    "${X##*/}",
    "\\",
    "\\\n",
    "'",
    "\"",
    " ",
    "\t",
    "=",
    "[",
    "]",
    "{",
    "}",
    ",",
    "<<EOF",
    "<<-'E O'",
    "EOF",
    "\n",
    "\r\n",
    "#",
    "--from=",
    "--mount=type=cache,",
    "target=/x",
    "é",
    "\u{0}",
    "`",
    "&&",
    "|",
    "*",
    "?",
    "**",
    "!",
    "..",
    "/",
    "./",
    ":",
    "@sha256:",
    "1",
    "\u{feff}",
];

const KEYWORDS: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "CMD ",
    "ENTRYPOINT ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "STOPSIGNAL ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "SHELL ",
    "MAINTAINER ",
    "# escape=`\n",
    "# check=skip=all\n",
    "# syntax=x\n",
    "FROM scratch AS a\n",
    "FROM a\n",
    "COPY --from=a --chmod=u=rwX --parents x/./y /z\n",
    "RUN --mount=type=secret,id=x,env=Y true\n",
    "RUN <<EOF\necho\nEOF\n",
    "ENV A=b\n",
    "ARG X=${Y:-z}\n",
];

fn dockerfile_text(dice: &mut Dice) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..dice.below(12) {
        text.push_str(dice.one(KEYWORDS));
        if dice.below(3) > 0 {
            text.push_str(&dice.text(WORDS, 12));
            text.push('\n');
        }
    }
    let mut bytes = text.into_bytes();
    dice.damage(&mut bytes);
    bytes
}

fn parser(dice: &mut Dice) {
    let text = dockerfile_text(dice);
    let parsed = dockerfile::parse("Dockerfile", &text);
    for diagnostic in &parsed.diagnostics {
        assert!(!diagnostic.render(&parsed.dockerfile.source).is_empty());
    }
    let platform: Platform = "linux/amd64".parse().unwrap();
    let options = plan::Options {
        target: None,
        build_args: Default::default(),
        platform: platform.clone(),
        build_platform: platform,
        named_contexts: Default::default(),
        labels: Vec::new(),
        default_labels: Vec::new(),
        proxy_args: Vec::new(),
        network: plan::Network::Default,
        host_network: true,
    };
    let found = plan::lint(&parsed.dockerfile, &options, &plan::Bases::new());
    for diagnostic in &found.diagnostics {
        assert!(!diagnostic.render(&parsed.dockerfile.source).is_empty());
    }
    // A mistake is an answer too.
    drop(plan::summary(&parsed.dockerfile, &options));
    drop(plan::resolve(&parsed.dockerfile, &options, &plan::Bases::new()));
}

fn expander(dice: &mut Dice) {
    let text = dice.text(WORDS, 24);
    let escape = if dice.below(4) == 0 { '`' } else { '\\' };
    let mut lookup = |name: &str| (name != "unset").then(|| format!("<{name}>"));
    // A mistake is an answer too; so it is below.
    drop(word::expand(&text, escape, &mut lookup));
    drop(word::expand_words(&text, escape, &mut lookup));
    drop(word::expand_heredoc(&text, escape, &mut lookup));
}

fn ignore(dice: &mut Dice) {
    let pieces = [
        "a", "b", "*", "**", "?", "/", "!", "[a-c]", "[^", "\\", "#", "\n", ".", "..", " ", "\r\n", "é",
        "\u{0}",
    ];
    let mut text = dice.text(&pieces, 40).into_bytes();
    dice.damage(&mut text);
    let Ok(ignore) = Ignore::parse(&text) else { return };
    for _ in 0..4 {
        let path = dice.text(&["a", "b", "c", "/", ".x", "é"], 12);
        let path: std::path::PathBuf = Path::new(&path)
            .components()
            .filter(|part| matches!(part, std::path::Component::Normal(_)))
            .collect();
        if ignore.excluded(&path) {
            assert!(ignore.excluded_by(&path).is_some(), "{}", path.display());
        }
    }
}

fn tar(dice: &mut Dice) {
    let mut builder = tar::Builder::new(Vec::new());
    for _ in 0..dice.below(8) {
        let mut header = tar::Header::new_ustar();
        let kind = *b"01234567gxLKS".get(dice.below(13)).unwrap();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(dice.next() as u32 & 0o7777);
        header.set_uid(dice.next() & 0xffff);
        let name = dice.text(&["a", "b/", "../", "/", ".wh.", ".wh..wh..opq", "é", "x", "./"], 6);
        let link = dice.text(&["a", "/", "..", "b"], 3);
        let old = header.as_old_mut();
        let length = name.len().min(100);
        old.name[..length].copy_from_slice(&name.as_bytes()[..length]);
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        let body = vec![b'9'; dice.below(700)];
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_slice()).unwrap();
    }
    let mut bytes = builder.into_inner().unwrap();
    dice.damage(&mut bytes);
    let media_type = dice.one(&[
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
    ]);
    drop(layer::index(bytes.as_slice(), media_type));
    drop(layer::is_archive(bytes.as_slice()));
    drop(layer::read_files(bytes.as_slice(), media_type, &[Path::new("a"), Path::new("b/a")]));
}
