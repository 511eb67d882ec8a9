//! The examples do what they say. Each test runs a built example as its user would.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::env::{self, consts::EXE_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output};
use std::{fs, str};

/// `target/<profile>/examples/<name>`, found from this test's place in `target/<profile>/deps`.
#[track_caller]
fn example(name: &str) -> Command {
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let path = profile.join("examples").join(format!("{name}{EXE_SUFFIX}"));
    assert!(path.is_file(), "{} is missing: `cargo build --examples` makes it", path.display());
    Command::new(path)
}

/// What an example left behind.
struct Ran(Output);

impl Ran {
    fn new(command: &mut Command) -> Self {
        Ran(command.output().unwrap())
    }

    #[track_caller]
    fn stdout(&self) -> &str {
        str::from_utf8(&self.0.stdout).unwrap()
    }

    #[track_caller]
    fn stderr(&self) -> &str {
        str::from_utf8(&self.0.stderr).unwrap()
    }

    #[track_caller]
    fn exited_with(&self, status: i32) -> &Self {
        assert_eq!(self.0.status.code(), Some(status), "{}", self.stderr());
        self
    }

    /// The result is the last line on stderr, and here are those before it that are no progress.
    #[track_caller]
    fn complaints(&self, counts: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = self.stderr().lines().collect();
        let last = lines.pop().unwrap();
        assert!(last.starts_with(&format!("{counts} in ")), "{}", self.stderr());
        if cfg!(feature = "indicatif") && !counts.starts_with("0 of 0") {
            let progress = lines.remove(0);
            assert!(
                progress.contains("/s, in "),
                "the line that `progress_bar` ends with: {}",
                self.stderr()
            );
        }
        lines
    }
}

/// A folder of files that goes when the test ends.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let tree = Tree(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id())));
        tree.remove(); // a test that was killed left it, and the system gave the same process id again
        fs::create_dir_all(&tree.0).unwrap();
        tree
    }

    fn with(self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// `checksum FOLDER`, run in the tree.
    fn checksum(&self, folder: &str) -> Ran {
        Ran::new(example("checksum").arg(folder).current_dir(&self.0))
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.remove();
    }
}

#[test]
fn checksum_without_a_folder_says_how_to_use_it() {
    for arguments in [&[][..], &["one", "two"]] {
        let ran = Ran::new(example("checksum").args(arguments));
        ran.exited_with(2);
        assert_eq!((ran.stdout(), ran.stderr()), ("", "usage: checksum FOLDER\n"));
    }
}

#[test]
fn a_folder_that_is_not_there_is_reported() {
    let ran = Tree::new("nowhere").checksum("nowhere");
    let complaints = ran.exited_with(1).complaints("0 of 0 succeeded");
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("nowhere: "), "{complaints:?}");
}

#[test]
fn an_empty_folder_is_no_error() {
    let tree = Tree::new("empty");
    let ran = tree.checksum(".");
    assert!(ran.exited_with(0).complaints("0 of 0 succeeded").is_empty());
    assert_eq!(ran.stdout(), "");
}

#[test]
fn checksums_are_sorted_by_path_and_progress_fills_no_log() {
    let names = ["b", "a/z", "a.txt", "a/b/c", "a-b", "B", "a/b.c", "c/0", "a b", "10", "9"];
    let tree = names.into_iter().fold(Tree::new("sorted"), |tree, name| tree.with(name, name));
    let ran = tree.checksum(".");
    assert!(ran.exited_with(0).complaints("11 of 11 succeeded").is_empty());

    let printed: Vec<&Path> = ran.stdout().lines().map(|line| Path::new(&line[66..])).collect();
    let mut sorted = printed.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(printed, sorted);
    assert_eq!(printed.len(), names.len());
}

