//! What a batch notes for its timeline while it runs. Each worker writes into a track of its own; it takes a lock only where it
//! begins one, and now and then while many spans are kept.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::error::{Chain, ItemError, TIMED_OUT};
use crate::panic::{self, Panic};
use crate::sync::{Instant, Mutex};
use crate::timeline::span::{Attempt, Ending, Texts, Times, nanos, shortened};
use crate::timeline::track::{KeptAs, Level, Recorded, Room, Track};

/// What an item is called.
pub(crate) type NameOf<'a, I> = Box<dyn Fn(&I) -> String + Send + Sync + 'a>;

/// This many spans are kept before a worker tells of it.
const TOLD_TOGETHER: usize = 256;

/// Shared by all who work on the batch.
pub(crate) struct Recorder<'a, I> {
    name_of: NameOf<'a, I>,
    since: Instant,
    /// When the items were there, in nanoseconds since then.
    queued: u64,
    room: Room,
    state: Mutex<State>,
}

struct State {
    /// Of those who are not at work.
    tracks: Vec<Track>,
    level: Level,
    /// How many spans have been kept that the level keeps, as far as workers have told.
    kept: usize,
}

impl<'a, I> Recorder<'a, I> {
    /// For this many spans at most, of this many items if that is known.
    pub(crate) fn new(name_of: NameOf<'a, I>, spans: usize, since: Instant, items: Option<usize>) -> Self {
        let (queued, room) = (nanos(clock::since(since)), Room::new(spans));
        let state = State { tracks: Vec::new(), level: room.level_for(items.unwrap_or(0)), kept: 0 };
        Recorder { name_of, since, queued, room, state: Mutex::new(state) }
    }

    /// The time since the batch began, in nanoseconds.
    #[inline]
    fn now(&self) -> u64 {
        self.at(clock::now())
    }

    fn at(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(self.since))
    }

    fn take(&self, worker: usize) -> Track {
        let mut state = self.state.lock();
        let found = state.tracks.iter().position(|track| track.worker == worker);
        match found {
            Some(found) => state.tracks.swap_remove(found),
            None => Track::new(worker, self.room, state.level),
        }
    }

    fn put_back(&self, track: Track) {
        self.state.lock().tracks.push(track);
    }

    /// Hears that this many more are kept; what the level is now.
    fn hear(&self, more: usize) -> Level {
        let mut state = self.state.lock();
        state.kept += more;
        while state.kept > self.room.for_sample(state.level) {
            state.level = state.level.next();
            state.kept /= 2;
        }
        state.level
    }

    /// What an item is called. Where that panics, it says so.
    fn name(&self, item: &I) -> Box<str> {
        let name = panic::catch(|| (self.name_of)(item));
        let name = name.unwrap_or_else(|panic| format!("(no id: {})", panic.message()));
        shortened(name).into()
    }

    /// When no worker is left. A panic of what makes ids, as it is dropped, is handed back.
    pub(crate) fn finish(mut self) -> (Recorded, Result<(), Panic>) {
        let tracks = mem::take(&mut self.state.get_mut().tracks);
        (Recorded::of(tracks, self.room), panic::discard(self.name_of))
    }
}

/// Since when an item could have been taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Queued {
    /// Since the items were there.
    AtStart,
    /// It was not before.
    Now,
    /// An item that was due then.
    At(Instant),
}

/// When an attempt asked its limits: the time since the batch began.
#[derive(Debug, Clone)]
pub(crate) struct LimitWait {
    pub(crate) since: Duration,
    /// The limit for which it has waited longest, if it has waited.
    pub(crate) limit: Option<Arc<str>>,
}

/// One worker's hand in it.
pub(crate) struct Scribe<'r, I> {
    recorder: &'r Recorder<'r, I>,
    track: Option<Track>,
    /// Spans that it has kept and not told of.
    untold: usize,
    queued: u64,
    /// When the item first asked its limits, if it has any.
    asked: Option<u64>,
    /// The limit for which it has waited longest.
    waited_for: Option<Arc<str>>,
    /// Since when it can turn to the next item.
    free_since: u64,
    open: Option<Open>,
}

