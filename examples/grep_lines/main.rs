//! `grep_lines [-c] [-n] [-v] PATTERN [FILE]`: the lines that contain a text, of a file of any size or of stdin, byte
//! for byte as `grep -aF` prints them. Workers search several blocks of lines at once, and the consumer prints them in
//! order. Memory holds a few blocks.
//!
//! `seq 10000000 | cargo run --release --example grep_lines -- -n 777 | head -3`

mod asked;
mod blocks;
mod found;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::{env, process::ExitCode};

use asked::Asked;
use batch_executor::{BatchExecutor, Workers};
use blocks::Blocks;
use found::Found;
use memchr::memmem::Finder;

fn main() -> ExitCode {
    let Some(asked) = Asked::parse(env::args_os().skip(1)) else {
        say("usage: grep_lines [-c] [-n] [-v] PATTERN [FILE]");
        return ExitCode::from(2);
    };
    match grep(&asked) {
        Ok(has_matched) => ExitCode::from(u8::from(!has_matched)),
        Err(error) => {
            say(format_args!("grep_lines: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Whether anything has matched.
fn grep(asked: &Asked) -> Result<bool, Box<dyn Error>> {
    let blocks = Blocks::of(asked.open()?);
    let finder = Finder::new(asked.pattern.as_encoded_bytes());
    let executor = BatchExecutor::builder().workers(Workers::auto()).build()?;
    let mut printer = Printer { asked, lines: 0, selected: 0, text: Vec::new() };
    let search = |block: &Vec<u8>| Found::search(block, &finder, asked.selects);
    let searched = executor.batch(blocks).stream(
        |block| block.as_ref().map(search).map_err(io::Error::kind),
        |results| {
            for item in results {
                let block = item.item?; // or why it could not be read
                printer.print(&block, &item.outcome.map_err(io::Error::other)?)?;
            }
            printer.end()
        },
    );
    match searched.output {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // as in `grep_lines y | head -3`
        ended => ended?,
    }
    Ok(printer.selected > 0)
}

/// Prints the lines that were found, one block after the other.
struct Printer<'a> {
    asked: &'a Asked,
    /// How many lines the blocks so far had.
    lines: usize,
    selected: usize,
    text: Vec<u8>,
}

impl Printer<'_> {
    fn print(&mut self, block: &[u8], found: &Found) -> io::Result<()> {
        self.text.clear();
        for (number, line) in found.selected.iter().filter(|_| !self.asked.only_count) {
            if self.asked.numbers {
                write!(self.text, "{}:", self.lines + number)?;
            }
            self.text.extend_from_slice(&block[line.clone()]);
        }
        if self.text.last().is_some_and(|byte| *byte != b'\n') {
            self.text.push(b'\n'); // the last line of all may have none
        }
        self.lines += found.lines;
        self.selected += found.selected.len();
        io::stdout().write_all(&self.text)
    }

    fn end(&self) -> io::Result<()> {
        if self.asked.only_count { writeln!(io::stdout(), "{}", self.selected) } else { Ok(()) }
    }
}

/// Prints to stderr. Its reader may be gone, and then `eprintln!` would panic.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
