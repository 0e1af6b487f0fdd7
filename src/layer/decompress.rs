//! From a blob to its tar bytes, and the diff id of those.
//!
//! What a blob is, its first bytes say: media types lie (Docker images whose
//! `tar.gzip` layers are plain tars exist). A second thread decompresses and
//! hashes, because unpacking keeps one busy with the file system.
//!
//! Layers are gzip, zstd or plain (OCI image spec, layer.md). Archives that ADD
//! unpacks may be bzip2 or xz as well.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::image::{Digest, Hasher};

use super::Error;
use super::tar_stream::Dialect;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// Between them stands a digit, the size of the blocks.
const BZIP2: (&[u8], &[u8]) = (b"BZh", &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]);
/// Bytes that tell all of them apart.
const MAGIC: u64 = 10;
/// An xz stream says how much memory it needs, up to 4 GiB; `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// A buffer on its way from one thread to the other, and how many there are.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 4;

/// Runs `consume` over the tar bytes in `blob` and returns what it made with
/// the diff id of all of them, also of those it did not read.
pub(super) fn with_tar<R: Read + Send, T>(
    blob: R,
    media_type: &str,
    dialect: Dialect,
    consume: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
) -> Result<(T, Digest), Error> {
    let decoder = decoder(blob, media_type, dialect)?;
    std::thread::scope(|scope| {
        let (full, arriving) = sync_channel(BUFFERS);
        let (emptied, empty) = sync_channel(BUFFERS);
        let pump = scope.spawn(move || pump(decoder, &full, &empty));
        let mut reader = ChannelReader { arriving, emptied, buffer: Vec::new(), at: 0 };
        let made = consume(&mut reader)?;
        io::copy(&mut reader, &mut io::sink()).map_err(Error::ReadBlob)?;
        drop(reader);
        let diff_id = pump.join().map_err(|_| Error::Malformed("its decompression panicked".to_owned()))?;
        Ok((made, diff_id))
    })
}

/// The tar bytes of a blob. The media type only tells what an empty one lacks.
pub(super) fn decoder<'a>(
    blob: impl Read + Send + 'a,
    media_type: &str,
    dialect: Dialect,
) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let mut blob = blob;
    let mut start = Vec::new();
    blob.by_ref().take(MAGIC).read_to_end(&mut start).map_err(Error::ReadBlob)?;
    let is = |magic: &[u8]| start.starts_with(magic);
    let foreign = dialect == Dialect::Archive;
    let bzip2 = foreign && is(BZIP2.0) && start.get(4..).is_some_and(|rest| rest == BZIP2.1);
    let xz = foreign && is(XZ);
    let (gzip, zstd) = (is(GZIP), is(ZSTD) || is_skippable(&start));
    let named = ["gzip", "zstd"].into_iter().find(|name| media_type.ends_with(name));
    if let (Some(named), true) = (named, start.is_empty()) {
        return Err(Error::Malformed(format!("it is empty, where {named} was announced")));
    }
    let blob = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(blob));
    if gzip {
        // Several members in a row are one stream (RFC 1952, section 2.2).
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(blob)));
    }
    if zstd {
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(blob).map_err(Error::ReadBlob)?));
    }
    if bzip2 {
        return Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(blob)));
    }
    if xz {
        return Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(blob, true, XZ_MEMORY_KIB)));
    }
    Ok(Box::new(blob))
}

/// A zstd stream may start with frames of foreign data (RFC 8878, 3.1.2).
fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn pump(
    mut decoder: Box<dyn Read + Send + '_>,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> Digest {
    let mut hasher = Hasher::new();
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.clear();
        let result = decoder.by_ref().take(BUFFER as u64).read_to_end(&mut buffer);
        hasher.update(&buffer);
        let ended = !matches!(result, Ok(count) if count > 0);
        let (rest, error) = (buffer, result.err());
        let sent = if rest.is_empty() { Ok(()) } else { full.send(Ok(rest)) };
        let told = error.map_or(Ok(()), |error| full.send(Err(error)));
        if ended || sent.is_err() || told.is_err() {
            // Either everything was read or said, or nobody listens any more.
            return hasher.finish();
        }
    }
}

struct ChannelReader {
    arriving: Receiver<io::Result<Vec<u8>>>,
    emptied: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for ChannelReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            let Ok(next) = self.arriving.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.buffer, next?);
            self.at = 0;
            // A buffer that does not come back is made anew.
            drop(self.emptied.try_send(used));
        }
        let count = target.len().min(self.buffer.len() - self.at);
        target[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
