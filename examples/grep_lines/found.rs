//! The lines of one block that are printed.

use std::ops::Range;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memrchr};

/// Which lines are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Selects {
    #[default]
    Matches,
    Others,
}

#[derive(Default)]
pub(crate) struct Found {
    pub(crate) lines: usize,
    /// The lines to print: their number, from 1, and their place in the block.
    pub(crate) selected: Vec<(usize, Range<usize>)>,
}

impl Found {
    pub(crate) fn search(block: &[u8], finder: &Finder, selects: Selects) -> Self {
        let mut found = Found::default();
        let mut at = 0;
        while at < block.len() {
            let hit = finder.find(&block[at..]);
            let line = hit.map_or(block.len()..block.len(), |hit| line_around(block, at + hit));
            found.pass(block, at..line.start, selects == Selects::Others);
            found.pass(block, line.clone(), selects == Selects::Matches);
            at = line.end;
        }
        found
    }

    /// Passes these lines. Selects all of them, or none.
    fn pass(&mut self, block: &[u8], lines: Range<usize>, selects: bool) {
        if !selects {
            self.lines += memchr_iter(b'\n', &block[lines]).count();
            return;
        }
        let mut start = lines.start;
        while start < lines.end {
            let end = end_of_line(block, start);
            self.lines += 1;
            self.selected.push((self.lines, start..end));
            start = end;
        }
    }
}

fn line_around(block: &[u8], at: usize) -> Range<usize> {
    memrchr(b'\n', &block[..at]).map_or(0, |end| end + 1)..end_of_line(block, at)
}

/// The place behind the line's newline, if it has one.
fn end_of_line(block: &[u8], at: usize) -> usize {
    memchr(b'\n', &block[at..]).map_or(block.len(), |end| at + end + 1)
}
