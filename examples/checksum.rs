//! `checksum FOLDER`: the SHA-256 of every file below a folder, several at once, in the format of `sha256sum`.
//!
//! `cargo run --release --example checksum -- src | sha256sum -c`. With `--features indicatif` it draws a progress bar.

use std::io::{self, ErrorKind, Write};
use std::{env, error::Error, fmt::Display, fs::File, path::Path, process::ExitCode, slice};

use batch_executor::{BatchExecutor, Workers};
use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let (Some(folder), None) = (args.next(), args.next()) else {
        say("usage: checksum FOLDER");
        return Ok(ExitCode::from(2));
    };
    let mut unlisted = Vec::new();
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter();
    let listed = entries.filter_map(|entry| entry.map_err(|error| unlisted.push(error)).ok());
    let files = listed.filter(|entry| entry.file_type().is_file()).map(DirEntry::into_path);

    let executor = BatchExecutor::builder().workers(Workers::auto()).stop_on_error(false).build()?;
    let batch = executor.batch(files);
    #[cfg(feature = "indicatif")]
    let batch = batch.progress_bar();
    #[cfg(not(feature = "indicatif"))]
    let batch = batch.on_progress(progress_line());
    let result = batch.run(|file| checksum(file));

    unlisted.iter().for_each(say);
    for failure in result.failures() {
        say(format_args!("{}: {}", failure.item.display(), failure.error));
    }
    match result.values().try_for_each(|line| io::stdout().write_all(line)) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // as in `checksum src | head`
        printed => printed?,
    }
    say(&result);
    Ok(ExitCode::from(u8::from(!unlisted.is_empty() || !result.is_success())))
}

/// The line for one file. `io::copy` reads the file in pieces, whatever its size.
fn checksum(file: &Path) -> io::Result<Vec<u8>> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hasher)?;
    let name = file.as_os_str().as_encoded_bytes(); // on Unix the bytes of the name, UTF-8 or not
    let escaped: Vec<u8> = name.iter().flat_map(escaped).copied().collect();
    let mark = if escaped == name { "" } else { r"\" };
    Ok([format!("{mark}{:x}  ", hasher.finalize()).as_bytes(), &escaped, b"\n"].concat())
}

/// Escapes a byte that would break the line in two, as `sha256sum` does.
fn escaped(byte: &u8) -> &[u8] {
    match byte {
        b'\\' => br"\\",
        b'\n' => br"\n",
        b'\r' => br"\r",
        _ => slice::from_ref(byte),
    }
}

/// Redraws one line on a terminal; elsewhere adds one every ten seconds.
#[cfg(not(feature = "indicatif"))]
fn progress_line() -> impl FnMut(&batch_executor::Progress) {
    use std::io::IsTerminal;
    use std::time::Duration;

    let redraw = io::stderr().is_terminal();
    let (start, end, millis) = if redraw { ("\r\x1b[K", "", 100) } else { ("", "\n", 10_000) };
    let mut due = Duration::from_millis(millis);
    move |p| {
        if p.completed == p.total {
            let _ = write!(io::stderr(), "{start}"); // the result replaces it
        } else if p.elapsed >= due {
            due = p.elapsed + Duration::from_millis(millis);
            let _ = write!(io::stderr(), "{start}{} of {} files{end}", p.completed, p.total);
        }
    }
}

/// Prints to stderr. Its reader may be gone, and then `eprintln!` would panic.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
