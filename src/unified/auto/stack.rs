//! [`AutoPrefetchState`]: automatic prefetch for all buffers of a stack.
#![forbid(unsafe_code)]

use super::ahead::Ahead;
use super::observer::AutoPrefetch;
use super::options::AutoPrefetchOptions;
use super::report::AutoPrefetchReport;
use crate::block::Block;
use crate::device::Device;
use cumem_driver::{DriverError, MemoryType};
use std::sync::Arc;

/// Automatic prefetch for all buffers of a stack, which share a stream and a budget. A layer that
/// [has it as its state](crate::Layer::state) turns it on for each [`Buffer`](crate::Buffer) that is made over it; such
/// a layer is `AutoPrefetch` of `cumem-adaptors`.
#[derive(Debug)]
pub struct AutoPrefetchState {
    options: AutoPrefetchOptions,
    /// Nothing, where nothing can be brought to the device.
    ahead: Option<Arc<Ahead>>,
}

impl AutoPrefetchState {
    /// For buffers on `device`.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] if the device has no concurrent managed access, so that nothing can be brought to
    /// it; what the driver answers to the making of a stream.
    pub fn new(device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        if !device.attributes().concurrent_managed_access {
            let what = "automatic prefetch (no concurrent managed access)";
            return Err(DriverError::NotSupported { what, device: device.id() });
        }
        Ok(Self { options, ahead: Some(Arc::new(Ahead::new(device, options)?)) })
    }

    /// For buffers on `device` if anything can be brought to it. Otherwise no buffer is observed, as
    /// [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) skips it; a warning through `tracing` says so.
    ///
    /// # Errors
    ///
    /// What the driver answers to the making of a stream.
    pub fn or_pass_through(device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        if device.attributes().concurrent_managed_access {
            return Self::new(device, options);
        }
        tracing::warn!(device = %device.id(), "no concurrent managed access: no automatic prefetch");
        Ok(Self { options, ahead: None })
    }

    /// Whether no buffer is observed, because nothing can be brought to the device.
    pub fn passes_through(&self) -> bool {
        self.ahead.is_none()
    }

    /// What it may do, for all buffers together.
    pub fn options(&self) -> AutoPrefetchOptions {
        self.options
    }

    /// What has come of it so far, for all buffers together: those that are there and those that are gone.
    pub fn report(&self) -> AutoPrefetchReport {
        self.ahead.as_ref().map(|ahead| ahead.report()).unwrap_or_default()
    }

    /// An observer for a buffer in `block`, unless its memory does not migrate or nothing can be brought.
    pub(crate) fn observe(&self, block: &Block) -> Result<Option<AutoPrefetch>, DriverError> {
        let Some(ahead) = &self.ahead else { return Ok(None) };
        let device = ahead.device();
        if block.size() == 0 || device.pointer_info(block.as_ptr())?.memory_type != MemoryType::Unified {
            return Ok(None);
        }
        Ok(Some(AutoPrefetch::over(ahead, block)))
    }
}
