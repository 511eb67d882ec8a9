//! Draws programs of batches, runs them, and compares what comes out with what a plain loop would give.
//! `.ci/fuzz` builds and runs it.

#![no_main]

mod check;
mod ledger;
mod perform;
mod program;
mod streams;
mod tasks;

use std::panic;
use std::sync::{Arc, Once};

use libfuzzer_sys::fuzz_target;

use ledger::Ledger;
use perform::Machine;
use program::Program;

fuzz_target!(|program: Program| {
    silence_meant_panics();
    let ledger = Arc::new(Ledger::default());
    let machine = Machine::new(&program, &ledger);
    for turn in program.turns() {
        machine.take_turn(turn);
    }
    drop(machine);
    perform::wait_for_expired_threads();
    ledger.assert_balanced();
});

/// The fuzzer's own hook prints and aborts. It is kept for every panic that the program does not mean to happen.
fn silence_meant_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let other = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !ledger::is_meant(info.payload()) {
                other(info);
            }
        }));
    });
}
