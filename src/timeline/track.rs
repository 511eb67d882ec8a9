//! What one worker leaves in the timeline: a pure value, told of each attempt. Exact in its counts; of the attempts themselves
//! it keeps all, or a sample, and beside that the slowest and the first that failed.

use std::mem;

use super::density::{self, Density};
use super::span::{Attempt, Ending, Span, Texts};

/// This many of the slowest, and of the first that failed, are kept whatever the sample is, where there is room for them.
pub(super) const EXTREMES: usize = 100;

/// How selective a sample is: level n keeps one item in 2^n, with all of its attempts. It depends on the item's index alone,
/// so that workers need not agree on anything but the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Level(pub(crate) u32);

impl Level {
    pub(crate) const ALL: Level = Level(0);

    /// The highest level at which this item is kept.
    #[inline]
    fn of(index: usize) -> Level {
        Level(scrambled(index as u64).leading_zeros())
    }

    #[inline]
    pub(super) fn keeps(self, index: usize) -> bool {
        Level::of(index) >= self
    }

    /// The level at which about this many remain of this many.
    fn for_room(most: usize, items: usize) -> Level {
        let fits = |level: &u32| items.checked_shr(*level).unwrap_or(0) <= most;
        Level((0..usize::BITS).find(fits).unwrap_or(usize::BITS))
    }

    pub(crate) fn next(self) -> Level {
        Level(self.0 + 1)
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014): neighbours come
/// far apart.
#[inline]
fn scrambled(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is known of all attempts, kept or not. Times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(super) attempts: usize,
    /// Items that were tried at all.
    pub(super) items: usize,
    by_ending: [usize; Ending::ALL.len()],
    pub(super) busy: u64,
    pub(super) longest_run: u64,
    pub(super) longest_limiter_wait: u64,
    pub(super) longest_queue_wait: u64,
}

impl Totals {
    #[inline]
    fn add(&mut self, attempt: &Attempt) {
        let times = &attempt.times;
        self.attempts += 1;
        self.items += usize::from(attempt.number == 1);
        self.by_ending[attempt.ending as usize] += 1;
        self.busy += times.run_time();
        self.longest_run = self.longest_run.max(times.run_time());
        self.longest_limiter_wait = self.longest_limiter_wait.max(times.limiter_wait());
        self.longest_queue_wait = self.longest_queue_wait.max(times.queue_wait());
    }

    fn merge(&mut self, other: &Totals) {
        self.attempts += other.attempts;
        self.items += other.items;
        for (mine, more) in self.by_ending.iter_mut().zip(other.by_ending) {
            *mine += more;
        }
        self.busy += other.busy;
        self.longest_run = self.longest_run.max(other.longest_run);
        self.longest_limiter_wait = self.longest_limiter_wait.max(other.longest_limiter_wait);
        self.longest_queue_wait = self.longest_queue_wait.max(other.longest_queue_wait);
    }

    pub(super) fn ended(&self, ending: Ending) -> usize {
        self.by_ending[ending as usize]
    }
}

/// How many spans may be kept, and how many of them may be the slowest, or the first that failed, beside a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    spans: usize,
    extremes: usize,
}

impl Room {
    pub(crate) fn new(spans: usize) -> Self {
        Room { spans, extremes: EXTREMES.min(spans / 4) }
    }

    /// The level to begin with, for this many items.
    pub(crate) fn level_for(&self, items: usize) -> Level {
        if items <= self.spans { Level::ALL } else { Level::for_room(self.for_sample(Level(1)), items) }
    }

    /// How many may be in the sample of this level. Where it is no sample, nothing is kept beside it.
    pub(crate) fn for_sample(&self, level: Level) -> usize {
        if level == Level::ALL { self.spans } else { self.spans - 2 * self.extremes }
    }
}

/// What an attempt is kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptAs {
    Sample,
    /// One of the slowest, or of the first that failed.
    Extreme,
    Nothing,
}

/// One worker's part.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) worker: usize,
    room: Room,
    level: Level,
    totals: Totals,
    density: Density,
    pub(crate) sample: Vec<Span>,
    /// Of those that are not in the sample, the slowest first.
    slowest: Vec<Span>,
    /// Of those that are not in the sample, the first.
    failed: Vec<Span>,
}