/// What is before these words in the line that they end.
#[track_caller]
fn number_before(words: &str, text: &str) -> usize {
    let (before, _) = text.split_once(words).unwrap_or_else(|| panic!("{words:?} is not in {text}"));
    before.rsplit([' ', '\n']).next().unwrap().parse().unwrap()
}

#[test]
fn bulk_api_obeys_a_429_and_outlives_the_server_and_nothing_is_deleted_twice() {
    // A proxy in the environment must not be asked for what is on loopback.
    let ran = Ran::new(example("bulk_api").env("ALL_PROXY", "http://127.0.0.1:9"));
    let (result, count) = ran.exited_with(0).stdout().split_once("The server's own count:\n").unwrap();
    assert!(result.starts_with("293 of 300 succeeded, 7 failed in "), "{result}");
    let gone = [40, 80, 120, 160, 200, 240, 280].map(|tenant| format!("  tenant {tenant}: 404 Not Found"));
    let attempts = number_before(" attempts, at most ", result);
    assert_eq!(result.lines().skip(1).take(7).collect::<Vec<_>>(), gone);

    assert!(count.contains("  293 tenants deleted, 0 of them more than once\n"), "{count}");
    assert!(count.contains("  0 requests sent before Retry-After had passed\n"), "{count}");
    assert!(number_before(" requests repeated, ", count) >= 1, "{count}");
    let refused = number_before(" requests refused with 429\n", count);
    assert!((1..100).contains(&refused), "16 workers were refused a few times each, and no more: {count}");
    assert!(attempts > 300 + refused, "requests without an answer were sent again: {result}");
}

#[test]
#[cfg(feature = "tokio")]
fn async_api_gets_all_answers_though_some_requests_hang() {
    let ran = Ran::new(example("async_api").arg("300").env("ALL_PROXY", "http://127.0.0.1:9"));
    let lines: Vec<&str> = ran.exited_with(0).stdout().lines().collect();
    let [ours, counted, by_hand, _] = lines[..] else { panic!("{lines:?}") };
    assert!(
        ours.starts_with("batch-executor: 300 of 300 succeeded in ") && ours.ends_with(", 300 told"),
        "{ours}"
    );
    assert_eq!(number_before(" without an answer, ", counted), 6, "each was cut off once: {counted}");
    assert!(number_before(" refused, ", counted) < 60, "{counted}");
    assert!(by_hand.starts_with("by hand: 300 of 300 succeeded"), "{by_hand}");
}

#[test]
fn llm_keeps_limits_for_requests_and_tokens_and_learns_those_that_it_does_not_know() {
    let ran = Ran::new(example("llm").arg("180").env("ALL_PROXY", "http://127.0.0.1:9"));
    let lines: Vec<&str> = ran.exited_with(0).stdout().lines().collect();
    let [limits, counted, learning, learnt, by_hand, _] = lines[..] else { panic!("{lines:?}") };
    assert!(limits.starts_with("limits: 180 of 180 succeeded in "), "{limits}");
    assert_eq!(
        number_before(" requests refused, ", counted),
        0,
        "the server has room for a second: {counted}"
    );
    assert!(number_before(" % of the limits used", counted) >= 75, "on a quiet machine 98: {counted}");
    assert!(learning.starts_with("learning: 180 of 180 succeeded in "), "{learning}");
    assert!(number_before(" requests refused, ", learnt) <= 30, "on a quiet machine 6: {learnt}");
    assert!(number_before(" % of the limits used", learnt) >= 50, "on a quiet machine 90: {learnt}");
    assert!(by_hand.starts_with("governor: "), "{by_hand}");
}

