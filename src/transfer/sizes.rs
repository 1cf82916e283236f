//! Sizes of staging memory that more than one file uses.
#![forbid(unsafe_code)]

/// Bytes of the pinned slot that each `KernelCopy` has.
pub(super) const KERNEL_SLOT: usize = 8 << 10;
/// Bytes of each slot of the device memory in a `DeviceStaging`.
pub(super) const STAGING_SLOT: usize = 8 << 20;
