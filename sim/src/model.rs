//! The implementation of [`Model`] for [`Simulator`]: the calls of a simulated machine beyond those of a driver.

use crate::races::{AccessKind, used_range};
use crate::simulator::Simulator;
use crate::state::Until;
use crate::streams::StreamState;

use cumem_driver::{BlockEvent, DetectorListener, DriverError, Model, RawStream, Residency, Watcher};
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

    fn run_due(&self) {
        self.machine().run_due();
    }

    fn pending_kernels(&self, d: u32) -> Result<(), DriverError> {
        let state = self.machine().lock();
        let kernels = |stream: &StreamState| stream.queue.iter().any(|operation| operation.action.is_kernel());
        let running = state.executor.is_some();
        match running || state.streams.iter().any(|(_, stream)| kernels(stream)) {
            true => state.may_wait_for_kernel(d),
            false => Ok(()),
        }
    }

    fn run_all(&self, d: u32) -> Result<(), DriverError> {
        let state = self.machine().lock();
        self.machine().run(state, d, Until::Quiet).map(drop)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.machine().lock().watchers.add(watcher);
    }

    fn declare(&self, d: u32, addr: u64, bytes: u64, stream: Option<RawStream>, event: BlockEvent) {
        let mut state = self.machine().lock();
        if state.races.is_none() {
            return;
        }
        let key = stream.and_then(|stream| state.stream(d, stream, "a block").ok());
        key.into_iter().for_each(|key| state.order_with_legacy(d, key));
        state.race_block(key, addr..addr.saturating_add(bytes), event);
    }

    fn begin_host_access(&self, addr: u64, bytes: u64, write: bool) -> u64 {
        let kind = if write { AccessKind::Written } else { AccessKind::Read };
        self.machine().lock().race_host_begins(used_range(addr, bytes, kind))
    }

    fn end_host_access(&self, access: u64) {
        self.machine().lock().race_host_ends(access);
    }

    fn detects_races(&self) -> bool {
        self.machine().lock().races.is_some()
    }

    fn watch_detector(&self, listener: Weak<dyn DetectorListener>) {
        self.machine().lock().detector_listeners.add(listener);
    }
}