#[test]
fn crawl_visits_each_page_once_and_keeps_to_the_limit_of_each_host() {
    let ran = Ran::new(example("crawl").env("ALL_PROXY", "http://127.0.0.1:9"));
    let lines: Vec<&str> = ran.exited_with(0).stdout().lines().collect();
    let (pages, counts) = lines.split_at(42);
    assert_eq!(counts, ["42 pages, 6 of them broken", "42 requests, 0 of them refused"]);
    assert!(pages.is_sorted_by(|one, other| one.split(':').next() < other.split(':').next()));
    for host in ["a", "b", "c"] {
        let of_host = pages.iter().filter(|page| page.starts_with(&format!("{host}.example/")));
        assert_eq!(of_host.clone().count(), 14);
        let links: usize = of_host
            .clone()
            .filter_map(|page| page.strip_suffix(" links")?.split(": ").nth(1)?.parse::<usize>().ok())
            .sum();
        assert_eq!(links, 30);
        assert!(of_host.clone().any(|page| page.ends_with("/21: http status: 404")));
    }
}

#[test]
fn backoff_shows_times_beside_those_of_workers_that_sleep() {
    let ran = Ran::new(&mut example("backoff"));
    let shape: String = ran.exited_with(0).stdout().chars().filter(|c| !c.is_ascii_digit()).collect();
    let expected = [
        " workers; each item fails once and is tried again after ms:",
        "    items in ",
        "a worker that sleeps through it instead:",
        "    items in ",
        "    items would take .s:  × ms / , computed",
        " workers at a limiter of one a second:",
        "   cancelled:  of  succeeded,  skipped in ",
        "   returned ",
    ];
    assert_eq!(shape.lines().count(), expected.len(), "{}", ran.stdout());
    for (printed, expected) in shape.lines().zip(expected) {
        assert!(printed.starts_with(expected), "{printed:?} is not {expected:?}");
    }
    assert_eq!(number_before(" attempts\n", ran.stdout()), 2_000);
    assert!(number_before(" skipped in ", ran.stdout()) >= 9_900, "one a second: {}", ran.stdout());
}

#[test]
fn seed_shows_a_result_for_each_call() {
    let ran = Ran::new(&mut example("seed"));
    ran.exited_with(0);
    let expected = [
        "one task: 3",
        "one after another: [3, 5, 7]",
        "three at once: [3, 5, 7]",
        "a function: [3, 5, 7]",
        "progress: 1 of 3",
        "progress: 2 of 3",
        "progress: 3 of 3",
        "with progress: 3 of 3 succeeded in ",
        "the first error stops: item 1 failed: no such user (1 of 4 succeeded, 1 failed, 2 skipped in ",
        "all errors: 2 of 4 succeeded, 2 failed in ",
        "  unknown: no such user",
        "  unknown: no such user",
        "auto, with 2 workers for 2: 3 of 3 succeeded in ",
        "100 a second: 3 of 3 succeeded in ",
        "lengths that differ: 3 tasks but 2 item ids; nothing was run",
    ];
    let printed: Vec<&str> = ran.stdout().lines().collect();
    assert_eq!(printed.len(), expected.len(), "{}", ran.stdout());
    for (printed, expected) in printed.iter().zip(expected) {
        assert!(printed.starts_with(expected), "{printed:?} is not {expected:?}");
    }
}

mod grep_lines {
    use std::io::{self, BufRead, BufReader, Write};
    use std::process::Stdio;
    use std::thread;

    use super::*;

