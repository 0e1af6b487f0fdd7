//! Reading one git object, loose or packed, as far as a commit's time and an
//! annotated tag's target need it (git's gitformat-pack documentation).
//!
//! Objects are small here: everything is bounded by [`LARGEST`], and whatever does
//! not look right is no object at all.

use std::io::Read;
use std::path::PathBuf;

use flate2::read::ZlibDecoder;

use super::Files;

/// Commits and tags larger than this are not read.
const LARGEST: usize = 1 << 20;

/// The longest chain of deltas that is followed; git itself makes none above 50.
const DEEPEST: usize = 64;

/// The size of one table of 256 four-byte counts in a pack index, and where it starts.
const FANOUT_START: u64 = 8;
const NAMES_START: u64 = FANOUT_START + 256 * 4;

/// The object store of a repository with SHA-1 ids.
pub(super) struct Objects<'a> {
    files: &'a dyn Files,
    directory: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ObjectKind {
    Commit,
    Tag,
    Other,
}

type Object = (ObjectKind, Vec<u8>);

impl<'a> Objects<'a> {
    pub(super) fn new(files: &'a dyn Files, directory: PathBuf) -> Self {
        Self { files, directory }
    }

    /// When the commit was committed, in seconds since 1970.
    pub(super) fn commit_time(&self, sha: &str) -> Option<i64> {
        let (kind, body) = self.object(sha, DEEPEST)?;
        (kind == ObjectKind::Commit).then_some(())?;
        let header = String::from_utf8_lossy(&body);
        let line =
            header.lines().take_while(|line| !line.is_empty()).find(|l| l.starts_with("committer "))?;
        // "committer Name <mail> 1722617519 +0200": the name may hold anything, the mail ends at `>`.
        let (_, time) = line.rsplit_once('>')?;
        time.split_whitespace().next()?.parse().ok()
    }

    /// The object an annotated tag names.
    pub(super) fn tag_target(&self, sha: &str) -> Option<String> {
        let (kind, body) = self.object(sha, DEEPEST)?;
        (kind == ObjectKind::Tag).then_some(())?;
        let text = String::from_utf8_lossy(&body);
        text.lines().next()?.strip_prefix("object ").map(str::to_owned)
    }

    fn object(&self, sha: &str, left: usize) -> Option<Object> {
        if sha.len() != 40 || !sha.is_ascii() {
            return None;
        }
        self.loose(sha).or_else(|| self.packed(sha, left))
    }

    fn loose(&self, sha: &str) -> Option<Object> {
        let file = self.files.read(&self.directory.join(&sha[..2]).join(&sha[2..])).ok()?;
        let plain = inflate(&file, LARGEST)?;
        let end = plain.iter().position(|b| *b == 0)?;
        let kind = match std::str::from_utf8(&plain[..end]).ok()?.split_once(' ')?.0 {
            "commit" => ObjectKind::Commit,
            "tag" => ObjectKind::Tag,
            _ => ObjectKind::Other,
        };
        Some((kind, plain[end + 1..].to_vec()))
    }

    fn packed(&self, sha: &str, left: usize) -> Option<Object> {
        let id = decode_hex(sha)?;
        let packs = self.directory.join("pack");
        for name in self.files.names(&packs) {
            let Some(stem) = name.strip_suffix(".idx") else { continue };
            let index = packs.join(&name);
            if let Some(offset) = self.offset_in(&index, &id) {
                return self.entry(&packs.join(format!("{stem}.pack")), offset, left);
            }
        }
        None
    }

