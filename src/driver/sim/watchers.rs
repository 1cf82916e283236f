//! [`Watcher`]: a listener that is notified of each movement of memory, with its addresses.
#![forbid(unsafe_code)]

use super::machine::State;
use super::uvm::{BLOCK, PAGE, Step, Why, Work};
use crate::location::Location;
use std::fmt::Debug;
use std::sync::{Arc, Weak};

/// A listener for movements of memory. It must not call the simulator, because the machine is locked during the call.
pub(crate) trait Watcher: Debug + Send + Sync {
    /// Called with everything that one operation did, in order.
    fn saw(&self, movements: &[Movement]);
}

/// One thing that an operation did to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Movement {
    /// A processor touched a page that it could not reach.
    Fault { by: Location, addr: u64, bytes: u64 },
    /// One contiguous run of pages of unified memory was copied.
    Migrated { why: Why, from: Location, to: Location, addr: u64, bytes: u64 },
    /// A chunk of device memory was taken from unified memory.
    Evicted { addr: u64, bytes: u64 },
    /// A copy transferred bytes from host memory to the device or, if `to_device` is false, from the device to host
    /// memory.
    Copied { to_device: bool, addr: u64, bytes: u64 },
}

impl Movement {
    /// Returns the first address, and the first address after the range.
    pub(crate) fn range(&self) -> (u64, u64) {
        match *self {
            Self::Fault { addr, bytes, .. }
            | Self::Migrated { addr, bytes, .. }
            | Self::Evicted { addr, bytes }
            | Self::Copied { addr, bytes, .. } => (addr, addr + bytes),
        }
    }
}

/// The watchers. A watcher that was dropped is removed later.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Weak<dyn Watcher>>);

impl Watchers {
    pub(super) fn add(&mut self, watcher: Weak<dyn Watcher>) {
        self.0.retain(|other| other.strong_count() > 0);
        self.0.push(watcher);
    }

    pub(super) fn are_there(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn tell(&mut self, movements: &[Movement]) {
        if !movements.is_empty() {
            self.0.retain(|watcher| watcher.upgrade().inspect(|watcher: &Arc<_>| watcher.saw(movements)).is_some());
        }
    }
}

impl State {
    /// Notifies the watchers of what `work` did to unified memory.
    pub(super) fn tell_steps(&mut self, work: &Work) {
        if !self.watchers.are_there() {
            return;
        }
        let movement = |step: &Step| match *step {
            Step::Fault { by, range, page } => {
                Movement::Fault { by: self.location(by), addr: self.memory.base_of(range) + page * PAGE, bytes: PAGE }
            }
            Step::Transfer { why, from, to, range, page, pages } => Movement::Migrated {
                why,
                from: self.location(from),
                to: self.location(to),
                addr: self.memory.base_of(range) + page * PAGE,
                bytes: pages * PAGE,
            },
            Step::Eviction { range, page } => {
                Movement::Evicted { addr: self.memory.base_of(range) + page * PAGE, bytes: BLOCK }
            }
        };
        let movements: Vec<_> = work.steps.iter().flatten().map(movement).collect();
        self.watchers.tell(&movements);
    }
}
