//! The rate of a limit that learns what a server allows, with the clock left out: times are nanoseconds since any one moment.
//!
//! The rate follows the curve of CUBIC (RFC 9438), as it does in the adaptive retry mode of AWS's clients (botocore,
//! `retries/throttling.py`). A refusal makes it a part of what it was. Then it climbs to a plateau below the rate that was
//! refused, first fast and then slowly, and leaves that upwards, first slowly and then fast. Before the first refusal it doubles
//! each second. Where this differs from CUBIC, a server that counts requests differs from a network:
//!
//! - The curve is relative to the plateau: it is the same for one request a second and for 100,000 tokens.
//! - The rate stays on a plateau, and twice as long each time that a refusal confirms it: what is known is tried less and less.
//! - A pause that is longer than the run before it tells what the server allows: what was taken, divided by the pause. If such pauses
//!   follow each other, the server still counts what came before: then all of it, divided by the whole time.

use std::time::Duration;

/// What is left of a plateau when the rate falls. RFC 9438 and botocore have 0.7, too.
const BETA: f64 = 0.7;

/// The plateau, as a part of the rate that was refused.
const PLATEAU: f64 = 0.95;

/// The same where that rate is below the plateau before. RFC 9438, "fast convergence": the mean of 1 and `BETA`.
const LOWER_PLATEAU: f64 = 0.85;

/// A refusal at a rate that is at least this part of the plateau is no refusal below it.
const ON_PLATEAU: f64 = 0.98;

/// A plateau that differs less from another one confirms it.
const NEAR: f64 = 0.15;

/// How many seconds the rate climbs to the plateau, CUBIC's K; and how many at most until it is as far above it.
const CLIMB: f64 = 4.0;
const LONGEST_CLIMB: f64 = 12.0;

/// How many seconds the rate stays on a plateau: on a new one, and at most.
const FIRST_STAY: f64 = 4.0;
const LONGEST_STAY: f64 = 1_800.0;

/// On a confirmed plateau it stays at least this many times the pause that a refusal costs.
const STAY_OF_A_PAUSE: f64 = 20.0;

/// A longer pause is for a quota, and tells nothing about a rate.
const LONGEST_PERIOD: f64 = 120.0;

/// The least rate, as a part of the first.
const LEAST: f64 = 0.001;

/// How many seconds there are between two looks at the rate, at least.
const LOOK: f64 = 0.25;

/// Each start lets the rate rise as far as it does in this many seconds, at most. So a rate of few starts rises slowly.
const RISE_OF_A_START: f64 = 1.0;

#[derive(Debug, Clone)]
pub(super) struct Learner {
    /// Permits a second.
    rate: f64,
    least: f64,
    course: Course,
    /// How far the rate is on its course: seconds in which most of it was used.
    risen: f64,
    /// What was taken since the rate fell last. None until something is.
    run: Option<Tally>,
    /// The last run, with those before it that ended in pauses which followed each other closely.
    runs: Option<Tally>,
    /// What was taken since the last look.
    recent: Tally,
    /// Permits a second that were taken before the last look.
    used: f64,
    /// When the last pause ends.
    resumes_at: u64,
    /// The last plateau on which the rate has stayed as long as it should.
    known: Option<Plateau>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Plateau {
    rate: f64,
    stay: f64,
}

/// How the rate rises.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Course {
    /// Nothing has been refused yet.
    Doubling {
        from: f64,
    },
    Cubic(Plateau),
}

impl Course {
    fn rate(self, risen: f64) -> f64 {
        match self {
            Course::Doubling { from } => from * risen.exp2(),
            Course::Cubic(Plateau { rate, stay }) => {
                let below = (1.0 - risen / CLIMB).max(0.0);
                let above = (risen - CLIMB - stay).max(0.0) / (stay / 4.0).clamp(CLIMB, LONGEST_CLIMB);
                rate * (1.0 + (1.0 - BETA) * (above.powi(3) - below.powi(3)))
            }
        }
    }

    /// Where the plateau is after a refusal at this rate.
    fn next_plateau(self, refused: f64) -> f64 {
        match self {
            Course::Doubling { .. } => BETA * refused,
            Course::Cubic(plateau) if refused < ON_PLATEAU * plateau.rate => LOWER_PLATEAU * refused,
            Course::Cubic(plateau) => (PLATEAU * refused).min(f64::midpoint(plateau.rate, PLATEAU * refused)),
        }
    }
}

/// What was taken since some moment.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    since: u64,
    starts: u32,
    permits: u64,
}

impl Tally {
    fn from(since: u64) -> Self {
        Tally { since, ..Tally::default() }
    }

    fn add(&mut self, permits: u64) {
        self.starts = self.starts.saturating_add(1);
        self.permits = self.permits.saturating_add(permits);
    }

