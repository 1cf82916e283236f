//! [`Place`]: the devices that checks run on.

use cumem::sim::Profile;
use cumem::{Device, DeviceError, DriverError};

/// The devices that checks run on.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::CudaResource;
/// use cumem_conformance::{Place, Suite};
///
/// let small = Place::Simulated(Box::new(Profile::tiny(256 << 20)));
/// Suite::new(|device| Ok(CudaResource::new(device))).run(&small).assert();
/// ```
#[derive(Debug, Clone)]
pub enum Place {
    /// Simulated devices of this profile, a new one for each check, with detection of [races](cumem::sim::Race).
    Simulated(Box<Profile>),
    /// One given device.
    Device(Device),
}

impl Place {
    /// Returns simulated devices of the default profile.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem::HostResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// Suite::new(|device| Ok(HostResource::new(device))).run(&Place::simulated()).assert();
    /// ```
    pub fn simulated() -> Self {
        Self::Simulated(Box::default())
    }

    /// Returns the first GPU.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Device::open`], for example without the feature `cuda`, without a driver or without a
    /// GPU.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::CudaResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// match Place::gpu() {
    ///     Ok(place) => Suite::new(|device| Ok(CudaResource::new(device))).run(&place).assert(),
    ///     Err(error) => println!("not tested on a GPU: {error}"),
    /// }
    /// ```
    pub fn gpu() -> Result<Self, DriverError> {
        Device::open(0).map(Self::Device)
    }

    /// Returns the device for the next check.
    pub(crate) fn device(&self) -> Result<Device, DeviceError> {
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
