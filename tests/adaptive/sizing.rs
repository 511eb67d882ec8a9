//! Who says how many workers there are: a fixed number, or the controller, with as much measured as a system can.

use std::time::Duration;

use crate::controller::{self, Activity, Controller, Sample, Setup};

/// What the system can measure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Senses {
    /// CPU time and run delay of each thread, and how many could run: Linux with feature `cpu-time`.
    All,
    /// The CPU time as far as Linux tells it without that feature.
    LateCpu,
    /// No run delay, as where Linux is built without.
    NoDelay,
    /// Which threads could run, and nothing of the single claim.
    OnlyRunnable,
    /// CPU time of each claim, but not who could run: beyond 64 workers, and nearly macOS and Windows with feature `cpu-time`, which
    /// know no run delay either.
    NoRunnable,
    /// Nothing: macOS and Windows without it.
    Clock,
}

impl Senses {
    fn cpu(self, ended: &Ended) -> Option<f64> {
        match self {
            Senses::All | Senses::NoDelay | Senses::NoRunnable => Some(ended.cpu),
            Senses::LateCpu => Some(ended.told),
            Senses::OnlyRunnable | Senses::Clock => None,
        }
    }

    fn delay(self) -> bool {
        matches!(self, Senses::All | Senses::LateCpu | Senses::NoRunnable)
    }

    fn runnable(self) -> bool {
        matches!(self, Senses::All | Senses::LateCpu | Senses::NoDelay | Senses::OnlyRunnable)
    }
}

pub(crate) type Ticket = Option<controller::Ticket>;

/// A claim that was done; times in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) failed: usize,
    pub(crate) started: f64,
    pub(crate) at: f64,
    pub(crate) cpu: f64,
    /// The same, as far as it is told.
    pub(crate) told: f64,
    pub(crate) delay: f64,
}

/// What a tick sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) runnable: usize,
    pub(crate) queued: usize,
    pub(crate) paced: usize,
}

/// Another way to find the number, which hears of each request that ended: `benches/adaptive` has some.
pub(crate) trait Peer {
    fn limit(&self) -> usize;
    fn ended(&mut self, now: f64, rtt: f64, in_flight: usize, failed: bool);
}

pub(crate) enum Sizing {
    Fixed(usize),
    /// With how many are under way.
    #[allow(dead_code, reason = "made in benches/adaptive")]
    Peer(Box<dyn Peer>, usize),
    Adaptive(Box<Controller>, Senses),
}

impl Sizing {
    pub(crate) fn adaptive(setup: Setup, senses: Senses) -> Self {
        Sizing::Adaptive(Box::new(Controller::new(setup)), senses)
    }

    pub(crate) fn limit(&self) -> usize {
        match self {
            Sizing::Fixed(limit) => *limit,
            Sizing::Peer(peer, _) => peer.limit(),
            Sizing::Adaptive(controller, _) => controller.limit(),
        }
    }

    pub(crate) fn start(&mut self, now: f64, items: usize) -> Ticket {
        match self {
            Sizing::Fixed(_) => None,
            Sizing::Peer(_, in_flight) => {
                *in_flight += 1;
                None
            }
            Sizing::Adaptive(controller, _) => Some(controller.start(duration(now), items)),
        }
    }

    pub(crate) fn complete(&mut self, ticket: Ticket, ended: Ended) {
        if let Sizing::Peer(peer, in_flight) = self {
            peer.ended(ended.at, ended.at - ended.started, *in_flight, ended.failed > 0);
            *in_flight -= 1;
        }
        let (Sizing::Adaptive(controller, senses), Some(ticket)) = (self, ticket) else { return };
        let measured = |seconds: Option<f64>| seconds.filter(|_| ticket.measure()).map(duration);
        let sample = Sample {
            failed: ended.failed,
            started: duration(ended.started),
            ended: duration(ended.at),
            cpu: measured(senses.cpu(&ended)),
            run_delay: measured(senses.delay().then_some(ended.delay)),
        };
        controller.complete(ticket, sample);
    }

    pub(crate) fn next_tick(&self) -> Option<f64> {
        match self {
            Sizing::Fixed(_) | Sizing::Peer(..) => None,
            Sizing::Adaptive(controller, _) => controller.next_tick(false).map(|at| at.as_secs_f64()),
        }
    }

    pub(crate) fn tick(&mut self, now: f64, scene: Scene) {
        let Sizing::Adaptive(controller, senses) = self else { return };
        let Scene { runnable, queued, paced } = scene;
        let wanted = senses.runnable() && controller.wants_runnable(duration(now));
        let runnable = wanted.then_some(runnable);
        controller.tick(duration(now), Activity { runnable, queued, paced });
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
