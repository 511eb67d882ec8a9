//! What the command line asks for.

use std::process;

use crate::row::{Fame, Row};

const USAGE: &str = "\
usage: adaptive [--quick] [--sweep] [--seed N] [--svg PATH] [TEXT...]
  TEXT         only rows whose name contains one of these
  --quick      without TEXT only the rows of the picture, and one turn: half a minute instead of four
  --sweep      below each row, the times of the fixed numbers
  --seed N     other times for the items; default 1
  --svg PATH   write the picture there";

#[derive(Debug)]
pub struct Options {
    pub quick: bool,
    pub sweep: bool,
    pub seed: u64,
    pub svg: Option<String>,
    rows: Vec<String>,
}

impl Options {
    /// Those of this process, which ends here if they make no sense.
    pub fn from_args() -> Self {
        Self::parse(std::env::args().skip(1)).unwrap_or_else(|| {
            eprintln!("{USAGE}");
            process::exit(2)
        })
    }

    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Options { quick: false, sweep: false, seed: 1, svg: None, rows: Vec::new() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--sweep" => options.sweep = true,
                "--seed" => options.seed = args.next()?.parse().ok()?,
                "--svg" => options.svg = Some(args.next()?),
                _ if arg.starts_with('-') => return None,
                _ => options.rows.push(arg),
            }
        }
        Some(options)
    }

    pub fn wants(&self, row: &Row) -> bool {
        if self.rows.is_empty() {
            return !self.quick || row.fame == Fame::Pictured;
        }
        self.rows.iter().any(|text| row.name.contains(text.as_str()))
    }

    /// How often everybody runs after the first look.
    pub fn turns(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    /// Only then do the goals speak of what they are about.
    pub fn is_complete(&self) -> bool {
        !self.quick && self.rows.is_empty()
    }
}
