//! `resume --journal FILE [--shard INDEX/COUNT] FOLDER`: the SHA-256 of every file below a folder, or of this shard's
//! files, sorted by path and in the format of `sha256sum`. The journal keeps every sum. If the program is killed and
//! started again, it does only the rest. Without `--shard`, the environment names the shard: see `Shard::from_env`.
//!
//! `resume --merge FILE.. FOLDER`: the sums of all files, from the journals of all shards.
//!
//! `cargo run --release --features journal --example resume -- --journal /tmp/sums.jsonl src`

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs::File, process::ExitCode, slice};

use batch_executor::{BatchExecutor, Journal, Plan, Shard, Workers};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

const USAGE: &str =
    "usage: resume --journal FILE [--shard INDEX/COUNT] FOLDER\n       resume --merge FILE.. FOLDER";

fn main() -> ExitCode {
    match asked(env::args_os().skip(1)).ok_or_else(|| USAGE.into()).and_then(Asked::answer) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

enum Asked {
    Run { journal: PathBuf, shard: Option<String>, folder: PathBuf },
    Merge { journals: Vec<PathBuf>, folder: PathBuf },
}

fn asked(mut args: impl Iterator<Item = OsString>) -> Option<Asked> {
    let (what, mut rest) = (args.next()?, args.collect::<Vec<_>>());
    let folder = rest.pop()?.into();
    match (what.to_str()?, rest.as_slice()) {
        ("--journal", [journal]) => Some(Asked::Run { journal: journal.into(), shard: None, folder }),
        ("--journal", [journal, option, shard]) if option == "--shard" => {
            Some(Asked::Run { journal: journal.into(), shard: Some(shard.to_str()?.to_owned()), folder })
        }
        ("--merge", [_, ..]) => {
            Some(Asked::Merge { journals: rest.into_iter().map(PathBuf::from).collect(), folder })
        }
        _ => None,
    }
}

impl Asked {
    fn answer(self) -> Result<ExitCode, Box<dyn Error>> {
        match self {
            Asked::Run { journal, shard: Some(shard), folder } => run(&journal, shard.parse()?, &folder),
            Asked::Run { journal, shard: None, folder } => {
                run(&journal, Shard::from_env()?.unwrap_or_default(), &folder)
            }
            Asked::Merge { journals, folder } => merge(&journals, &folder),
        }
    }
}

fn run(journal: &Path, shard: Shard, folder: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let files = files(folder, journal)?;
    let plan = Plan::of(files.iter().map(|file| id(file)))?.shard(shard);
    let journal = Journal::open(journal, plan)?;
    eprintln!("shard {shard}: {} done before", journal.done());

    let executor = BatchExecutor::builder().workers(Workers::auto()).stop_on_error(false).build()?;
    let result = executor
        .batch(shard.select(&files).map(|(_, file)| file))
        .journal_as(&journal, |file| id(file))
        .run(|file| checksum(file))
        .into_result()?; // it stops only if the journal cannot be written

    let mut out = BufWriter::new(io::stdout().lock());
    for item in &result {
        match item.outcome {
            Ok(sum) => print(&mut out, sum, item.item)?,
            Err(error) => eprintln!("{}: {error}", item.item.display()),
        }
    }
    out.flush()?;
    eprintln!("{result}");
    Ok(ExitCode::from(u8::from(!result.is_success())))
}

fn merge(journals: &[PathBuf], folder: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let merged = Journal::merge::<String, String>(journals)?;
    let sums: HashMap<_, _> = merged.result.into_iter().map(|item| (item.item, item.outcome)).collect();
    let (mut out, mut missing) = (BufWriter::new(io::stdout().lock()), 0);
    for file in files(folder, Path::new(""))? {
        match sums.get(&id(&file)) {
            Some(Ok(sum)) => print(&mut out, sum, &file)?,
            Some(Err(error)) => eprintln!("{}: {error}", file.display()),
            None => eprintln!("{}: is in no journal", file.display()),
        }
        missing += usize::from(!matches!(sums.get(&id(&file)), Some(Ok(_))));
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(missing > 0)))
}

/// All files below the folder except the journal, sorted by the bytes of their paths: the same list in every run and
/// every shard.
fn files(folder: &Path, journal: &Path) -> Result<Vec<PathBuf>, walkdir::Error> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() && entry.path() != journal {
            files.push(entry.into_path());
        }
    }
    files.sort_by(|one, other| one.as_os_str().as_encoded_bytes().cmp(other.as_os_str().as_encoded_bytes()));
    Ok(files)
}

/// The name of a file in the journal, whose texts are UTF-8.
fn id(file: &Path) -> String {
    let escaped = || file.as_os_str().as_encoded_bytes().escape_ascii().to_string();
    file.to_str().map_or_else(escaped, str::to_owned)
}

fn checksum(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// Prints a line as `sha256sum` does, which marks a name that it escapes.
fn print(out: &mut impl Write, sum: &str, file: &Path) -> io::Result<()> {
    let name = file.as_os_str().as_encoded_bytes();
    let escaped: Vec<u8> = name.iter().flat_map(escaped).copied().collect();
    let mark = if escaped == name { "" } else { r"\" };
    match out.write_all(&[format!("{mark}{sum}  ").as_bytes(), &escaped, b"\n"].concat()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()), // as in `resume .. | head`
        written => written,
    }
}

fn escaped(byte: &u8) -> &[u8] {
    match byte {
        b'\\' => br"\\",
        b'\n' => br"\n",
        b'\r' => br"\r",
        _ => slice::from_ref(byte),
    }
}
