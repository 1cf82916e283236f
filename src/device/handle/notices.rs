//! Notices to the listeners of a device's machine.

use super::Device;
use crate::device::notice::{Interest, LeafMemory, Notice};
use cumem_driver::{Location, Model};
use std::time::{Duration, Instant};

impl Device {
    /// Sends a notice to the listeners of the machine.
    #[inline]
    pub(crate) fn tell(&self, notice: &Notice<'_>) {
        self.machine().listeners.tell(self.id(), notice);
    }

    /// Reports whether a listener receives notices of a kind.
    #[inline]
    pub(crate) fn wants(&self, kind: Interest) -> bool {
        self.machine().listeners.want(kind)
    }

    /// Counts memory that a leaf allocated, and announces it.
    pub(crate) fn tell_allocated(&self, memory: LeafMemory, bytes: usize) {
        self.machine().allocated().add(self.ordinal(), memory, bytes);
        self.tell(&Notice::Allocated);
    }

    /// Counts memory that a leaf freed, and announces it.
    pub(crate) fn tell_freed(&self, memory: LeafMemory, addr: u64, bytes: usize) {
        self.machine().allocated().subtract(self.ordinal(), memory, bytes);
        self.tell(&Notice::Freed { memory, addr, bytes });
    }

    /// Copies `bytes` bytes between the host and the memory at `addr` with `copy`. If the copy succeeds, the function
    /// announces the copy with its duration, which is virtual time on a simulated device.
    pub(crate) fn tell_copied<T, E>(
        &self,
        addr: u64,
        bytes: usize,
        to: Location,
        copy: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.wants(Interest::COPIED) {
            return copy();
        }
        let model = self.model();
        let (start, virtual_start) = (Instant::now(), model.map(Model::clock));
        let copied = copy()?;
        let virtual_time = |start: Duration| model.map(|model| model.clock().saturating_sub(start));
        let took = virtual_start.and_then(virtual_time).unwrap_or_else(|| start.elapsed());
        self.tell(&Notice::Copied { addr, bytes, to, took });
        Ok(copied)
    }
}
