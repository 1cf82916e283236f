//! [`HostGate`]: on a device without concurrent managed access, the host touches unified memory only while nothing
//! runs, and nothing starts while the host touches it.
//!
//! There the driver unmaps all unified memory from the host whenever anything runs on the device, whatever it uses
//! (CUDA programming guide, "coherency and concurrency"); a touch is a fault of the process. So a guard over such
//! memory closes the gate, and what this library would enqueue meanwhile is refused.

use crate::error::DriverError;
use crate::location::DeviceId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// How many host guards are open, of one device.
#[derive(Debug, Default)]
pub(crate) struct HostGate(Mutex<usize>);

impl HostGate {
    /// The gate of a device, which all handles to it share.
    pub(crate) fn of(device: DeviceId) -> Arc<Self> {
        static GATES: Mutex<Vec<(DeviceId, Weak<HostGate>)>> = Mutex::new(Vec::new());
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|(_, gate)| gate.strong_count() > 0);
        if let Some(gate) = gates.iter().find(|(id, _)| *id == device).and_then(|(_, gate)| gate.upgrade()) {
            return gate;
        }
        let gate = Arc::new(Self::default());
        gates.push((device, Arc::downgrade(&gate)));
        gate
    }

    /// Enqueues with `enqueue`, unless the host is at it.
    pub(crate) fn pass<T>(
        &self,
        device: DeviceId,
        enqueue: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let guards = self.lock();
        if *guards > 0 {
            return Err(DriverError::HostAccess { device, guards: *guards });
        }
        enqueue()
    }

    /// Closes the gate, and waits with `wait` for what has passed it.
    pub(crate) fn close(&self, wait: impl FnOnce() -> Result<(), DriverError>) -> Result<Closed<'_>, DriverError> {
        let mut guards = self.lock();
        wait()?;
        *guards += 1;
        Ok(Closed(self))
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the gate closed.
#[derive(Debug)]
pub(crate) struct Closed<'a>(&'a HostGate);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}
