//! gzip on several cores, with the same bytes on any number of them.
//!
//! The input is cut into blocks of [`BLOCK`] bytes. Each is deflated on its own
//! with the last 32 KiB of the block before as its dictionary, and ends in a
//! sync flush, so that the pieces make one deflate stream (as pigz does it).
//! What a block becomes depends on its bytes and that dictionary only, never on
//! who compressed it.
//!
//! ```text
//! caller ── block ──▶ workers ── piece ──▶ assembler ──▶ file
//!    ▲                                        │
//!    └───────────── empty buffers ────────────┘
//! ```
//!
//! The caller waits for an empty buffer when all are under way; that bounds
//! the memory: two blocks a worker and two more, each with its output.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use flate2::{Compress, FlushCompress, Status};

use crate::image::{Digest, HashingWriter};

use super::compress::Output;

/// Small enough that sixteen workers stay below 40 MiB, large enough that the
/// flush after it (5 bytes) and the new Huffman tables do not count.
const BLOCK: usize = 512 << 10;
/// How far back deflate can point (RFC 1951, section 2).
const WINDOW: usize = 32 << 10;
/// More would wait for the hash of the tar, which one thread takes.
const MOST_WORKERS: usize = 16;
/// RFC 1952, section 2.3: no name, no time, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

pub(super) struct ParallelGzip {
    level: u32,
    threads: usize,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    next: u64,
    state: State,
}

enum State {
    /// Nothing was handed out yet: a small layer never needs a thread.
    Alone(Box<Assembler>),
    Started(Crew),
    /// An error was returned before.
    Failed,
}

/// The threads and the ways to them.
struct Crew {
    jobs: Sender<Job>,
    empty: Receiver<Vec<u8>>,
    /// Buffers that may still be made.
    spare: usize,
    workers: Vec<JoinHandle<()>>,
    assembler: JoinHandle<io::Result<(Digest, u64)>>,
}

struct Job {
    number: u64,
    data: Vec<u8>,
    dictionary: Vec<u8>,
    last: bool,
}

struct Piece {
    number: u64,
    deflated: Vec<u8>,
    checksum: crc32fast::Hasher,
    /// The buffer it was made from, to be filled again.
    data: Vec<u8>,
    length: usize,
}

