//! What the process has of each device: [`PerDevice`] for as long as there is the device, [`Shared`] for as long as there
//! are handles to it.
#![forbid(unsafe_code)]

use crate::device::Device;
use crate::driver::sim::WeakSimulator;
use crate::location::DeviceId;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A value for each device. A GPU's stays; a simulated device's goes some time after its simulator.
#[derive(Debug)]
pub(crate) struct PerDevice<T>(Vec<(DeviceId, Option<WeakSimulator>, T)>);

impl<T: Copy> PerDevice<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The device's value, which `make` makes the first time.
    pub(crate) fn of(&mut self, device: &Device, make: impl FnOnce() -> T) -> T {
        if let Some((.., value)) = self.0.iter().find(|(id, ..)| *id == device.id()) {
            return *value;
        }
        self.0.retain(|(_, simulator, _)| simulator.as_ref().is_none_or(WeakSimulator::is_there));
        let value = make();
        self.0.push((device.id(), device.simulator().map(|simulator| simulator.downgrade()), value));
        value
    }
}

/// What all handles to a device share. It goes with the last of them.
#[derive(Debug)]
pub(crate) struct Shared<T>(Mutex<Vec<(DeviceId, Weak<T>)>>);

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// What the handles to the device have, which `make` makes for the first of them.
    pub(crate) fn of(&self, device: DeviceId, make: impl FnOnce() -> T) -> Arc<T> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|(_, value)| value.strong_count() > 0);
        if let Some(value) = shared.iter().find(|(id, _)| *id == device).and_then(|(_, value)| value.upgrade()) {
            return value;
        }
        let value = Arc::new(make());
        shared.push((device, Arc::downgrade(&value)));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::sim::Profile;

    #[test]
    fn values_stay_as_long_as_their_devices() {
        let device = Device::simulated(Profile::default()).unwrap();
        let mut values = PerDevice::new();
        assert_eq!(values.of(&device, || 7), 7);
        for other in 0..100 {
            let another = Device::simulated(Profile::default()).unwrap();
            assert_eq!(values.of(&another, || other), other);
        }
        let simulator = device.simulator().unwrap().clone();
        drop(device);
        assert_eq!(values.of(&simulator.device(0).unwrap(), || 8), 7);
        assert_eq!(values.0.len(), 2, "this one, and the last of the others");
    }

    #[test]
    fn what_is_shared_goes_with_the_last_who_has_it() {
        let shared = Shared::new();
        let [here, there] = [0, 1].map(DeviceId::cuda);
        let (one, other) = (shared.of(here, || 1), shared.of(there, || 2));
        let same = shared.of(here, || 3);
        assert_eq!((*one, *other, Arc::ptr_eq(&one, &same)), (1, 2, true));
        drop((one, other));
        assert_eq!(*shared.of(here, || 4), 1, "somebody has it still");
        drop(same);
        assert_eq!(*shared.of(here, || 5), 5);
        assert_eq!(shared.0.lock().unwrap().len(), 1, "what is gone leaves nothing");
    }
}
