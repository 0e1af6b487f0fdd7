//! From chunks of output to lines, so that a redacted word is never in two parts.

/// A line longer than this is handed on in parts, so that memory stays small.
const LONGEST: usize = 1024 * 1024;

/// Collects chunks until a line is whole.
#[derive(Debug, Default)]
pub struct LineBuffer {
    pending: Vec<u8>,
}

impl LineBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chunk and calls `line` with every line that it ends, lossily
    /// decoded, without its end.
    pub fn push(&mut self, chunk: &[u8], line: &mut dyn FnMut(String)) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            line(self.take());
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > LONGEST {
            line(self.take());
        }
    }

    /// Calls `line` with what was left without a line end.
    pub fn finish(mut self, line: &mut dyn FnMut(String)) {
        if !self.pending.is_empty() {
            line(self.take());
        }
    }

    fn take(&mut self) -> String {
        let bytes = std::mem::take(&mut self.pending);
        let line = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        String::from_utf8_lossy(line).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]], expected: &[&str]) {
        let mut lines = Vec::new();
        let mut buffer = LineBuffer::new();
        for chunk in chunks {
            buffer.push(chunk, &mut |line| lines.push(line));
        }
        buffer.finish(&mut |line| lines.push(line));
        assert_eq!(lines, expected);
    }

    #[test]
    fn lines_are_whole() {
        check(&[], &[]);
        check(&[b"a\nb\n"], &["a", "b"]);
        check(&[b"hun", b"ter2\nx"], &["hunter2", "x"]);
        check(&[b"\n\n"], &["", ""]);
        check(&[b"a\r\n"], &["a"]);
        check(&["é".as_bytes().split_at(1).0, "é".as_bytes().split_at(1).1, b"\n"], &["é"]);
        check(&[b"\xff\n"], &["\u{fffd}"]);
    }

    #[test]
    fn a_line_without_end_does_not_grow_for_ever() {
        let mut lines = 0;
        let mut buffer = LineBuffer::new();
        for _ in 0..64 {
            buffer.push(&[b'x'; 64 * 1024], &mut |_| lines += 1);
        }
        assert!(lines >= 3);
    }
}