    /// Where the index says the object is in its pack (index version 2).
    fn offset_in(&self, index: &std::path::Path, id: &[u8]) -> Option<u64> {
        let head = self.files.read_at(index, 0, usize::try_from(NAMES_START).ok()?).ok()?;
        (head.get(..8)? == [0xff, b't', b'O', b'c', 0, 0, 0, 2]).then_some(())?;
        let count_to = |slot: usize| be32(&head, 8 + slot * 4);
        let first = usize::from(id[0]);
        let low = if first == 0 { 0 } else { count_to(first - 1)? };
        let (high, all) = (count_to(first)?, u64::from(count_to(255)?));
        let length = usize::try_from(high.checked_sub(low)?).ok()?.checked_mul(20)?;
        let names = self.files.read_at(index, NAMES_START + u64::from(low) * 20, length).ok()?;
        let position = names.chunks_exact(20).position(|name| name == id)?;
        let number = u64::from(low) + u64::try_from(position).ok()?;
        let offsets = NAMES_START + all * 24;
        let small = be32(&self.files.read_at(index, offsets + number * 4, 4).ok()?, 0)?;
        if small & 0x8000_0000 == 0 {
            return Some(u64::from(small));
        }
        let large = offsets + all * 4 + u64::from(small & 0x7fff_ffff) * 8;
        Some(u64::from_be_bytes(self.files.read_at(index, large, 8).ok()?.try_into().ok()?))
    }

    fn entry(&self, pack: &std::path::Path, offset: u64, left: usize) -> Option<Object> {
        let left = left.checked_sub(1)?;
        let bytes = self.files.read_at(pack, offset, LARGEST).ok()?;
        let first = *bytes.first()?;
        // The size is in the header too; the inflated stream knows its own end.
        let start = 1 + bytes.iter().position(|b| b & 0x80 == 0)?;
        match (first >> 4) & 7 {
            1 => Some((ObjectKind::Commit, inflate(&bytes[start..], LARGEST)?)),
            4 => Some((ObjectKind::Tag, inflate(&bytes[start..], LARGEST)?)),
            6 => {
                let (back, used) = base_offset(&bytes[start..])?;
                let (kind, base) = self.entry(pack, offset.checked_sub(back)?, left)?;
                Some((kind, apply_delta(&base, &inflate(&bytes[start + used..], LARGEST)?)?))
            }
            7 => {
                let id = bytes.get(start..start + 20)?;
                let (kind, base) = self.object(&encode_hex(id), left)?;
                Some((kind, apply_delta(&base, &inflate(&bytes[start + 20..], LARGEST)?)?))
            }
            _ => None,
        }
    }
}

fn inflate(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let limit = u64::try_from(limit).ok()?;
    ZlibDecoder::new(bytes).take(limit + 1).read_to_end(&mut plain).ok()?;
    (plain.len() as u64 <= limit).then_some(plain)
}

/// The distance back to an offset delta's base, and how many bytes said so. Each
/// further byte adds one, so that no number has two spellings.
fn base_offset(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (position, byte) in bytes.iter().take(9).enumerate() {
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
        value += 1;
    }
    None
}

/// Rebuilds an object from its base: copy and insert instructions after two sizes.
fn apply_delta(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut rest = delta.iter().copied();
    size(&mut rest)?;
    let wanted = size(&mut rest)?;
    let mut out: Vec<u8> = Vec::new();
    while let Some(code) = rest.next() {
        if code & 0x80 != 0 {
            let from = sparse(&mut rest, code, 0..4)?;
            let length = match sparse(&mut rest, code, 4..7)? {
                0 => 0x1_0000,
                length => length,
            };
            out.extend_from_slice(base.get(from..from.checked_add(length)?)?);
        } else {
            let inserted: Vec<u8> = rest.by_ref().take(usize::from(code)).collect();
            (code != 0 && inserted.len() == usize::from(code)).then_some(())?;
            out.extend(inserted);
        }
        (out.len() <= LARGEST).then_some(())?;
    }
    (out.len() == wanted).then_some(out)
}

