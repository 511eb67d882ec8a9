//! Random times that are the same in every run: they follow from the seed and the index of the item.

use std::time::Duration;

#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, index: usize) -> Self {
        let mut dice = Dice(seed);
        Dice(dice.next() ^ index as u64)
    }

    /// Sebastiano Vigna's splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least `low`, below `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        low + share * (high - low)
    }

    /// Up to a fifth less or more.
    pub fn about(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.between(0.8, 1.2))
    }

    /// Exponentially distributed with this mean: many short ones, a few long ones.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.between(0.0, 1.0)).ln())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Dice;

    fn mean_of(throw: impl Fn(&mut Dice) -> f64) -> f64 {
        (0..10_000).map(|index| throw(&mut Dice::new(7, index))).sum::<f64>() / 10_000.0
    }

    #[test]
    fn seed_and_index_decide_everything() {
        let throw = |seed, index| Dice::new(seed, index).between(0.0, 1.0);
        assert!(throw(1, 2).to_bits() == throw(1, 2).to_bits());
        assert!(throw(1, 2).to_bits() != throw(2, 2).to_bits());
        assert!(throw(1, 2).to_bits() != throw(1, 3).to_bits());
    }

    #[test]
    fn times_have_the_mean_that_they_are_named_after() {
        let second = Duration::from_secs(1);
        assert!((mean_of(|dice| dice.between(1.0, 10.0)) - 5.5).abs() < 0.1);
        assert!((mean_of(|dice| dice.about(second).as_secs_f64()) - 1.0).abs() < 0.01);
        assert!((mean_of(|dice| dice.exponential(second).as_secs_f64()) - 1.0).abs() < 0.05);
    }
}