impl ParallelGzip {
    pub(super) fn new(file: File, level: u32, threads: usize) -> Self {
        Self {
            level: level.clamp(1, 9),
            threads: threads.clamp(1, MOST_WORKERS),
            block: Vec::new(),
            dictionary: Vec::new(),
            next: 0,
            state: State::Alone(Box::new(Assembler::new(file))),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let job = self.take_block(true, Vec::new());
        match self.state {
            State::Alone(mut assembler) => {
                assembler.write(&Deflater::new(self.level).deflate(job)?)?;
                assembler.finish()
            }
            State::Started(crew) => {
                // Workers are gone only after an error, which finish() tells.
                let sent = crew.jobs.send(job);
                let finished = crew.finish()?;
                sent.map(|()| finished).map_err(|_| lost())
            }
            State::Failed => Err(lost()),
        }
    }

    fn take_block(&mut self, last: bool, empty: Vec<u8>) -> Job {
        let data = std::mem::replace(&mut self.block, empty);
        let tail = data[data.len().saturating_sub(WINDOW)..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        let number = self.next;
        self.next += 1;
        Job { number, data, dictionary, last }
    }

    /// Hands the full block out and gets an empty one.
    fn dispatch(&mut self) -> io::Result<()> {
        let mut crew = match std::mem::replace(&mut self.state, State::Failed) {
            State::Alone(assembler) => Crew::start(*assembler, self.level, self.threads)?,
            State::Started(crew) => crew,
            State::Failed => return Err(lost()),
        };
        let handed_out =
            crew.empty_buffer().is_some_and(|empty| crew.jobs.send(self.take_block(false, empty)).is_ok());
        if !handed_out {
            return Err(crew.finish().err().unwrap_or_else(lost));
        }
        self.state = State::Started(crew);
        Ok(())
    }
}

impl Write for ParallelGzip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.dispatch()?;
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Crew {
    fn start(assembler: Assembler, level: u32, threads: usize) -> io::Result<Self> {
        let (jobs, waiting) = channel::<Job>();
        let (pieces, arriving) = channel();
        let (emptied, empty) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut workers = Vec::new();
        for _ in 0..threads {
            let (waiting, pieces) = (Arc::clone(&waiting), pieces.clone());
            let work = move || work(&waiting, &pieces, level);
            workers.push(Builder::new().name("gzip".into()).spawn(work)?);
        }
        let assemble = move || assemble(assembler, &arriving, &emptied);
        let assembler = Builder::new().name("gzip-out".into()).spawn(assemble)?;
        // The block being filled counts as one of them.
        Ok(Self { jobs, empty, spare: 2 * threads + 1, workers, assembler })
    }

    /// An empty buffer, waiting for one if need be; `None` when the assembler
    /// has given up.
    fn empty_buffer(&mut self) -> Option<Vec<u8>> {
        if let Ok(buffer) = self.empty.try_recv() {
            return Some(buffer);
        }
        if self.spare > 0 {
            self.spare -= 1;
            return Some(Vec::with_capacity(BLOCK));
        }
        self.empty.recv().ok()
    }

    fn finish(self) -> io::Result<(Digest, u64)> {
        drop(self.jobs);
        let lively = self.workers.into_iter().all(|worker| worker.join().is_ok());
        let written = self.assembler.join().map_err(|_| lost())?;
        if lively { written } else { Err(lost()) }
    }
}

fn lost() -> io::Error {
    io::Error::other("a compression thread ended early")
}

/// A worker: ends when no more blocks come or nobody takes its pieces.
fn work(waiting: &Mutex<Receiver<Job>>, pieces: &Sender<io::Result<Piece>>, level: u32) {
    let mut deflater = Deflater::new(level);
    let _obituary = Obituary(pieces);
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if pieces.send(deflater.deflate(job)).is_err() {
            return;
        }
    }
}

/// Tells the assembler when a worker panics, or everybody would wait for its
/// piece for ever.
struct Obituary<'a>(&'a Sender<io::Result<Piece>>);

impl Drop for Obituary<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody listens only when the assembler has ended already.
            drop(self.0.send(Err(lost())));
        }
    }
}

/// Puts pieces in order and writes them.
fn assemble(
    mut assembler: Assembler,
    arriving: &Receiver<io::Result<Piece>>,
    emptied: &Sender<Vec<u8>>,
) -> io::Result<(Digest, u64)> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for piece in arriving {
        let piece = piece?;
        early.insert(piece.number, piece);
        while let Some(mut piece) = early.remove(&next) {
            assembler.write(&piece)?;
            piece.data.clear();
            // Nobody waits for the last buffers: the caller is done by then.
            drop(emptied.send(piece.data));
            next += 1;
        }
    }
    assembler.finish()
}

/// Deflates blocks one by one; its tables are reused.
struct Deflater(Compress);

impl Deflater {
    fn new(level: u32) -> Self {
        Self(Compress::new(flate2::Compression::new(level), false))
    }

    fn deflate(&mut self, job: Job) -> io::Result<Piece> {
        let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
        self.0.reset();
        if !job.dictionary.is_empty() {
            self.0.set_dictionary(&job.dictionary).map_err(io::Error::other)?;
        }
        let mut deflated = vec![0; bound(job.data.len())];
        let status = self.0.compress(&job.data, &mut deflated, flush).map_err(io::Error::other)?;
        let complete = if job.last { status == Status::StreamEnd } else { status == Status::Ok };
        let length = self.0.total_out() as usize;
        if !complete || self.0.total_in() != job.data.len() as u64 || length == deflated.len() {
            return Err(io::Error::other("a compressed block is larger than deflate may make it"));
        }
        deflated.truncate(length);
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&job.data);
        Ok(Piece { number: job.number, deflated, checksum, length: job.data.len(), data: job.data })
    }
}