fn size(rest: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..35).step_by(7) {
        let byte = rest.next()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A little-endian number of which only the bytes whose bit is set in `code` are there.
fn sparse(rest: &mut impl Iterator<Item = u8>, code: u8, bits: std::ops::Range<u32>) -> Option<usize> {
    let first = bits.start;
    let mut value = 0_usize;
    for bit in bits {
        if code & (1 << bit) != 0 {
            value |= usize::from(rest.next()?) << ((bit - first) * 8);
        }
    }
    Some(value)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::super::MemoryFiles;
    use super::*;

    const SHA: &str = "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const COMMIT: &str =
        "tree x\nauthor a <a@b> 1 +0000\ncommitter M > N <m@n> 1722617519 +0200\n\ncommitter f <g> 3\n";

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn files(entries: Vec<(&str, Vec<u8>)>) -> MemoryFiles {
        MemoryFiles(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    fn time(files: &MemoryFiles) -> Option<i64> {
        Objects::new(files, "o".into()).commit_time(SHA)
    }

    #[test]
    fn loose_commit() {
        let object = deflate(format!("commit {}\0{COMMIT}", COMMIT.len()).as_bytes());
        let path = format!("o/01/{}", &SHA[2..]);
        assert_eq!(time(&files(vec![(&path, object.clone())])), Some(1_722_617_519));
        assert_eq!(time(&files(vec![(&path, object[..9].to_vec())])), None);
        assert_eq!(time(&files(vec![])), None);
    }

    #[test]
    fn loose_tag() {
        let object = deflate(b"tag 9\0object f00\ntype commit\n");
        let files = files(vec![(&format!("o/01/{}", &SHA[2..]), object)]);
        assert_eq!(Objects::new(&files, "o".into()).tag_target(SHA).as_deref(), Some("f00"));
        assert_eq!(time(&files), None);
    }

    fn index_with(offset: u32) -> Vec<u8> {
        let mut index = vec![0xff, b't', b'O', b'c', 0, 0, 0, 2];
        for slot in 0..256_u32 {
            index.extend(u32::from(slot >= 1).to_be_bytes());
        }
        index.extend(decode_hex(SHA).unwrap());
        index.extend([0; 4]);
        index.extend(offset.to_be_bytes());
        index
    }

    fn pack_header(kind: u8, size: usize) -> Vec<u8> {
        vec![0x80 | (kind << 4) | (size & 15) as u8, (size >> 4) as u8]
    }

    #[test]
    fn packed_commit() {
        let mut pack = b"PACK00000000".to_vec();
        pack.extend(pack_header(1, COMMIT.len()));
        pack.extend(deflate(COMMIT.as_bytes()));
        let files = files(vec![("o/pack/p.idx", index_with(12)), ("o/pack/p.pack", pack)]);
        assert_eq!(time(&files), Some(1_722_617_519));
    }

    #[test]
    fn packed_delta() {
        let base = COMMIT.replace("1722617519", "1000000000");
        let at = COMMIT.find("1722617519").unwrap();
        let mut delta = vec![COMMIT.len() as u8, COMMIT.len() as u8, 0x90, at as u8, 10];
        delta.extend(b"1722617519");
        delta.extend([0x91, (at + 10) as u8, (COMMIT.len() - at - 10) as u8]);
        let mut pack = b"PACK00000000".to_vec();
        pack.extend(pack_header(1, base.len()));
        pack.extend(deflate(base.as_bytes()));
        let offset = pack.len();
        pack.extend(pack_header(6, delta.len()));
        pack.push((offset - 12) as u8);
        pack.extend(deflate(&delta));
        assert!(offset - 12 < 128, "the distance fits one byte");
        let files = files(vec![
            ("o/pack/p.idx", index_with(u32::try_from(offset).unwrap())),
            ("o/pack/p.pack", pack),
        ]);
        assert_eq!(time(&files), Some(1_722_617_519));
    }

    #[test]
    fn hostile_deltas_are_no_objects() {
        for delta in [
            &b"\x01\x05\x91\xff\x05"[..],
            b"\x01\x05\x00",
            b"\x01\x05\x05ab",
            b"\xff\xff\xff\xff\xff\xff",
            b"",
        ] {
            assert_eq!(apply_delta(b"x", delta), None, "{delta:?}");
        }
    }
}
