//! [`Exhausted`]: whether a look at the rest is worth its lock.

use super::balance::Side;
use super::sync::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// For each side, whether the rest had too little for a step since the shards last gave everything back to it.
///
/// This is a hint, which threads read without a lock. A wrong answer costs time only: a thread that finds too little
/// elsewhere locks everything in the end, and decides there.
#[derive(Debug)]
pub(super) struct Exhausted([AtomicBool; 2]);

impl Exhausted {
    pub(super) fn new() -> Self {
        Self([AtomicBool::new(false), AtomicBool::new(false)])
    }

    pub(super) fn get(&self, side: Side) -> bool {
        self.of(side).load(Relaxed)
    }

    pub(super) fn set(&self, side: Side) {
        self.of(side).store(true, Relaxed);
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|side| side.store(false, Relaxed));
    }

    fn of(&self, side: Side) -> &AtomicBool {
        match side {
            Side::Room => &self.0[0],
            Side::Out => &self.0[1],
        }
    }
}
