//! [`Watcher`]: a listener that is notified of each movement of memory, with its addresses. [`DetectorListener`]: a
//! listener to switches of the race detector.
#![forbid(unsafe_code)]

use super::outbox::Outbox;
use cumem_driver::{DetectorListener, Movement, Watcher};
use std::sync::{Arc, Weak};

/// The watchers. A watcher that was dropped is removed later.
#[derive(Debug)]
pub(super) struct Watchers {
    list: Vec<Weak<dyn Watcher>>,
    outbox: Arc<Outbox>,
}

impl Watchers {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { list: Vec::new(), outbox }
    }

    pub(super) fn add(&mut self, watcher: Weak<dyn Watcher>) {
        self.list.retain(|other| other.strong_count() > 0);
        self.list.push(watcher);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notifies the watchers when the machine is not locked any more. The last handle of a watcher may be dropped then,
    /// too.
    pub(super) fn notify(&mut self, movements: Vec<Movement>) {
        if movements.is_empty() {
            return;
        }
        self.list.retain(|watcher| watcher.strong_count() > 0);
        let watchers: Vec<Arc<dyn Watcher>> = self.list.iter().filter_map(Weak::upgrade).collect();
        self.outbox.post(move || watchers.iter().for_each(|watcher| watcher.notify(&movements)));
    }
}

/// The listeners to switches of the race detector.
#[derive(Debug)]
pub(super) struct DetectorListeners {
    list: Vec<Weak<dyn DetectorListener>>,
    outbox: Arc<Outbox>,
}

impl DetectorListeners {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { list: Vec::new(), outbox }
    }

    pub(super) fn add(&mut self, listener: Weak<dyn DetectorListener>) {
        self.list.retain(|other| other.strong_count() > 0);
        self.list.push(listener);
    }

    /// Notifies the listeners when the machine is not locked any more.
    pub(super) fn notify(&self, on: bool) {
        let listeners: Vec<_> = self.list.iter().filter_map(Weak::upgrade).collect();
        self.outbox.post(move || listeners.iter().for_each(|listener| listener.switched(on)));
    }
}
