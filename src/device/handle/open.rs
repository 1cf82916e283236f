//! Handles from a GPU's number, from a profile and from a simulated machine.

use super::Device;
use crate::device::fallback_notice;
use cumem_driver::owned::RawDevice;
use cumem_driver::{Driver, DriverError};
use cumem_sim::{Profile, ProfileError, Simulator};
use std::sync::Arc;

impl Device {
    /// Opens the driver's device `ordinal` and retains its primary context, which this library then shares with cust,
    /// the CUDA runtime and every library built on it.
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DriverError::NoDriver`] if this machine has no usable driver, or if `cumem` was built without the feature
    ///   `cuda`,
    /// - [`DriverError::NoSuchDevice`] if the driver lists fewer devices,
    /// - otherwise the driver's error.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), cumem::DriverError> {
    /// let device = cumem::Device::open(0)?;
    /// println!("{device}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(ordinal: u32) -> Result<Self, DriverError> {
        Self::of_driver(RawDevice::new(Self::cuda_driver()?, ordinal)?, None)
    }

    /// Creates a simulated machine with one device of this profile. Each call creates another machine.
    /// [`Simulator::new`] creates one machine with several devices.
    ///
    /// # Errors
    ///
    /// Returns [`ProfileError::Unsound`] with the name of the field if the profile contradicts itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    ///
    /// let device = Device::simulated(Profile::a100())?;
    /// assert_eq!(device.attributes().compute_capability, (8, 0));
    /// # Ok::<_, cumem::sim::ProfileError>(())
    /// ```
    pub fn simulated(profile: Profile) -> Result<Self, ProfileError> {
        let simulator = Simulator::new([profile])?;
        Ok(Self::of_simulator(&simulator, 0).expect("a machine of one profile has device 0"))
    }

    /// Returns device `ordinal` of a simulated machine.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NoSuchDevice`] if the machine has fewer devices.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::{Profile, Simulator};
    /// use cumem::Device;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let machine = Simulator::new([Profile::a100(), Profile::a100()])?;
    /// let [first, second] = [Device::of_simulator(&machine, 0)?, Device::of_simulator(&machine, 1)?];
    /// assert_eq!(first.sibling(1)?, second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_simulator(simulator: &Simulator, ordinal: u32) -> Result<Self, DriverError> {
        Self::of_driver(RawDevice::new(Arc::new(simulator.clone()), ordinal)?, Some(simulator))
    }

    /// Opens the first GPU, or creates a simulated device if this machine has no usable driver.
    ///
    /// In the second case the function reports the simulated device and the reason, because the figures of a simulated
    /// device are not those of a GPU. The report is a warning event if a `tracing` subscriber accepts warnings of this
    /// library. Otherwise the report is a line on standard error.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the driver lists the device but refuses it. The function does not simulate then.
    ///
    /// # Examples
    ///
    /// ```
    /// let device = cumem::Device::first_or_simulated()?;
    /// println!("{device}");
    /// # Ok::<_, cumem::DriverError>(())
    /// ```
    pub fn first_or_simulated() -> Result<Self, DriverError> {
        match Self::open(0) {
            Err(DriverError::NoDriver { reason, .. }) => {
                let device = Self::simulated(Profile::default()).expect("the default profile is sound");
                if let Some(line) = fallback_notice::report(&device, &reason) {
                    eprintln!("{line}");
                }
                Ok(device)
            }
            opened => opened,
        }
    }

    /// Returns the number of devices that the driver lists.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NoDriver`] if this machine has no usable driver, or if `cumem` was built without the
    /// feature `cuda`.
    ///
    /// # Examples
    ///
    /// ```
    /// match cumem::Device::count() {
    ///     Ok(count) => println!("{count} GPUs"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// ```
    pub fn count() -> Result<u32, DriverError> {
        Ok(Self::cuda_driver()?.device_count())
    }

    #[cfg(feature = "cuda")]
    fn cuda_driver() -> Result<Arc<dyn Driver>, DriverError> {
        Ok(cumem_driver::cuda::driver()?)
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda_driver() -> Result<Arc<dyn Driver>, DriverError> {
        let reason =
            "cumem was built without the feature `cuda`; for a GPU, add `features = [\"cuda\"]` to the dependency"
                .into();
        Err(DriverError::NoDriver { reason, code: None })
    }

    /// Returns device `ordinal` of the same driver or simulator.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NoSuchDevice`] if the driver or simulator has fewer devices, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// assert_eq!(device.sibling(0)?, device);
    /// assert_eq!(device.sibling(1).unwrap_err().to_string(), "there is no device 1: the driver lists 1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn sibling(&self, ordinal: u32) -> Result<Self, DriverError> {
        let raw = RawDevice::new(Arc::clone(self.inner.raw.shared_driver()), ordinal)?;
        Self::of_driver(raw, self.simulator())
    }
}
