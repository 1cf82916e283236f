//! [`PerDevice`]: what the process remembers of each device, for as long as there is the device.
#![forbid(unsafe_code)]

use crate::device::Device;
use crate::driver::sim::WeakSimulator;
use crate::location::DeviceId;

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
}