/// Room for what a block can become at the worst: fixed Huffman codes take nine
/// bits for a byte, plus headers and the flush.
fn bound(length: usize) -> usize {
    length + length / 8 + 256
}

/// Writes header, pieces and trailer.
struct Assembler {
    out: Output,
    started: bool,
    checksum: crc32fast::Hasher,
    length: u64,
}

impl Assembler {
    fn new(file: File) -> Self {
        let out = HashingWriter::new(BufWriter::with_capacity(1 << 18, file));
        Self { out, started: false, checksum: crc32fast::Hasher::new(), length: 0 }
    }

    fn write(&mut self, piece: &Piece) -> io::Result<()> {
        if !self.started {
            self.out.write_all(&HEADER)?;
            self.started = true;
        }
        self.checksum.combine(&piece.checksum);
        self.length += piece.length as u64;
        self.out.write_all(&piece.deflated)
    }

    fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.out.write_all(&self.checksum.finalize().to_le_bytes())?;
        // Modulo 2^32, as RFC 1952 has it.
        self.out.write_all(&(self.length as u32).to_le_bytes())?;
        self.out.flush()?;
        let (_, digest, size) = self.out.finish();
        Ok((digest, size))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    /// Text-like and random stretches, so that blocks of both kinds meet.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if (bytes.len() >> 17) & 1 == 0 {
                bytes.extend_from_slice(format!("line {} of a file\n", state >> 54).as_bytes());
            } else {
                bytes.extend_from_slice(&state.to_le_bytes());
            }
        }
        bytes.truncate(length);
        bytes
    }

    fn compress(bytes: &[u8], level: u32, threads: usize, step: usize) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        let mut gzip = ParallelGzip::new(file.try_clone().unwrap(), level, threads);
        bytes.chunks(step).for_each(|chunk| gzip.write_all(chunk).unwrap());
        let (digest, size) = gzip.finish().unwrap();
        let mut written = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut written).unwrap();
        assert_eq!((digest, size), (Digest::of(&written), written.len() as u64));
        written
    }

    #[test]
    fn same_bytes_on_any_number_of_threads() {
        let sample = sample(3 * BLOCK + 777);
        for level in [1, 2, 6] {
            let one = compress(&sample, level, 1, 64 << 10);
            assert_eq!(one, compress(&sample, level, 2, 1000), "level {level}");
            assert_eq!(one, compress(&sample, level, 7, BLOCK), "level {level}");
        }
    }

    #[test]
    fn every_length_reads_back() {
        for length in [0, 1, WINDOW, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 3] {
            let sample = sample(length);
            for level in [1, 2, 3, 6, 9] {
                let packed = compress(&sample, level, 2, 1 << 16);
                let mut back = Vec::new();
                // The strict reader: one member, and nothing after it.
                let mut reader = flate2::bufread::GzDecoder::new(&packed[..]);
                reader.read_to_end(&mut back).unwrap();
                assert!(reader.into_inner().is_empty());
                assert!(back == sample, "{length} bytes at level {level}");
            }
        }
    }

    #[test]
    fn random_bytes_fit_the_bound_at_every_level() {
        let noise: Vec<u8> = (0..BLOCK / 8)
            .scan(7u64, |state, _| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x9e37_79b9_7f4a_7c15);
                Some((*state ^ (*state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd).to_le_bytes())
            })
            .flatten()
            .collect();
        for level in 1..=9 {
            compress(&noise, level, 1, BLOCK);
        }
    }

    #[test]
    fn a_full_disk_is_an_error_and_no_hang() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut gzip = ParallelGzip::new(full, 1, 2);
        let noise = sample(64 * BLOCK);
        let error = gzip.write_all(&noise).and_then(|()| gzip.finish().map(drop)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }
}
