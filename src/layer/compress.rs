//! Where a layer's tar bytes go: through the chosen compression into a file,
//! with both digests taken on the way.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::image::{Digest, Hasher, HashingWriter, media_type};

use super::gzip::ParallelGzip;

/// How a layer is stored and pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip at deflate level 1 (fast) to 9 (small).
    Gzip {
        /// The level.
        level: u32,
    },
    /// A plain tar.
    None,
}

impl Compression {
    /// The media type of such layers.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip { .. } => media_type::LAYER_GZIP,
            Self::None => media_type::LAYER,
        }
    }
}

/// Level 2. Measured with this writer, hashing and reading included, on 400 MB
/// of programs and text (MB per CPU second, part of the size left):
///
/// | 1 | 2 | 3 | 4 | 5 | 6 |
/// |---|---|---|---|---|---|
/// | 138, 0.465 | 106, 0.384 | 88, 0.369 | 77, 0.363 | 69, 0.358 | 60, 0.357 |
///
/// Level 1 saves a third of the time and costs a fifth more bytes, which every
/// push and every pull then carries; from 3 on the bytes hardly shrink.
impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: 2 }
    }
}

/// The end of a layer's pipeline.
pub(super) struct BlobWriter {
    diff_id: Hasher,
    target: Target,
}

enum Target {
    Gzip(Box<ParallelGzip>),
    Plain(BufWriter<File>, u64),
}

/// What a finished blob is.
pub(super) struct Written {
    pub(super) diff_id: Digest,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl BlobWriter {
    pub(super) fn new(file: File, compression: Compression, threads: usize) -> Self {
        let target = match compression {
            Compression::Gzip { level } => Target::Gzip(Box::new(ParallelGzip::new(file, level, threads))),
            Compression::None => Target::Plain(BufWriter::with_capacity(1 << 18, file), 0),
        };
        Self { diff_id: Hasher::new(), target }
    }

    pub(super) fn finish(self) -> io::Result<Written> {
        let diff_id = self.diff_id.finish();
        match self.target {
            Target::Gzip(gzip) => {
                let (digest, size) = gzip.finish()?;
                Ok(Written { diff_id, digest, size })
            }
            Target::Plain(mut file, size) => {
                file.flush()?;
                Ok(Written { diff_id, digest: diff_id, size })
            }
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.diff_id.update(bytes);
        match &mut self.target {
            Target::Gzip(gzip) => gzip.write_all(bytes)?,
            Target::Plain(file, size) => {
                file.write_all(bytes)?;
                *size += bytes.len() as u64;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file behind the compressor.
pub(super) type Output = HashingWriter<BufWriter<File>>;
