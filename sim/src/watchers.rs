//! [`Watcher`]: a listener that is notified of each movement of memory, with its addresses.
#![forbid(unsafe_code)]

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

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn notify(&mut self, movements: &[Movement]) {
        if !movements.is_empty() {
            self.0.retain(|watcher| watcher.upgrade().inspect(|watcher: &Arc<_>| watcher.notify(movements)).is_some());
        }
    }
}
