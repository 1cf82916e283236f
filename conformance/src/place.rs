//! [`Place`]: where checks run.

use cumem::sim::Profile;
use cumem::{Device, DriverError};

/// Where checks run.
#[derive(Debug, Clone)]
pub enum Place {
    /// On simulated devices of this profile, a new one for each check, where [races](cumem::sim::Race) are looked for.
    Simulated(Box<Profile>),
    /// On one device.
    Device(Device),
}

impl Place {
    /// Simulated devices of the default profile.
    pub fn simulated() -> Self {
        Self::Simulated(Box::default())
    }

    /// The first GPU.
    ///
    /// # Errors
    ///
    /// Those of [`Device::open`]: without the feature `cuda`, a driver or a GPU there is none.
    pub fn gpu() -> Result<Self, DriverError> {
        Device::open(0).map(Self::Device)
    }

    /// The device for the next check.
    pub(crate) fn device(&self) -> Result<Device, DriverError> {
        match self {
            Self::Simulated(profile) => {
                let device = Device::simulated((**profile).clone())?;
                device.simulator().into_iter().for_each(|simulator| simulator.detect_races(true));
                Ok(device)
            }
            Self::Device(device) => Ok(device.clone()),
        }
    }
}