/// An attempt that has started, and has not succeeded so far.
struct Open {
    started: u64,
    /// Unless it panicked.
    ended: Option<u64>,
}

impl<'r, I> Scribe<'r, I> {
    pub(crate) fn new(recorder: &'r Recorder<'r, I>) -> Self {
        Scribe {
            recorder,
            track: None,
            untold: 0,
            queued: 0,
            asked: None,
            waited_for: None,
            free_since: 0,
            open: None,
        }
    }

    /// The worker with this number turns to items that have been queued since then.
    /// Where there are limits, the item has asked them.
    pub(crate) fn turns_to(&mut self, worker: usize, queued: Queued, asked: Option<LimitWait>) {
        self.free_since = self.recorder.now();
        self.asked = asked.as_ref().map(|asked| nanos(asked.since).min(self.free_since));
        self.waited_for = asked.and_then(|asked| asked.limit);
        self.queued = match queued {
            Queued::AtStart => self.recorder.queued,
            Queued::Now => self.asked.unwrap_or(self.free_since),
            Queued::At(due) => self.recorder.at(due),
        };
        if self.track.as_ref().is_none_or(|track| track.worker != worker) {
            self.put_back();
            self.track = Some(self.recorder.take(worker));
        }
    }

    /// An attempt starts: now, if it may have waited or the worker was busy with a journal; otherwise when the worker turned to it.
    #[inline]
    pub(crate) fn starts(&mut self, may_have_waited: bool) {
        let started = if may_have_waited { self.recorder.now() } else { self.free_since };
        self.open = Some(Open { started, ended: None });
    }

    /// It has a value.
    #[inline]
    pub(crate) fn succeeds(&mut self, index: usize, number: usize, item: &I) {
        self.end(index, number, Ending::Succeeded, |recorder| Texts {
            id: recorder.name(item),
            ..Texts::default()
        });
    }

    /// The operation has returned. What that means for the item is known later.
    #[inline]
    pub(crate) fn stops(&mut self) {
        let now = self.recorder.now();
        self.open.iter_mut().for_each(|open| open.ended = Some(now));
    }

    /// The attempt was cut off, and is none of those that are told.
    #[cfg(feature = "tokio")]
    pub(crate) fn forgets(&mut self) {
        (self.open, self.asked) = (None, None);
        self.goes_on();
    }

    /// What the worker has done since was for no attempt, such as making a text.
    pub(crate) fn goes_on(&mut self) {
        self.free_since = self.recorder.now();
    }

    /// It has come to no value; it may not even have started.
    #[cold]
    pub(crate) fn close(&mut self, index: usize, number: usize, end: &End, item: Option<&I>) {
        self.end(index, number, end.ending, |recorder| {
            let id = item.map_or_else(Box::default, |item| recorder.name(item));
            let note = end.note.clone().map(|note| shortened(note).into());
            Texts { id, note, ..Texts::default() }
        });
    }

    #[inline]
    fn end(
        &mut self,
        index: usize,
        number: usize,
        ending: Ending,
        texts: impl FnOnce(&Recorder<'r, I>) -> Texts,
    ) {
        let times = self.times();
        self.free_since = times.ended;
        let waited_for = self.waited_for.take();
        let Some(track) = &mut self.track else { return };
        let texts = || Texts { waited_for, ..texts(self.recorder) };
        match track.add(Attempt { index, number, times, ending }, texts) {
            KeptAs::Nothing => return,
            KeptAs::Sample => self.untold += 1,
            KeptAs::Extreme => {}
        }
        if self.untold == TOLD_TOGETHER {
            self.tell();
        }
        self.goes_on();
    }

    /// Of the attempt that is open. Whatever the clock of another core says, nothing ends before it begins.
    #[inline]
    fn times(&mut self) -> Times {
        let open = self.open.take();
        let turned = self.free_since;
        let taken = self.asked.take().unwrap_or(turned);
        let ended = open.as_ref().and_then(|open| open.ended).unwrap_or_else(|| self.recorder.now());
        let started = open.map_or(ended, |open| open.started).max(turned);
        Times { queued: self.queued.min(taken), taken, started, ended: ended.max(started) }
    }

    #[cold]
    fn tell(&mut self) {
        let level = self.recorder.hear(mem::take(&mut self.untold));
        self.track.iter_mut().for_each(|track| track.raise(level));
    }

    fn put_back(&mut self) {
        self.tell();
        if let Some(track) = self.track.take() {
            self.recorder.put_back(track);
        }
    }
}

impl<I> Drop for Scribe<'_, I> {
    fn drop(&mut self) {
        self.put_back();
    }
}

