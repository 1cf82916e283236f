//! [`Machine`]: what this library knows of all devices of one driver, or of one simulator.

use super::notice::{LeafMemory, Listener, Listeners};
use super::slots::Slots;
use cumem_driver::Driver;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// What this library knows of all devices of one driver, or of one simulator. It is kept at the driver, and lives as
/// long as the driver does: for the NVIDIA driver until the process ends, for a simulator until its last handle is
/// dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    slots: Slots,
    pub(super) listeners: Listeners,
    allocated: Arc<Allocated>,
}

/// Bytes that the leaves of this library have from the driver.
#[derive(Debug)]
pub(crate) struct Allocated {
    managed: AtomicUsize,
    /// Device memory, by device.
    plain: Box<[AtomicUsize]>,
}

impl Machine {
    /// Returns the machine of a driver, which the first call creates.
    pub(crate) fn of(driver: &dyn Driver) -> Arc<Self> {
        driver.extension().get_or_init(|| {
            let plain = (0..driver.device_count()).map(|_| AtomicUsize::new(0)).collect();
            let allocated = Arc::new(Allocated { managed: AtomicUsize::new(0), plain });
            Self { slots: Slots::default(), listeners: Listeners::default(), allocated }
        })
    }

    /// Returns the number of devices.
    pub(crate) fn devices(&self) -> usize {
        self.allocated.plain.len()
    }

    /// Returns the values that services keep for this machine.
    #[inline]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Returns what the leaves of this library have from the driver.
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

impl Allocated {
    /// Bytes of managed memory.
    pub(crate) fn managed(&self) -> usize {
        self.managed.load(Relaxed)
    }

    /// Bytes of device memory of device `d`.
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
