//! Where and when the numbers were taken, and with what.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

const COMPILER: &str = env!("BENCH_RUSTC");

/// One line: date, cores, compiler.
pub fn caption() -> String {
    format!("{}, {} cores, {}", today(), cores(), COMPILER.split(" (").next().unwrap_or(COMPILER))
}

/// The CPUs that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The version of a crate, as locked when this was built.
pub fn version(name: &str) -> &'static str {
    let all = env!("BENCH_VERSIONS").split(';');
    all.filter_map(|entry| entry.split_once(' '))
        .find(|(found, _)| *found == name)
        .map_or("?", |(_, version)| version)
}

/// Year-month-day of now, UTC.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The date that lies this many days after 1970-01-01. Howard Hinnant's `civil_from_days`, for days from then on.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }
}
