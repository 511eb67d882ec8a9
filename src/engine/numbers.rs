//! Numbers for those at work: each gets the lowest that is free.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Numbers below `next` that nobody has.
    free: BinaryHeap<Reverse<usize>>,
    next: usize,
}

impl Numbers {
    pub(super) fn take(&mut self) -> usize {
        if let Some(Reverse(number)) = self.free.pop() {
            return number;
        }
        self.next += 1;
        self.next - 1
    }

    pub(super) fn give_back(&mut self, number: usize) {
        self.free.push(Reverse(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_the_lowest_number_that_is_free() {
        let mut numbers = Numbers::default();
        assert_eq!([(); 3].map(|()| numbers.take()), [0, 1, 2]);
        numbers.give_back(2);
        numbers.give_back(0);
        assert_eq!([(); 3].map(|()| numbers.take()), [0, 2, 3]);
    }
}
