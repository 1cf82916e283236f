//! Which context is current, and a device's turn to have its own.

use super::state::{CudaDriver, set_current};
use super::sys;
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use crate::location::DeviceId;
use cust::context::Context;
use cust::sys::{CUcontext, CUdevice};
use std::ptr;

/// The calling thread while a device's context is its current one; gives the previous one back.
///
/// Calls of the driver are methods of this, so that none is made in the wrong context.
#[derive(Debug)]
pub(super) struct Active<'d> {
    pub(super) driver: &'d CudaDriver,
    pub(super) id: DeviceId,
    /// Null if nothing has to be given back.
    previous: CUcontext,
}

impl CudaDriver {
    /// Makes the context of device `d` current until the result is dropped. Where there was no current
    /// context it stays, as the CUDA runtime does it too.
    #[inline]
    pub(super) fn on(&self, d: u32) -> Result<Active<'_>, DriverError> {
        let id = DeviceId::cuda(d);
        let mut previous = ptr::null_mut();
        // SAFETY: `previous` is writable.
        let code = unsafe { sys::cuCtxGetCurrent(&raw mut previous) };
        code.check("cuCtxGetCurrent", id)?;
        let known = self.slot(d).context.get().map(Context::as_raw);
        if known == Some(previous) {
            return Ok(Active { driver: self, id, previous: ptr::null_mut() });
        }
        self.switch(d, previous)
    }

    #[cold]
    fn switch(&self, d: u32, previous: CUcontext) -> Result<Active<'_>, DriverError> {
        let id = DeviceId::cuda(d);
        // First of all, so that the previous context comes back whatever happens.
        let active = Active { driver: self, id, previous };
        set_current(self.slot(d).context(id)?, id)?;
        Ok(active)
    }

    /// Makes the primary context of device `d` current on the calling thread and leaves it so.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn bind(&self, d: u32) -> Result<(), DriverError> {
        let id = DeviceId::cuda(d);
        set_current(self.slot(d).context(id)?, id)
    }
}

impl Active<'_> {
    /// The driver's number for the device.
    pub(super) fn device(&self) -> CUdevice {
        self.cust_device().as_raw()
    }

    pub(super) fn cust_device(&self) -> cust::device::Device {
        self.driver.slot(self.id.ordinal()).device
    }

    #[inline]
    pub(super) fn check(&self, call: &'static str, code: sys::Code) -> Result<(), DriverError> {
        code.check(call, self.id)
    }
}

impl Drop for Active<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.previous.is_null() {
            record_drop_error("the thread's use of a context", set_current(self.previous, self.id));
        }
    }
}
