//! The command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::found::Selects;

#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) only_count: bool,
    pub(crate) numbers: bool,
    pub(crate) selects: Selects,
    pub(crate) pattern: OsString,
    /// None for stdin.
    file: Option<PathBuf>,
}

impl Asked {
    /// None if the arguments make no sense.
    pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut args = args.peekable();
        let mut asked = Asked::default();
        while let Some(arg) = args.next_if(|arg| matches!(arg.as_encoded_bytes(), [b'-', _, ..])) {
            if arg == "--" {
                break;
            }
            arg.as_encoded_bytes()[1..].iter().try_for_each(|option| asked.set(*option))?;
        }
        asked.pattern = args.next()?;
        asked.file = args.next().filter(|file| file != "-").map(PathBuf::from);
        let is_one_line = !asked.pattern.as_encoded_bytes().contains(&b'\n');
        (is_one_line && args.next().is_none()).then_some(asked)
    }

    fn set(&mut self, option: u8) -> Option<()> {
        match option {
            b'c' => self.only_count = true,
            b'n' => self.numbers = true,
            b'v' => self.selects = Selects::Others,
            _ => return None,
        }
        Some(())
    }

    /// Opens stdin unlocked: its lock is not `Send`, and a worker reads from it.
    pub(crate) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let Some(file) = &self.file else { return Ok(Box::new(io::stdin())) };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        File::open(file).map(|file| Box::new(file) as _).map_err(named)
    }
}