    fn and(self, later: Tally) -> Self {
        let (starts, permits) =
            (self.starts.saturating_add(later.starts), self.permits.saturating_add(later.permits));
        Tally { since: self.since, starts, permits }
    }

    fn seconds(self, now: u64) -> f64 {
        seconds(now.saturating_sub(self.since))
    }

    /// Permits a second.
    fn rate(self, now: u64) -> f64 {
        Duration::from_nanos(self.permits).as_secs_f64() * 1e9 / self.seconds(now).max(1e-9)
    }
}

impl Learner {
    pub(super) fn new(interval: u64) -> Self {
        let rate = 1.0 / seconds(interval);
        Learner {
            rate,
            least: rate * LEAST,
            course: Course::Doubling { from: rate },
            risen: 0.0,
            run: None,
            runs: None,
            recent: Tally::default(),
            used: 0.0,
            resumes_at: 0,
            known: None,
        }
    }

    /// In nanoseconds.
    pub(super) fn interval(&self) -> u64 {
        super::nanos(Duration::from_secs_f64(1.0 / self.rate)).max(1)
    }

    /// Whether it has learnt nothing yet.
    pub(super) fn is_new(&self) -> bool {
        self.course == Course::Doubling { from: self.rate }
    }

    /// Something starts. Whether the rate has changed.
    pub(super) fn starts(&mut self, now: u64, permits: u64) -> bool {
        let begins = now.max(self.resumes_at);
        let has_begun = self.run.is_some();
        self.run.get_or_insert_with(|| Tally::from(begins)).add(permits);
        if !has_begun {
            self.recent = Tally::from(begins);
        }
        let has_changed = self.recent.seconds(now) >= LOOK && self.look(now);
        self.recent.add(permits);
        has_changed
    }

    /// The rate rises if most of it was used.
    fn look(&mut self, now: u64) -> bool {
        let (seconds, starts) = (self.recent.seconds(now), f64::from(self.recent.starts));
        self.used = self.recent.rate(now);
        self.recent = Tally::from(now);
        let is_used = self.used >= self.rate / 2.0;
        if is_used {
            self.risen += seconds.min(RISE_OF_A_START * starts);
            self.rate = self.course.rate(self.risen).max(self.least);
        }
        is_used
    }

    /// Something was refused that started after the rate fell last. Whether the rate falls.
    ///
    /// If nothing else has started since then, that tells nothing about the rate: the server is away.
    pub(super) fn falls(&mut self, now: u64, pause: u64) -> bool {
        self.resumes_at = now.saturating_add(pause);
        let Some(run) = self.run.take().filter(|run| run.starts > 1) else { return false };
        let told = self.told(run, now, pause);
        let refused = self.in_use(run, now);
        let plateau =
            told.map_or_else(|| self.course.next_plateau(refused), |told| told.min(PLATEAU * refused));
        let stay = self.stay(plateau, seconds(pause), told.is_some());
        self.course = Course::Cubic(Plateau { rate: plateau, stay });
        self.risen = 0.0;
        self.rate = self.course.rate(0.0).max(self.least);
        true
    }

    /// The rate that the server allows, if the pause tells that.
    fn told(&mut self, run: Tally, now: u64, pause: u64) -> Option<f64> {
        let is_told = (run.seconds(now)..LONGEST_PERIOD).contains(&seconds(pause));
        let before = self.runs.filter(|_| is_told);
        let runs = before.map_or(run, |before| before.and(run));
        self.runs = Some(runs);
        let begins = if before.is_some() { now } else { runs.since };
        is_told.then(|| runs.rate(begins.saturating_add(pause)))
    }

    /// How much of the rate was used.
    fn in_use(&self, run: Tally, now: u64) -> f64 {
        let is_long = self.recent.seconds(now) >= LOOK / 2.0;
        let used = if is_long { self.recent.rate(now) } else { self.used };
        if run.seconds(now) >= LOOK && used < self.rate / 2.0 { used } else { self.rate }
    }

    /// How long the rate stays on this plateau.
    fn stay(&mut self, plateau: f64, pause: f64, is_told: bool) -> f64 {
        match self.course {
            Course::Cubic(before) if self.risen >= CLIMB + before.stay => self.known = Some(before),
            Course::Doubling { .. } if is_told => return 0.0,
            _ => {}
        }
        match self.known.filter(|known| (plateau - known.rate).abs() < NEAR * known.rate) {
            Some(known) => (2.0 * known.stay).max(STAY_OF_A_PAUSE * pause).clamp(FIRST_STAY, LONGEST_STAY),
            None => FIRST_STAY,
        }
    }

    /// A pause ends early.
    pub(super) fn resumes(&mut self, now: u64) {
        self.resumes_at = self.resumes_at.min(now);
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}
