//! [`Machine`]: the data that this library keeps about all devices of one driver or one simulator.

use super::notice::{LeafMemory, Listener, Listeners};
use super::slots::Slots;
use crate::human_bytes::HumanBytes;
use cumem_driver::drop_error::{DropError, record_drop_error};
use cumem_driver::{DeviceId, Driver};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// The data that this library keeps about all devices of one driver or one simulator. The driver stores it and drops it
/// with itself. The NVIDIA driver lives until the process ends, a simulator until its last handle is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The id of the first device.
    first: DeviceId,
    slots: Slots,
    pub(super) listeners: Listeners,
    allocated: Arc<Allocated>,
}

/// Bytes that the leaves of this library have allocated from the driver.
#[derive(Debug)]
pub(crate) struct Allocated {
    managed: AtomicUsize,
    /// Bytes of device memory, by device.
    plain: Box<[AtomicUsize]>,
}

impl Machine {
    /// Returns the machine of a driver. The first call creates it.
    pub(crate) fn of(driver: &dyn Driver) -> Arc<Self> {
        driver.extension().get_or_init(|| {
            let plain = (0..driver.device_count()).map(|_| AtomicUsize::new(0)).collect();
            let allocated = Arc::new(Allocated { managed: AtomicUsize::new(0), plain });
            let first = driver.device_id(0);
            Self { first, slots: Slots::default(), listeners: Listeners::default(), allocated }
        })
    }

    /// Returns the number of devices.
    pub(crate) fn devices(&self) -> usize {
        self.allocated.plain.len()
    }

    /// Returns the values that services store for this machine.
    #[inline]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Returns the counters of the bytes that the leaves of this library have allocated from the driver.
    pub(crate) fn allocated(&self) -> &Arc<Allocated> {
        &self.allocated
    }

    /// Sends notices to `listener` until it is dropped or [removed](Self::stop_listening).
    pub(crate) fn listen(&self, listener: Weak<dyn Listener>) {
        self.listeners.add(listener);
    }

    /// Sends no more notices to `listener`.
    pub(crate) fn stop_listening(&self, listener: &Weak<dyn Listener>) {
        self.listeners.remove(listener);
    }
}

/// The leaf memory of a machine that was not freed before the machine was dropped.
struct Leaked {
    /// The first device of the machine.
    device: DeviceId,
    managed: usize,
    plain: usize,
}

impl fmt::Display for Leaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [plain, managed] = [self.plain, self.managed].map(HumanBytes);
        write!(f, "{plain} of device memory and {managed} of managed memory were never freed")
    }
}

impl DropError for Leaked {
    fn device(&self) -> Option<DeviceId> {
        Some(self.device)
    }
}

impl Drop for Machine {
    /// Reports memory that leaked. The machine of the NVIDIA driver is never dropped, so this is for simulated machines.
    fn drop(&mut self) {
        let plain = (0..self.devices()).map(|d| self.allocated.plain(d)).sum();
        let leaked = Leaked { device: self.first, managed: self.allocated.managed(), plain };
        if leaked.plain + leaked.managed > 0 {
            record_drop_error("all memory of a machine", Err(leaked));
        }
    }
}

impl Allocated {
    /// Returns the bytes of managed memory.
    pub(crate) fn managed(&self) -> usize {
        self.managed.load(Relaxed)
    }

    /// Returns the bytes of device memory of device `d`.
    pub(crate) fn plain(&self, d: usize) -> usize {
        self.plain[d].load(Relaxed)
    }

    pub(super) fn add(&self, d: u32, memory: LeafMemory, bytes: usize) {
        self.counter(d, memory).fetch_add(bytes, Relaxed);
    }

    pub(super) fn subtract(&self, d: u32, memory: LeafMemory, bytes: usize) {
        self.counter(d, memory).fetch_sub(bytes, Relaxed);
    }

    fn counter(&self, d: u32, memory: LeafMemory) -> &AtomicUsize {
        match memory {
            LeafMemory::Managed => &self.managed,
            LeafMemory::Plain => &self.plain[d as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use cumem_sim::Profile;

    #[test]
    fn all_handles_to_a_machine_share_its_values_and_they_outlive_the_handles() {
        let device = Device::simulated(Profile::default()).unwrap();
        let other = Device::simulated(Profile::default()).unwrap();
        assert_eq!(*device.machine().slots().get(|| 7), 7);
        assert_eq!(*other.machine().slots().get(|| 8), 8);
        let simulator = device.simulator().unwrap().clone();
        drop(device);
        let again = Device::of_simulator(&simulator, 0).unwrap();
        assert_eq!(*again.machine().slots().get(|| 9), 7);
        let machine = Arc::downgrade(again.machine());
        drop((again, simulator));
        assert!(machine.upgrade().is_none(), "the machine is dropped with its simulator");
    }
}