    fn grep_lines(arguments: &[&str]) -> Command {
        let mut command = example("grep_lines");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// A command that is given this on stdin.
    fn fed(command: &mut Command, input: &[u8]) -> Ran {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            Ran(child.wait_with_output().unwrap())
        })
    }

    /// Lines of which some are empty, some are no text, and one is longer than three blocks. The last has no end.
    fn a_megabyte() -> Vec<u8> {
        let mut text = Vec::new();
        for number in 0..70_000 {
            match number {
                30_000 => text.extend_from_slice(&b"seven 7 ".repeat(100_000)),
                _ if number % 1_000 == 0 => text.extend_from_slice(b"\xff\0 not text"),
                _ if number % 100 == 0 => {}
                _ => text.extend_from_slice(number.to_string().as_bytes()),
            }
            text.push(b'\n');
        }
        text.extend_from_slice(b"the last 7");
        text
    }

    #[test]
    fn it_agrees_with_grep() {
        let version = Command::new("grep").arg("--version").output();
        if !version.is_ok_and(|output| output.stdout.windows(8).any(|words| words == b"GNU grep")) {
            let _ = writeln!(io::stderr(), "SKIPPED grep_lines::it_agrees_with_grep: no GNU grep here");
            return;
        }
        let text = a_megabyte();
        let tree = Tree::new("grep").with("text", &text).with("empty", "");
        for pattern in ["7", "777", "last", "seven", "not text", "", "there is none"] {
            for options in [&[][..], &["-n"], &["-v"], &["-c"], &["-nv"], &["-c", "-v"]] {
                // `grep -v ''` prints no count.
                for file in ["text", "empty"].into_iter().filter(|_| !pattern.is_empty() || options.len() < 2)
                {
                    let mut theirs = Command::new("grep");
                    theirs.env("LC_ALL", "C").arg("-aF").args(options).args([pattern, file]);
                    let theirs = theirs.current_dir(&tree.0).output().unwrap();
                    let ours = Ran::new(grep_lines(options).args([pattern, file]).current_dir(&tree.0));
                    ours.exited_with(theirs.status.code().unwrap());
                    assert!(ours.0.stdout == theirs.stdout, "{options:?} {pattern:?} {file}");
                }
            }
        }
        let from_a_file = Ran::new(grep_lines(&["-n", "7", "text"]).current_dir(&tree.0));
        let from_a_pipe = fed(&mut grep_lines(&["-n", "7"]), &text);
        assert!(from_a_pipe.exited_with(0).0.stdout == from_a_file.0.stdout);
    }

    #[test]
    fn it_says_as_grep_does_whether_there_was_anything() {
        let fed = |arguments: &[&str], input: &str| fed(&mut grep_lines(arguments), input.as_bytes());
        assert_eq!(fed(&["b"], "abc\nbc").exited_with(0).stdout(), "abc\nbc\n");
        assert_eq!(fed(&["-n", "b"], "a\n\nb\n").exited_with(0).stdout(), "3:b\n");
        assert_eq!(fed(&["-v", "b", "-"], "a\n\nb").exited_with(0).stdout(), "a\n\n");
        assert_eq!(fed(&["--", "-n"], "a\n-n\n").exited_with(0).stdout(), "-n\n");
        assert_eq!(fed(&["d"], "abc\nbc").exited_with(1).stdout(), "");
        assert_eq!(fed(&["-c", "d"], "abc\nbc").exited_with(1).stdout(), "0\n");
        assert_eq!(fed(&["d"], "").exited_with(1).stdout(), "");
    }

    #[test]
    fn what_makes_no_sense_is_told_how_to_make_some() {
        for arguments in [&[][..], &["-n"], &["-x", "pattern"], &["two\nlines"], &["pattern", "one", "two"]] {
            let ran = Ran::new(&mut grep_lines(arguments));
            let usage = "usage: grep_lines [-c] [-n] [-v] PATTERN [FILE]\n";
            assert_eq!((ran.exited_with(2).stdout(), ran.stderr()), ("", usage));
        }
        let tree = Tree::new("no-file");
        let ran = Ran::new(grep_lines(&["pattern", "missing"]).current_dir(&tree.0));
        assert!(ran.exited_with(2).stderr().starts_with("grep_lines: missing: "), "{}", ran.stderr());
        assert_eq!(ran.stdout(), "");
    }

    /// As in `yes | grep_lines -n y | head -3`.
    #[test]
    fn it_ends_with_its_reader_though_its_input_does_not() {
        let mut command = grep_lines(&["-n", "y"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let endless = thread::spawn(move || while stdin.write_all(&b"y\n".repeat(1_000)).is_ok() {});
        let lines: Vec<String> = BufReader::new(stdout).lines().take(3).map(Result::unwrap).collect();
        assert_eq!(lines, ["1:y", "2:y", "3:y"]);
        let ran = Ran(child.wait_with_output().unwrap());
        assert_eq!(ran.exited_with(0).stderr(), "");
        endless.join().unwrap();
    }

    #[test]
    fn it_prints_what_it_has_while_it_waits_for_more() {
        let mut child = grep_lines(&["y"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(stdout).lines();
        for line in ["yes", "you", "why"] {
            writeln!(stdin, "no\n{line}").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), line);
        }
        drop(stdin);
        assert!(lines.next().is_none());
        assert!(child.wait().unwrap().success());
    }
}

#[cfg(unix)]
mod unix {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;
    use std::process::Stdio;

    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn checksum_follows_no_links() {
        let tree = Tree::new("links").with("in/abc", "abc").with("out/other", "other");
        symlink("../out", tree.0.join("in/folder")).unwrap();
        symlink("../out/other", tree.0.join("in/file")).unwrap();
        symlink("nothing", tree.0.join("in/dangling")).unwrap();
        let ran = tree.checksum("in");
        assert!(ran.exited_with(0).complaints("1 of 1 succeeded").is_empty());
        assert_eq!(ran.stdout(), format!("{OF_ABC}  in/abc\n"));
    }

    #[test]
    fn a_name_that_would_break_the_line_is_escaped_and_the_line_marked() {
        let tree = Tree::new("escaped").with("in/a\\b\nc\rd", "abc").with("in/plain", "abc");
        let expected = format!("\\{OF_ABC}  in/a\\\\b\\nc\\rd\n{OF_ABC}  in/plain\n");
        assert_eq!(tree.checksum("in").exited_with(0).stdout(), expected);
    }

    /// A pipe without a reader: its other end is closed before the example starts.
    #[test]
    fn output_without_a_reader_is_no_panic() {
        fn unread() -> Stdio {
            let (end, other) = UnixStream::pair().unwrap();
            drop(other);
            OwnedFd::from(end).into()
        }
        let tree = Tree::new("unread").with("abc", "abc").with("b", "b");
        let checksum = || {
            let mut command = example("checksum");
            command.arg(".").current_dir(&tree.0);
            command
        };
        let ran = Ran(checksum()
            .stdout(unread())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap());
        assert!(ran.exited_with(0).complaints("2 of 2 succeeded").is_empty());
        let silent = checksum().stdout(unread()).stderr(unread()).status().unwrap();
        assert_eq!(silent.code(), Some(0));
        let usage = example("checksum").stderr(unread()).status().unwrap();
        assert_eq!(usage.code(), Some(2));
    }
}

/// Ctrl-C, as a terminal sends it.
#[cfg(target_os = "linux")]
mod interrupt {
    use std::io::{BufRead, BufReader, Lines, Read};
    use std::process::{Child, ChildStderr, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    struct Running {
        child: Child,
        stderr: Lines<BufReader<ChildStderr>>,
    }

    impl Running {
        /// With items of this many milliseconds.
        fn new(millis: u32) -> Self {
            let mut command = example("interrupt");
            command.arg(millis.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
            Running { child, stderr }
        }

        /// Reads until it says this.
        #[track_caller]
        fn says(&mut self, words: &str) {
            let said = self.stderr.by_ref().map(Result::unwrap).any(|line| line == words);
            assert!(said, "it ended without saying {words:?}");
        }

        fn press_ctrl_c(&self) {
            let killed = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
            assert!(killed.unwrap().success());
        }

        /// Its exit status and what it has printed.
        fn ended(mut self) -> (Option<i32>, String) {
            let since = Instant::now();
            let status = loop {
                match self.child.try_wait().unwrap() {
                    Some(status) => break status,
                    None => thread::sleep(Duration::from_millis(10)),
                }
                assert!(since.elapsed() < Duration::from_secs(60), "it goes on and on");
            };
            let mut printed = String::new();
            self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
            (status.code(), printed)
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    const PRESSED_ONCE: &str = "waiting for what runs; press again to leave at once";

    #[test]
    fn pressed_once_it_prints_what_there_is_so_far() {
        let mut running = Running::new(200);
        running.says("item 5 starts");
        running.press_ctrl_c();
        running.says(PRESSED_ONCE);
        let (status, printed) = running.ended();
        assert_eq!(status, Some(1), "{printed}");
        let done = number_before(" of 1000 succeeded, ", &printed);
        assert!((1..1_000).contains(&done), "{printed}");
        assert_eq!(number_before(" skipped in ", &printed), 1_000 - done);
        assert!(printed.contains("\nsum so far: "), "{printed}");
    }

    #[test]
    fn pressed_twice_it_leaves_at_once_with_130() {
        let mut running = Running::new(3_600_000);
        running.says("item 1 starts");
        running.press_ctrl_c();
        running.says(PRESSED_ONCE);
        running.press_ctrl_c();
        assert_eq!(running.ended(), (Some(130), String::new()));
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::io::{self, Write};
    use std::os::unix::ffi::OsStrExt;
    use std::process::Stdio;

    use super::*;

    /// In the order of their paths. No `\r`, which coreutils escapes only since its version 9.
    const ODD_NAMES: [&[u8]; 12] = [
        b" space ",
        b"#hash",
        b"*star",
        b"-dash",
        b"back\\slash",
        b"empty",
        b"large",
        b"line: OK\nnext",
        b"not \xff\xfe UTF-8",
        b"sub/folder/file",
        b"sub/folder\\n/file",
        "über".as_bytes(),
    ];

    fn content(name: &[u8]) -> Vec<u8> {
        match name {
            b"empty" => vec![],
            b"large" => b"seventeen bytes, ".repeat(180_000),
            name => name.to_vec(),
        }
    }

    fn sha256sum() -> Command {
        let mut command = Command::new("sha256sum");
        command.env("LC_ALL", "C");
        command
    }

    #[test]
    fn checksum_agrees_with_coreutils() {
        let version = sha256sum().arg("--version").output();
        if !version.is_ok_and(|output| output.stdout.starts_with(b"sha256sum (GNU coreutils)")) {
            // Not `eprintln!`, which the test harness keeps to itself.
            let _ = writeln!(io::stderr(), "SKIPPED checksum_agrees_with_coreutils: no GNU sha256sum here");
            return;
        }
        let paths = ODD_NAMES.map(|name| Path::new("odd").join(OsStr::from_bytes(name)));
        let mut tree = Tree::new("coreutils");
        for (path, name) in paths.iter().zip(ODD_NAMES) {
            tree = tree.with(path, content(name));
        }

        let theirs = sha256sum().args(&paths).current_dir(&tree.0).output().unwrap();
        assert!(theirs.status.success());
        let ours = tree.checksum("odd");
        assert!(ours.exited_with(0).complaints("12 of 12 succeeded").is_empty());
        assert!(ours.0.stdout == theirs.stdout, "{}", String::from_utf8_lossy(&ours.0.stdout));

        for options in [&["-c"][..], &["-c", "--strict"]] {
            let mut summing = example("checksum");
            summing.arg("odd").current_dir(&tree.0).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut summing = summing.spawn().unwrap();
            let sums = summing.stdout.take().unwrap();
            let checked = sha256sum().args(options).stdin(sums).current_dir(&tree.0).output().unwrap();
            assert!(summing.wait().unwrap().success());
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
            assert!(checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    /// A folder whose path is so long that the path of anything in it is longer than Linux takes. Such a file can be
    /// listed, and not even root can open it.
    fn folder_of_the_longest_path(tree: &Tree) -> PathBuf {
        const PATH_MAX: usize = 4096;
        let mut folder = tree.0.join("deep");
        while folder.as_os_str().len() + 101 < PATH_MAX {
            folder.push("d".repeat(100));
        }
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[track_caller]
    fn one_cannot_be_read(tree: &Tree, name: &str, counts: &str) {
        let ran = Ran::new(example("checksum").arg(&tree.0));
        let complaints = ran.exited_with(1).complaints(counts);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains(&format!("/{name}: ")), "{complaints:?}");
        assert!(complaints[0].ends_with("(os error 36)"), "{complaints:?}"); // ENAMETOOLONG
        let read: Vec<&str> = ran.stdout().lines().map(|line| line.rsplit('/').next().unwrap()).collect();
        assert_eq!(read, ["before", "even-deeper"]);
    }

    #[test]
    fn an_unreadable_file_is_reported_and_the_rest_is_summed() {
        let tree = Tree::new("unreadable-file").with("before", "b").with("even-deeper", "a");
        let name = "f".repeat(140);
        let touch = Command::new("touch").arg(&name).current_dir(folder_of_the_longest_path(&tree)).status();
        assert!(touch.unwrap().success());
        one_cannot_be_read(&tree, &name, "2 of 3 succeeded, 1 failed");
    }

    #[test]
    fn an_unreadable_folder_is_reported_and_the_rest_is_summed() {
        let tree = Tree::new("unreadable-folder").with("before", "b").with("even-deeper", "a");
        let name = "f".repeat(140);
        let mkdir = Command::new("mkdir").arg(&name).current_dir(folder_of_the_longest_path(&tree)).status();
        assert!(mkdir.unwrap().success());
        one_cannot_be_read(&tree, &name, "2 of 2 succeeded");
    }
}

/// `shard FILE` of the tree, told by these variables and no others which shard it is.
fn shard(tree: &Tree, variables: &[(&str, &str)]) -> Ran {
    Ran::new(example("shard").arg("lines").current_dir(&tree.0).env_clear().envs(variables.iter().copied()))
}

#[test]
fn the_environment_tells_the_shard() {
    let tree = Tree::new("shard").with("lines", "a\nb\nc\nd\ne\n");
    let printed = |variables: &[(&str, &str)]| {
        let ran = shard(&tree, variables);
        assert_eq!(ran.exited_with(0).stderr(), "");
        ran.stdout().to_owned()
    };
    assert_eq!(printed(&[]), "0\ta\n1\tb\n2\tc\n3\td\n4\te\n");
    assert_eq!(printed(&[("BATCH_EXECUTOR_SHARD", "1/3")]), "1\tb\n4\te\n");
    assert_eq!(printed(&[("PARALLEL_SEQ", "3"), ("BATCH_EXECUTOR_SHARDS", "3")]), "2\tc\n");
}

#[test]
fn an_environment_that_tells_no_shard_is_an_error_and_no_line_is_printed() {
    let tree = Tree::new("shard-none").with("lines", "a\nb\nc\nd\ne\n");
    let ran = shard(&tree, &[("JOB_COMPLETION_INDEX", "3")]);
    assert_eq!(ran.exited_with(2).stdout(), "");
    assert_eq!(
        ran.stderr(),
        "shard: the environment variable BATCH_EXECUTOR_SHARDS is missing, \
         and JOB_COMPLETION_INDEX alone does not tell the shard\n"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;

    let tree = Tree::new("shard-bytes").with("lines", "a\n");
    let bytes = std::ffi::OsStr::from_bytes(b"1/\xff");
    let ran = Ran::new(example("shard").arg("lines").current_dir(&tree.0).env("BATCH_EXECUTOR_SHARD", bytes));
    assert_eq!(ran.exited_with(2).stdout(), "");
    assert!(ran.stderr().contains("\"1/\u{fffd}\" is no shard"), "{}", ran.stderr());
}