impl Track {
    pub(crate) fn new(worker: usize, room: Room, level: Level) -> Self {
        Track {
            worker,
            room,
            level,
            totals: Totals::default(),
            density: Density::new(),
            sample: Vec::new(),
            slowest: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Notes an attempt. Id and note are asked for only if it is kept.
    #[inline]
    pub(crate) fn add(&mut self, attempt: Attempt, texts: impl FnOnce() -> Texts) -> KeptAs {
        self.totals.add(&attempt);
        self.density.add(&attempt);
        let kept_as = self.kept_as(&attempt);
        match kept_as {
            KeptAs::Sample => self.sample.push(Span::new(attempt, self.worker, texts())),
            KeptAs::Extreme => self.keep_extreme(Span::new(attempt, self.worker, texts())),
            KeptAs::Nothing => {}
        }
        kept_as
    }

    #[inline]
    fn kept_as(&self, attempt: &Attempt) -> KeptAs {
        if self.level.keeps(attempt.index) {
            KeptAs::Sample
        } else if self.is_slow(attempt.times.run_time()) || self.is_early_failure(attempt.ending) {
            KeptAs::Extreme
        } else {
            KeptAs::Nothing
        }
    }

    fn is_slow(&self, run_time: u64) -> bool {
        let quickest = self.slowest.last().map(|span| span.times().run_time());
        self.room.extremes > self.slowest.len() || quickest.is_some_and(|quickest| run_time > quickest)
    }

    fn is_early_failure(&self, ending: Ending) -> bool {
        ending.is_failure() && self.failed.len() < self.room.extremes
    }

    #[cold]
    fn keep_extreme(&mut self, span: Span) {
        if self.is_early_failure(span.ending()) {
            self.failed.push(span.clone());
        }
        self.keep_slow(span);
    }

    fn keep_slow(&mut self, span: Span) {
        let run_time = span.times().run_time();
        if self.is_slow(run_time) {
            let place = self.slowest.partition_point(|other| other.times().run_time() >= run_time);
            self.slowest.insert(place, span);
            self.slowest.truncate(self.room.extremes);
        }
    }

    /// Keeps fewer in the sample.
    pub(crate) fn raise(&mut self, level: Level) {
        if level <= self.level {
            return;
        }
        self.level = level;
        let (kept, dropped) = self.sample.drain(..).partition(|span: &Span| level.keeps(span.index()));
        self.sample = kept;
        self.failed.extend(dropped.iter().filter(|span| span.ending().is_failure()).cloned());
        keep_first(&mut self.failed, self.room.extremes);
        for span in dropped {
            self.keep_slow(span);
        }
    }

    /// Adds another's, at the higher level of both. All but its density, which remains one worker's.
    fn merge(&mut self, mut other: Track) {
        self.raise(other.level);
        other.raise(self.level);
        self.totals.merge(&other.totals);
        self.sample.append(&mut other.sample);
        other.slowest.into_iter().for_each(|span| self.keep_slow(span));
        self.failed.append(&mut other.failed);
    }

    /// What is kept, each once.
    fn into_spans(self) -> Vec<Span> {
        let Track { room, sample: mut spans, slowest, mut failed, .. } = self;
        keep_first(&mut failed, room.extremes);
        spans.extend(slowest);
        spans.extend(failed);
        spans.sort_by_key(|span| (span.times().started, span.times().ended, span.index(), span.attempt()));
        spans.dedup();
        spans
    }
}

/// All that was recorded, of all workers.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) level: Level,
    pub(crate) totals: Totals,
    /// By the number of the worker.
    pub(crate) densities: Vec<Density>,
    /// Sampled or extreme, by the time when they started.
    pub(crate) spans: Vec<Span>,
}

impl Recorded {
    /// Brings the tracks together, within the room.
    pub(crate) fn of(mut tracks: Vec<Track>, room: Room) -> Self {
        let densities = lanes(&mut tracks);
        let mut all = Track::new(0, room, Level::ALL);
        for track in tracks {
            all.merge(track);
        }
        while all.sample.len() > room.for_sample(all.level) {
            all.raise(all.level.next());
        }
        let (level, totals) = (all.level, all.totals.clone());
        Recorded { level, totals, densities, spans: all.into_spans() }
    }
}

/// Those that ended first.
fn keep_first(failed: &mut Vec<Span>, most: usize) {
    failed.sort_by_key(|span| span.times().ended);
    failed.truncate(most);
}

/// One density for each worker number, all of one width.
fn lanes(tracks: &mut [Track]) -> Vec<Density> {
    let count = tracks.iter().map(|track| track.worker + 1).max().unwrap_or(0);
    let mut lanes = vec![Density::new(); count];
    for track in tracks {
        lanes[track.worker].merge(mem::replace(&mut track.density, Density::new()));
    }
    density::align(&mut lanes.iter_mut().collect::<Vec<_>>());
    lanes
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::collections::BTreeSet;

    use super::super::span::Times;
    use super::*;

    const ROOM: usize = 400;

    /// The item at `index` of a worker that takes them one after another, each so long.
    fn attempt(index: usize, run_time: u64, ending: Ending) -> Attempt {
        let started = index as u64 * 1000;
        let times = Times { queued: 0, taken: started, started, ended: started + run_time };
        Attempt { index, number: 1, times, ending }
    }

    fn told(track: &mut Track, attempt: Attempt) {
        track.add(attempt, || Texts { id: attempt.index.to_string().into(), ..Texts::default() });
    }

    fn recorded(room: usize, attempts: impl Iterator<Item = Attempt>) -> Recorded {
        let room = Room::new(room);
        let mut tracks = [0, 1].map(|worker| Track::new(worker, room, Level::ALL));
        for attempt in attempts {
            let track = &mut tracks[attempt.index % 2];
            told(track, attempt);
            if track.sample.len() > 1_000 {
                track.raise(track.level.next()); // at different times for each
            }
        }
        Recorded::of(tracks.into(), room)
    }

    fn indices(spans: &[Span]) -> BTreeSet<usize> {
        spans.iter().map(Span::index).collect()
    }

    #[test]
    fn what_has_room_is_kept_whole_in_the_order_of_starts() {
        let all = recorded(ROOM, (0..ROOM).map(|index| attempt(index, 5, Ending::Succeeded)));
        assert_eq!(all.level, Level::ALL);
        assert!(all.spans.iter().map(Span::index).eq(0..ROOM));
    }

    #[test]
    fn above_it_a_sample_remains_with_exact_totals() {
        let items = 50_000;
        let all = recorded(ROOM, (0..items).map(|index| attempt(index, 5, Ending::Succeeded)));
        assert!(all.spans.len() <= ROOM, "{}", all.spans.len());
        let sampled = all.spans.iter().filter(|span| all.level.keeps(span.index())).count();
        assert!(sampled > ROOM / 8, "{sampled}");
        assert_eq!(
            sampled,
            (0..items).filter(|index| all.level.keeps(*index)).count(),
            "no item of the sample is missing"
        );
        assert_eq!(
            (all.totals.attempts, all.totals.items, all.totals.busy),
            (items, items, 5 * items as u64)
        );
        let ended: u64 = all.densities.iter().flat_map(Density::buckets).map(|bucket| bucket.decided).sum();
        assert_eq!(ended, items as u64);
    }

    #[test]
    fn the_slowest_and_the_first_failures_are_kept_whatever_the_sample_is() {
        let ending = |index| if index % 70 == 3 { Ending::Failed } else { Ending::Succeeded };
        // As many as the slowest that are kept.
        let run_time = |index| if index % 500 == 7 { 900 + index as u64 % 100 } else { 10 };
        let all = recorded(ROOM, (0..50_000).map(|index| attempt(index, run_time(index), ending(index))));
        let kept = indices(&all.spans);
        assert!((0..50_000).filter(|index| index % 500 == 7).all(|index| kept.contains(&index)));
        assert!((0..7_000).filter(|index| index % 70 == 3).all(|index| kept.contains(&index)));
        assert!(all.spans.len() <= ROOM);
    }

    /// The samples of both workers have room together, so that nothing is sorted out when they come together.
    #[test]
    fn the_first_failures_are_those_of_all_workers() {
        let room = Room::new(ROOM);
        let mut tracks = [0, 1].map(|worker| Track::new(worker, room, Level(5)));
        (0..3_000).for_each(|index| told(&mut tracks[index % 2], attempt(index, 5, Ending::Failed)));
        let kept = indices(&Recorded::of(tracks.into(), room).spans);
        assert!((0..100).all(|index| kept.contains(&index)), "{kept:?}");
    }

    #[test]
    fn a_level_keeps_half_of_what_the_one_below_keeps() {
        for level in 0..6 {
            let kept = (0..64_000).filter(|index| Level(level).keeps(*index)).count();
            let expected = 64_000 >> level;
            assert!(kept.abs_diff(expected) < expected / 10, "level {level}: {kept}");
        }
        assert_eq!(Level::for_room(100, 100), Level::ALL);
        assert_eq!(Level::for_room(100, 101), Level(1));
        assert_eq!(Level::for_room(100_000, 1_000_000), Level(4));
        assert_eq!(Level::for_room(1, usize::MAX), Level(usize::BITS - 1));
    }

    #[test]
    fn workers_that_sampled_at_different_levels_come_together_at_the_highest() {
        for levels in [[1, 3], [3, 1]] {
            let room = Room { spans: 1_000, extremes: 0 };
            let tracks = [0, 1].map(|worker| {
                let mut track = Track::new(worker, room, Level(levels[worker]));
                (0..500).filter(|index| index % 2 == worker).for_each(|index| {
                    told(&mut track, attempt(index, 5, Ending::Succeeded));
                });
                track
            });
            let all = Recorded::of(tracks.into(), room);
            assert_eq!(all.level, Level(3));
            assert!(all.spans.iter().map(Span::index).eq((0..500).filter(|index| Level(3).keeps(*index))));
        }
    }

    #[test]
    fn a_room_for_one_holds_one() {
        let all = recorded(1, (0..1_000).map(|index| attempt(index, 5, Ending::Failed)));
        assert!(all.spans.len() <= 1);
        assert_eq!(all.totals.ended(Ending::Failed), 1_000);
    }
}
