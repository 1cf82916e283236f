//! placeholder
use crate::device::Device;
use crate::error::DriverError;

/// A device's data.
#[derive(Debug, Clone, Default)]
pub struct Profile {}

/// A simulated machine.
#[derive(Debug, Clone)]
pub struct Simulator {}

impl Simulator {
    /// new
    pub fn new(_profiles: impl IntoIterator<Item = Profile>) -> Result<Self, DriverError> {
        Ok(Self {})
    }
    /// device
    pub fn device(&self, _ordinal: u32) -> Result<Device, DriverError> {
        Err(DriverError::NoDriver { reason: "placeholder".into() })
    }
}
