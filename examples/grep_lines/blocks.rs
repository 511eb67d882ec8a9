//! Blocks of whole lines. A block holds what one read brings; a longer line makes its block longer.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::mem;

use memchr::memrchr;

/// Bytes of one read. A pipe may give less, and the reader does not wait for more.
const BLOCK: usize = 256 * 1024;

pub(crate) struct Blocks<R> {
    source: BufReader<R>,
    /// The start of a line whose end is still to be read.
    begun: Vec<u8>,
}

impl<R: Read> Blocks<R> {
    pub(crate) fn of(source: R) -> Self {
        Blocks { source: BufReader::with_capacity(BLOCK, source), begun: Vec::new() }
    }
}

impl<R: Read> Iterator for Blocks<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = match self.source.fill_buf() {
                Ok([]) => return Some(mem::take(&mut self.begun)).filter(|line| !line.is_empty()).map(Ok),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Some(Err(error)),
            };
            let (length, end) = (read.len(), memrchr(b'\n', read).map(|at| at + 1));
            let (lines, begun) = read.split_at(end.unwrap_or(length));
            self.begun.extend_from_slice(lines);
            let block = end.map(|_| mem::replace(&mut self.begun, begun.to_vec()));
            self.source.consume(length);
            if block.is_some() {
                return block.map(Ok);
            }
        }
    }
}
