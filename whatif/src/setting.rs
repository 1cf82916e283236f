//! [`Setting`]: what to try.

use cumem::DriverError;
use cumem::sim::Profile;
use cumem_adaptors::{Size, SpecError, StackSpec};

/// A device, a limit and a stack to try a program on.
#[derive(Debug, Clone)]
pub struct Setting {
    pub(crate) profile: Profile,
    pub(crate) stack: StackSpec,
    pub(crate) limit: Option<Size>,
    pub(crate) touched: bool,
}

impl Setting {
    /// A stack on a device of a profile.
    pub fn new(profile: Profile, stack: StackSpec) -> Self {
        Self { profile, stack, limit: None, touched: false }
    }

    /// The stack gets no more than this from the driver: bytes, or a share of the device's memory.
    pub fn limit(mut self, limit: impl Into<Size>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// The device writes each block once, on its stream, as soon as it is allocated. A trace does not say what becomes
    /// of its blocks; with this, unified memory is used, faults and moves.
    pub fn touched(mut self) -> Self {
        self.touched = true;
        self
    }
}

/// A setting that cannot be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhatIfError {
    /// The stack cannot be made on the device.
    #[error(transparent)]
    Stack(#[from] SpecError),
    /// The profile makes no sense, or the device could not be asked.
    #[error(transparent)]
    Device(#[from] DriverError),
}
