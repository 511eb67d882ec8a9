//! What the command line asks for.

use std::process;

const USAGE: &str = "\
usage: peers [--quick] [--row TEXT] [--only TEXT] [--ours | --streams | --memory | --journal | --sizes | --uneven | --tasks]
             [--svg PATH]
  --quick      fewer repetitions: half a minute instead of six
  --row TEXT   only rows whose name contains TEXT; may be given again
  --only TEXT  only peers whose name contains TEXT; may be given again
  --ours       only the second table, ours beside ours
  --streams    only the third table, streams
  --memory     no table, but what 50,000,000 items in a stream add to the peak of memory
  --journal    only what a journal costs
  --sizes      only items of many sizes, ours beside rayon
  --uneven     only batches in which a few items take nearly all of the time
  --tasks      only futures in flight on one thread
  --svg PATH   write the picture of the first table there";

#[derive(Debug, Default)]
pub struct Options {
    pub quick: bool,
    pub rows: Vec<String>,
    pub peers: Vec<String>,
    pub only: Option<Part>,
    pub svg: Option<String>,
}

/// Of what this program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Batches,
    Ours,
    Streams,
    Memory,
    Journal,
    Sizes,
    Uneven,
    Tasks,
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
        let mut options = Options::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--ours" => options.only = Some(Part::Ours),
                "--streams" => options.only = Some(Part::Streams),
                "--memory" => options.only = Some(Part::Memory),
                "--journal" => options.only = Some(Part::Journal),
                "--sizes" => options.only = Some(Part::Sizes),
                "--uneven" => options.only = Some(Part::Uneven),
                "--tasks" => options.only = Some(Part::Tasks),
                "--row" => options.rows.push(args.next()?),
                "--only" => options.peers.push(args.next()?),
                "--svg" => options.svg = Some(args.next()?),
                _ => return None,
            }
        }
        Some(options)
    }

    pub fn wants_row(&self, name: &str) -> bool {
        names(&self.rows, name)
    }

    pub fn wants_peer(&self, name: &str) -> bool {
        names(&self.peers, name)
    }

    /// All tables, unless told otherwise. The second compares ours with ours, so a choice of rows or peers leaves it out.
    pub fn wants(&self, part: Part) -> bool {
        let by_default = match part {
            Part::Batches | Part::Streams => true,
            Part::Ours => self.rows.is_empty() && self.peers.is_empty(),
            Part::Memory | Part::Journal | Part::Sizes | Part::Uneven | Part::Tasks => false,
        };
        self.only.map_or(by_default, |only| only == part)
    }
}

fn names(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|text| name.contains(text.as_str()))
}
