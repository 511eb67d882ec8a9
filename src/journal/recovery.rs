//! What a journal holds when it is opened: which lines are whole, and what a crash has left of the last one.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;

use super::error::JournalError;
use super::line::{Header, Kind, RawLine, check_sum};

/// Longer than any header: what has no line end before is no journal, however long it goes on.
const LONGEST_HEADER: u64 = 1 << 20;

/// Where the line of an item is, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) kind: Kind,
}

/// What there is in the file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// None if there is not even a whole first line.
    pub(super) header: Option<Header>,
    /// Whether the first line has a checksum: then all lines have one.
    has_sums: bool,
    /// By the index of the item; of several lines for one, the last.
    pub(super) entries: HashMap<usize, Entry>,
    /// How many bytes of whole lines there are.
    pub(super) length: u64,
    pub(super) tail: Tail,
}

/// What stands behind the last line end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Tail {
    #[default]
    Nothing,
    /// A whole line that has no end yet.
    Unended,
    /// The first part of a line.
    Torn(Vec<u8>),
}

impl Contents {
    /// Reads all of a file, or the first line alone if it is of another version. Calls `each` for the lines of items, in their order,
    /// with the first one.
    pub(super) fn read(
        path: &Path,
        mut file: impl BufRead,
        mut each: impl FnMut(&Header, &RawLine<'_>) -> Result<(), String>,
    ) -> Result<Self, JournalError> {
        let (mut contents, mut bytes) = (Contents::default(), Vec::new());
        for number in 1.. {
            bytes.clear();
            let most = if contents.header.is_none() { LONGEST_HEADER } else { u64::MAX };
            let mut line = file.by_ref().take(most);
            if line.read_until(b'\n', &mut bytes).map_err(JournalError::io(path, "read it"))? == 0 {
                break;
            }
            let is_ended = bytes.ends_with(b"\n");
            match contents.add(&bytes, &mut each) {
                Ok(()) if is_ended => {}
                Ok(()) => contents.tail = Tail::Unended,
                Err(problem) if number == 1 && contents.header.is_some() => {
                    return Err(JournalError::damaged(path, number, problem));
                }
                Err(_) if !is_ended => {
                    contents.tail = Tail::Torn(bytes);
                    break;
                }
                Err(_) if contents.header.is_none() => {
                    return Err(JournalError::other(path, "it is no journal"));
                }
                Err(problem) => return Err(JournalError::damaged(path, number, problem)),
            }
            contents.length += bytes.len() as u64;
            if contents.header.as_ref().is_some_and(|header| !header.is_of_this_version()) {
                break;
            }
        }
        Ok(contents)
    }

    fn add(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&Header, &RawLine<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(header) = &self.header else {
            let header: Header = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            let is_of_this_version = header.is_of_this_version();
            self.header = Some(header);
            if is_of_this_version {
                self.has_sums = check_sum(bytes)?;
            }
            return Ok(());
        };
        let line: RawLine<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !check_sum(bytes)? && self.has_sums {
            return Err("it has no checksum".to_owned());
        }
        each(header, &line)?;
        let kind = line.outcome.kind();
        self.entries.insert(line.index, Entry { offset: self.length, length: bytes.len(), kind });
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use serde_json::value::RawValue;

    use super::super::line::{Kept, Line, to_bytes};
    use super::*;

    fn header() -> Vec<u8> {
        to_bytes(&Header::new("x".into(), Some(3), 0, 1)).unwrap()
    }

    fn line(index: usize, value: u32) -> Vec<u8> {
        let (id, outcome) = (RawValue::from_string(format!("\"item {index}\"")).unwrap(), Kept::Value(value));
        to_bytes(&Line { index, id: &id, attempts: 1, at: 0.0, outcome }).unwrap()
    }

    fn whole() -> Vec<u8> {
        [header(), line(0, 10), line(2, 12), line(0, 20)].concat()
    }

    fn read(bytes: &[u8]) -> Result<Contents, JournalError> {
        Contents::read(Path::new("j"), bytes, |_, _| Ok(()))
    }

    #[test]
    fn what_goes_on_without_a_line_end_is_not_read_to_its_end() {
        let endless = std::io::BufReader::new(std::io::repeat(b'{').take(4 * LONGEST_HEADER));
        let contents = Contents::read(Path::new("j"), endless, |_, _| Ok(())).unwrap();
        assert!(matches!(contents.tail, Tail::Torn(bytes) if bytes.len() as u64 == LONGEST_HEADER));
    }

    #[test]
    fn of_several_lines_for_an_item_the_last_counts() {
        let contents = read(&whole()).unwrap();
        assert_eq!((contents.entries.len(), &contents.tail), (2, &Tail::Nothing));
        assert_eq!(contents.length, whole().len() as u64);
        let Entry { offset, length, .. } = contents.entries[&0];
        let start = usize::try_from(offset).unwrap();
        assert_eq!(whole()[start..start + length], line(0, 20));
    }

    #[test]
    fn wherever_the_file_is_cut_whole_lines_stay_and_the_rest_is_a_tail() {
        let whole = whole();
        for cut in 0..=whole.len() {
            let contents = read(&whole[..cut]).unwrap();
            let ends = whole[..cut].split(|byte| *byte == b'\n').count() - 1;
            // A line that lacks nothing but its end is whole.
            let is_whole = cut < whole.len() && whole[cut] == b'\n';
            let lines = ends + usize::from(is_whole);
            assert_eq!(contents.header.is_some(), lines > 0, "cut at {cut}");
            assert_eq!(contents.entries.len(), [0, 0, 1, 2, 2][lines], "cut at {cut}");
            assert_eq!(contents.tail == Tail::Unended, is_whole, "cut at {cut}");
            let torn = if let Tail::Torn(torn) = &contents.tail { torn.len() } else { 0 };
            assert_eq!(contents.length + torn as u64, cut as u64, "cut at {cut}");
        }
    }

    #[test]
    fn damage_that_has_a_line_end_is_told_with_its_number() {
        for (at, bytes) in [
            (3, [&header()[..], &line(0, 1), b"\x00\x00\n", &line(1, 1)].concat()),
            (2, [&header()[..], b"\n", &line(1, 1)].concat()),
            (2, [&header()[..], &line(0, 1)[..20], b"\n"].concat()),
        ] {
            let Err(JournalError::Damaged { line, .. }) = read(&bytes) else {
                panic!("line {at} is damaged")
            };
            assert_eq!(line, at);
        }
        let archive = [b"PK\x03\x04\n", &line(1, 1)[..]].concat();
        assert_eq!(read(&archive).unwrap_err().to_string(), "journal j: it is no journal");
    }

    #[test]
    fn of_another_version_only_the_first_line_is_read() {
        let newer = String::from_utf8(header()).unwrap().replace(r#""version":1"#, r#""version":2"#);
        let contents = read(format!("{newer}what version 2 has\n").as_bytes()).unwrap();
        assert_eq!((contents.header.unwrap().version, contents.entries.len()), (2, 0));
    }

    #[test]
    fn a_line_that_is_not_wanted_is_damage_too() {
        let refused = Contents::read(Path::new("j"), &whole()[..], |_, line| {
            if line.index == 2 { Err("no such item".to_owned()) } else { Ok(()) }
        });
        let Err(JournalError::Damaged { line: 3, problem, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(problem, "no such item");
    }
}
