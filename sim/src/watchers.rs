//! [`Watcher`]: a listener that is notified of each movement of memory, with its addresses.
#![forbid(unsafe_code)]

use super::machine::State;
use super::uvm::{BLOCK, PAGE, Step, Work};
use cumem_driver::{Movement, Watcher};
use std::sync::{Arc, Weak};

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
            Step::Transfer { cause, from, to, range, page, pages } => Movement::Migrated {
                cause,
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
