//! The cores: threads that compute share them, and slow each other down in the ways of their kind of work.

use crate::machine::Machine;
use crate::shared::Shared;

/// Kinds of computing, as indices.
pub(crate) const PLAIN: usize = 0;
pub(crate) const MEMORY: usize = 1;
pub(crate) const SPIN: usize = 2;
pub(crate) const CHILD: usize = 3;

/// What switching between threads costs, for each thread above a core; measured, with four times too many threads at most.
const SWITCHING: f64 = 0.02;

#[derive(Debug, Default)]
pub(crate) struct Cores {
    kinds: [Shared; 4],
    /// The part of a core that a thread gets now.
    share: f64,
    /// CPU seconds of a thread that would have computed all along.
    clock: f64,
}

impl Cores {
    pub(crate) fn enter(&mut self, kind: usize, worker: usize, seconds: f64) {
        self.kinds[kind].enter(worker, seconds);
    }

    pub(crate) fn leave(&mut self, kind: usize) -> Option<usize> {
        self.kinds[kind].leave()
    }

    pub(crate) fn clock(&self) -> f64 {
        self.clock
    }

    /// Threads of the batch itself that could run.
    pub(crate) fn runnable(&self) -> usize {
        (self.kinds[PLAIN].len() + self.kinds[MEMORY].len() + self.kinds[SPIN].len()) as usize
    }

    pub(crate) fn set_speeds(&mut self, machine: &Machine) {
        let (all, available) = (self.kinds.iter().map(Shared::len).sum::<f64>(), machine.available());
        self.share = (available / all.max(1.0)).min(1.0);
        let switching = 1.0 + SWITCHING * (all / available - 1.0).clamp(0.0, 3.0);
        let slowed = [1.0, self.by_bandwidth(machine), self.by_contention(machine), 1.0];
        for (kind, slowed) in self.kinds.iter_mut().zip(slowed) {
            kind.set_speed(self.share / switching / slowed);
        }
    }

    fn by_bandwidth(&self, machine: &Machine) -> f64 {
        let ((most, decline), running) = (machine.memory, self.kinds[MEMORY].len() * self.share);
        let above = (running - most).max(0.0);
        (running / most).max(1.0) * (1.0 + decline * above)
    }

    fn by_contention(&self, machine: &Machine) -> f64 {
        let ((contention, coherency), running) =
            (machine.spin, (self.kinds[SPIN].len() * self.share).max(1.0));
        1.0 + contention * (running - 1.0) + coherency * running * (running - 1.0)
    }

    /// The kind that ends first, and in how long.
    pub(crate) fn next(&self) -> (f64, usize) {
        let ends = self.kinds.iter().map(Shared::next).zip(0..);
        ends.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 0))
    }

    pub(crate) fn advance(&mut self, seconds: f64) {
        self.clock += seconds * self.share;
        for kind in &mut self.kinds {
            kind.advance(seconds);
        }
    }
}
