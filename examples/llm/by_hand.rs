//! The same limits without this crate: `governor` for rates, semaphores for what runs at once, and threads.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::server::{AT_ONCE, MODELS};
use crate::{Prompt, api};

/// A worker sleeps at each limit. It waits for one permit after another, and holds what it has meanwhile.
pub(crate) fn run(prompts: &[Prompt]) -> String {
    let rate = |a_second| {
        let a_second = NonZeroU32::new(a_second).unwrap_or(NonZeroU32::MIN);
        RateLimiter::direct(Quota::per_second(a_second).allow_burst(a_second))
    };
    let rates: HashMap<_, _> =
        MODELS.map(|m| (m.name, (rate(m.requests_a_second), rate(m.tokens_a_second)))).into_iter().collect();
    let slots: HashMap<_, _> = prompts.iter().map(|p| (p.host, Semaphore::new(AT_ONCE))).collect();
    let (agent, next, answered) = (api::agent(), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(prompt) = prompts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (requests, tokens) = &rates[prompt.model.name];
                    wait_for(requests, 1);
                    wait_for(tokens, prompt.tokens);
                    let outcome = slots[&prompt.host].hold(|| api::ask(&agent, prompt));
                    answered.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
                }
            });
        }
    });
    format!("{} of {} succeeded", answered.into_inner(), prompts.len())
}

fn wait_for(limit: &DefaultDirectRateLimiter, permits: u64) {
    let clock = DefaultClock::default();
    let permits = u32::try_from(permits).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    while let Ok(Err(not_yet)) = limit.check_n(permits) {
        thread::sleep(not_yet.wait_time_from(clock.now()));
    }
}

struct Semaphore(Mutex<usize>, Condvar);

impl Semaphore {
    fn new(slots: usize) -> Self {
        Semaphore(Mutex::new(slots), Condvar::new())
    }

    fn hold<R>(&self, run: impl FnOnce() -> R) -> R {
        let free = self.0.lock().expect("no thread panics here");
        *self.1.wait_while(free, |free| *free == 0).expect("no thread panics here") -= 1;
        let result = run();
        *self.0.lock().expect("no thread panics here") += 1;
        self.1.notify_one();
        result
    }
}
