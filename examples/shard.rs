//! `shard [FILE]`: the lines of this shard, of a file or of stdin. Each line stands behind its number among all lines,
//! from 0. The environment names the shard, see `Shard::from_env`; otherwise the example prints all lines.
//!
//! `seq 10 | BATCH_EXECUTOR_SHARD=1/4 cargo run --release --example shard`

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::process::ExitCode;

use batch_executor::Shard;

fn main() -> ExitCode {
    match print(std::env::args_os().nth(1)) {
        Err(error) if !is_broken_pipe(&*error) => {
            eprintln!("shard: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print(file: Option<std::ffi::OsString>) -> Result<(), Box<dyn Error>> {
    let shard = Shard::from_env()?.unwrap_or_default();
    let lines: Box<dyn BufRead> = match file {
        Some(file) => Box::new(BufReader::new(File::open(file)?)),
        None => Box::new(io::stdin().lock()),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (index, line) in shard.select(lines.lines()) {
        writeln!(out, "{index}\t{}", line?)?;
    }
    out.flush()?;
    Ok(())
}

/// The reader of the output has seen enough.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