/// How an attempt ended, and what there is to say about it.
pub(crate) struct End {
    pub(crate) ending: Ending,
    pub(crate) note: Option<String>,
}

impl End {
    /// What this error says of the attempt that it comes from.
    pub(crate) fn of<E>(error: &ItemError<E>) -> Self {
        let (ending, note) = match error {
            ItemError::Panicked(panic) => (Ending::Panicked, Some(panic.message().to_owned())),
            ItemError::RateLimiter(error) => (Ending::Refused, Some(Chain(error).to_string())),
            ItemError::TimedOut => (Ending::Failed, Some(TIMED_OUT.to_owned())),
            ItemError::Interrupted(_) => (Ending::Retried, None),
            ItemError::Failed(_) | ItemError::FailedEarlier(_) | ItemError::Skipped => (Ending::Failed, None),
        };
        End { ending, note }
    }

    pub(crate) fn retried() -> Self {
        End { ending: Ending::Retried, note: None }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    fn recorder<'a>(spans: usize, items: Option<usize>) -> Recorder<'a, usize> {
        Recorder::new(Box::new(usize::to_string), spans, Instant::now(), items)
    }

    #[test]
    fn the_level_rises_when_more_are_kept_than_there_is_room_for() {
        let recorder = recorder(1_000, None);
        assert_eq!(recorder.hear(1_000), Level(0));
        assert_eq!(recorder.hear(1), Level(1), "half of 1,001 fit beside the slowest and the failed");
        assert_eq!(recorder.hear(300), Level(1));
        assert_eq!(recorder.hear(1), Level(2), "801 do not");
    }

    #[test]
    fn of_items_that_are_known_to_be_too_many_no_more_are_kept_than_have_room() {
        for items in [Some(100_000), None] {
            let recorder = recorder(1_000, items);
            let mut scribe = Scribe::new(&recorder);
            scribe.turns_to(0, Queued::AtStart, None);
            for index in 0..100_000 {
                scribe.starts(false);
                scribe.succeeds(index, 1, &index);
                let kept = scribe.track.as_ref().map_or(0, |track| track.sample.len());
                assert!(kept <= 1_000 + TOLD_TOGETHER, "{kept} after {index}");
            }
            drop(scribe);
            let (recorded, _) = recorder.finish();
            assert!((100..=1_000).contains(&recorded.spans.len()), "{}", recorded.spans.len());
        }
    }

    fn work(scribe: &mut Scribe<'_, usize>, worker: usize, index: usize) {
        scribe.turns_to(worker, Queued::Now, None);
        scribe.starts(false);
        scribe.succeeds(index, 1, &index);
    }

    #[test]
    fn a_worker_that_comes_again_goes_on_where_it_was() {
        let recorder = recorder(1_000, None);
        for (index, worker) in [0, 1, 0].into_iter().enumerate() {
            work(&mut Scribe::new(&recorder), worker, index);
        }
        assert_eq!(recorder.state.lock().tracks.len(), 2);
        let (recorded, _) = recorder.finish();
        assert_eq!((recorded.spans.len(), recorded.densities.len()), (3, 2));
    }

    #[test]
    fn who_gets_another_number_works_in_another_lane() {
        let recorder = recorder(1_000, None);
        let mut scribe = Scribe::new(&recorder);
        for (index, worker) in [0, 0, 1].into_iter().enumerate() {
            work(&mut scribe, worker, index);
        }
        drop(scribe);
        let (recorded, _) = recorder.finish();
        let workers: Vec<usize> = recorded.spans.iter().map(crate::timeline::Span::worker).collect();
        assert_eq!(workers, [0, 0, 1]);
    }
}
