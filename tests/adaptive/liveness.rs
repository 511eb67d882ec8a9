//! Whatever happens, the limit stays within its bounds; and while cores are idle and items wait, it moves.

use std::time::Duration;

use proptest::prelude::*;

use crate::controller::{Activity, Controller, Sample, Setup};
use crate::machine::{Machine, Step};
use crate::rng::Rng;
use crate::simulation::Simulation;
use crate::sizing::{Senses, Sizing};

/// Something that a caller may do, with whatever times.
#[derive(Debug, Clone)]
enum Call {
    Start {
        now: Duration,
        items: usize,
    },
    Complete {
        which: usize,
        failed: usize,
        started: Duration,
        ended: Duration,
        cpu: Option<Duration>,
        run_delay: Option<Duration>,
    },
    Tick {
        now: Duration,
        runnable: Option<usize>,
        queued: usize,
        paced: usize,
    },
    Refused(usize),
    Overload,
}

fn time() -> impl Strategy<Value = Duration> + Clone {
    prop_oneof![
        8 => (0_u64..5_000_000).prop_map(Duration::from_micros),
        1 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let count = || prop_oneof![9 => 0_usize..300, 1 => Just(usize::MAX)];
    prop_oneof![
        8 => (time(), count()).prop_map(|(now, items)| Call::Start { now, items }),
        8 => (0_usize..300, prop_oneof![0_usize..2, count()], time(), time(), proptest::option::of(time()), proptest::option::of(time()))
            .prop_map(|(which, failed, started, ended, cpu, run_delay)| Call::Complete { which, failed, started, ended, cpu, run_delay }),
        4 => (time(), proptest::option::of(count()), count(), count())
            .prop_map(|(now, runnable, queued, paced)| Call::Tick { now, runnable, queued, paced }),
        1 => count().prop_map(Call::Refused),
        1 => Just(Call::Overload),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_calls_takes_the_limit_out_of_its_bounds(
        (least, most) in (1_usize..40, 0_usize..300).prop_map(|(least, more)| (least, least + more)),
        cpus in 0_usize..70,
        items in proptest::option::of(0_usize..2_000),
        calls in proptest::collection::vec(call(), 0..600),
    ) {
        let mut controller = Controller::new(Setup { least, most, cpus, items });
        let mut tickets = Vec::new();
        for call in calls {
            match call {
                Call::Start { now, items } => tickets.push(controller.start(now, items)),
                Call::Complete { .. } if tickets.is_empty() => {}
                Call::Complete { which, failed, started, ended, cpu, run_delay } => {
                    let ticket = tickets.swap_remove(which % tickets.len());
                    controller.complete(ticket, Sample { failed, started, ended, cpu, run_delay });
                }
                Call::Tick { now, runnable, queued, paced } => {
                    controller.tick(now, Activity { runnable, queued, paced });
                }
                Call::Refused(workers) => controller.refused(workers),
                Call::Overload => controller.overload(),
            }
            prop_assert!((least..=most).contains(&controller.limit()), "{}", controller.limit());
            controller.next_tick(false);
        }
    }

    /// Work that only waits: as long as items are left for it, the limit changes within 8 mean times, up to the most.
    #[test]
    fn while_cores_are_idle_and_items_wait_the_limit_moves(
        cores in 1_usize..40,
        ms in 0.2_f64..200.0,
        spread in 0.0_f64..0.4,
        senses in proptest::sample::select(vec![Senses::All, Senses::NoDelay, Senses::NoRunnable, Senses::Clock]),
        seed in 0_u64..1_000,
    ) {
        let mut rng = Rng::new(seed);
        let items: Vec<_> = (0..6_000).map(|_| vec![Step::Sleep(ms * 1e-3 * rng.lognormal(spread))]).collect();
        let setup = Setup { least: 1, most: 256, cpus: cores, items: Some(items.len()) };
        let machine = Machine::new(cores);
        let mut simulation = Simulation::new(&machine, &items, Sizing::adaptive(setup, senses));
        simulation.makespan();
        let changes = &simulation.changes;
        prop_assert_eq!(changes.last().map(|(_, limit)| *limit), Some(256), "{:?}", changes);
        let longest = 8.0 * (ms * 1e-3 + 60e-6) + 1e-3;
        for pair in changes.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 <= longest, "{:?} to {:?}", pair[0], pair[1]);
        }
    }
}

#[test]
fn items_that_wait_for_others_that_have_not_started_get_more_workers() {
    let mut controller = Controller::new(Setup { least: 1, most: 64, cpus: 2, items: Some(1_000) });
    let mut now = Duration::ZERO;
    let (mut running, mut seen) = (0, Vec::new());
    while controller.limit() < 64 && now < Duration::from_secs(60) {
        for _ in running..controller.limit() {
            controller.start(now, 1);
        }
        running = controller.limit();
        now = controller.next_tick(false).expect("items are left");
        controller.tick(now, Activity { runnable: Some(0), queued: 1_000 - running, paced: 0 });
        seen.push(controller.limit());
    }
    assert_eq!(controller.limit(), 64, "{seen:?} by {now:?}");
}
