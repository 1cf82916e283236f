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

/// Automatic prefetch for all buffers of a stack, which share a stream and a budget.
///
/// A layer whose [state](crate::Layer::state) is this type turns automatic prefetch on for each
/// [`Buffer`](crate::Buffer) that is created over it. `AutoPrefetch` of the crate `cumem-adaptors` is such a layer.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device};
/// # let device = Device::simulated(Profile::default())?;
/// use cumem::unified::{AutoPrefetchOptions, AutoPrefetchState};
///
/// let state = AutoPrefetchState::new(&device, AutoPrefetchOptions::default())?;
/// assert!(!state.passes_through());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AutoPrefetchState {
    options: AutoPrefetchOptions,
    /// `None` if the device has no concurrent managed access.
    ahead: Option<Arc<Ahead>>,
}

impl AutoPrefetchState {
    /// Creates the state for buffers on `device`.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device has no concurrent managed access, because the driver rejects
    /// prefetches there. Returns the driver's error if a stream cannot be created.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// use cumem::unified::{AutoPrefetchOptions, AutoPrefetchState};
    ///
    /// assert!(AutoPrefetchState::new(&device, AutoPrefetchOptions::default()).is_ok());
    /// let old = Device::simulated(Profile::maxwell())?;
    /// assert!(AutoPrefetchState::new(&old, AutoPrefetchOptions::default()).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        if !device.attributes().concurrent_managed_access {
            let what = "automatic prefetch (no concurrent managed access)";
            return Err(DriverError::NotSupported { what, device: device.id() });
        }
        Ok(Self { options, ahead: Some(Arc::new(Ahead::new(device, options)?)) })
    }

    /// Creates the state for buffers on `device`. If the device has no concurrent managed access, the state observes no
    /// buffer, and this function logs a warning through `tracing`.
    /// [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) is skipped there too.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if a stream cannot be created.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    /// use cumem::unified::{AutoPrefetchOptions, AutoPrefetchState};
    ///
    /// let old = Device::simulated(Profile::maxwell())?;
    /// let state = AutoPrefetchState::or_pass_through(&old, AutoPrefetchOptions::default())?;
    /// assert!(state.passes_through());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn or_pass_through(device: &Device, options: AutoPrefetchOptions) -> Result<Self, DriverError> {
        if device.attributes().concurrent_managed_access {
            return Self::new(device, options);
        }
        tracing::warn!(device = %device.id(), "no concurrent managed access: no automatic prefetch");
        Ok(Self { options, ahead: None })
    }

    /// Reports whether the state observes no buffer, because the device has no concurrent managed access.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// use cumem::unified::{AutoPrefetchOptions, AutoPrefetchState};
    ///
    /// let state = AutoPrefetchState::or_pass_through(&device, AutoPrefetchOptions::default())?;
    /// assert!(!state.passes_through());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn passes_through(&self) -> bool {
        self.ahead.is_none()
    }

    /// Returns the options, which hold for all buffers of the stack together.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// use cumem::unified::{AutoPrefetchOptions, AutoPrefetchState};
    ///
    /// let options = AutoPrefetchOptions::default().uses_ahead(2);
    /// assert_eq!(AutoPrefetchState::new(&device, options)?.options(), options);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn options(&self) -> AutoPrefetchOptions {
        self.options
    }

    /// Returns the figures so far, summed over all buffers of the stack, including those already dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// use cumem::unified::{AutoPrefetchOptions, AutoPrefetchState};
    ///
    /// let state = AutoPrefetchState::new(&device, AutoPrefetchOptions::default())?;
    /// assert_eq!(state.report().uses, 0); // no buffer yet
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(&self) -> AutoPrefetchReport {
        self.ahead.as_ref().map(|ahead| ahead.report()).unwrap_or_default()
    }

    /// Returns an observer for a buffer in `block`, or `None` if the block's memory does not migrate or the device has
    /// no concurrent managed access.
    pub(crate) fn observe(&self, block: &Block) -> Result<Option<AutoPrefetch>, DriverError> {
        let Some(ahead) = &self.ahead else { return Ok(None) };
        let device = ahead.device();
        if block.size() == 0 || device.pointer_info(block.as_ptr())?.memory_type != MemoryType::Unified {
            return Ok(None);
        }
        Ok(Some(AutoPrefetch::over(ahead, block)))
    }
}
