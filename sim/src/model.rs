//! [`Model`] for [`Simulator`]: what the library above asks of a simulated machine beyond a driver's calls.

use crate::races::{Deed, used};
use crate::simulator::Simulator;
use cumem_driver::{BlockEvent, Model, RawStream, Residency, Watcher};
use std::ops::Range;
use std::sync::Weak;
use std::time::Duration;

impl Model for Simulator {
    fn clock(&self) -> Duration {
        self.clock()
    }

    fn residency(&self, ptr: *const u8, bytes: usize) -> Option<Residency> {
        self.residency(ptr, bytes)
    }

    fn first_addresses(&self, addr: u64, bytes: usize) -> Vec<Range<u64>> {
        self.first_addresses(addr, bytes)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.machine().look().watchers.add(watcher);
    }

    fn declare(&self, d: u32, addr: u64, bytes: u64, stream: RawStream, event: BlockEvent) {
        let deed = match event {
            BlockEvent::Allocated => Deed::Allocated,
            BlockEvent::Freed => Deed::Freed,
        };
        let mut state = self.machine().look();
        if state.races.is_some()
            && let Ok(key) = state.stream(d, stream, "a block")
        {
            state.order_with_legacy(d, key);
            state.race_uses(Some(key), "a block", &[used(addr, bytes, deed)]);
        }
    }

    fn end_host_access(&self, addr: u64, bytes: u64, write: bool) {
        let deed = if write { Deed::Written } else { Deed::Read };
        self.machine().look().race_uses(None, "the host", &[used(addr, bytes, deed)]);
    }
}
