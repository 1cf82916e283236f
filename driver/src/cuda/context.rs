//! The current context of a thread: making a device's context current for a call, and restoring the previous one.

use super::fork;
use super::state::{CudaDriver, set_current};
use super::sys;
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use crate::location::DeviceId;
use cust::context::Context;
use cust::sys::{CUcontext, CUdevice};
use std::ptr;

/// Proof that a device's context is current on the calling thread. Dropping it restores the previous context.
///
/// Driver calls are methods of this type, so that none is made in the wrong context.
#[derive(Debug)]
pub(super) struct Active<'d> {
    pub(super) driver: &'d CudaDriver,
    pub(super) id: DeviceId,
    /// The context to restore, or null if there is none.
    previous: CUcontext,
}

impl CudaDriver {
    /// Makes the context of device `d` current until the returned value is dropped. If the thread had no current
    /// context, the device's context stays current afterwards, as with the CUDA runtime.
    #[inline]
    pub(super) fn on(&self, d: u32) -> Result<Active<'_>, DriverError> {
        let id = DeviceId::cuda(d);
        fork::check(id)?;
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
        // Created before the switch, so that the previous context is restored even if the switch fails.
        let active = Active { driver: self, id, previous };
        set_current(self.slot(d).context(id)?, id)?;
        Ok(active)
    }

    /// Makes the context of device `d` current and leaves it current.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    pub fn bind(&self, d: u32) -> Result<(), DriverError> {
        let id = DeviceId::cuda(d);
        fork::check(id)?;
        set_current(self.slot(d).context(id)?, id)
    }
}

impl Active<'_> {
    /// Returns the driver's handle for the device.
    pub(super) fn device(&self) -> CUdevice {
        self.cust_device().as_raw()
    }

    pub(super) fn cust_device(&self) -> cust::device::Device {
        self.driver.slot(self.id.ordinal()).device
    }

    /// Returns the device's context, which is current.
    pub(super) fn context(&self) -> CUcontext {
        let context = self.driver.slot(self.id.ordinal()).context.get();
        context.map_or(ptr::null_mut(), Context::as_raw)
    }

    #[inline]
    pub(super) fn check(&self, call: &'static str, code: sys::Code) -> Result<(), DriverError> {
        code.check(call, self.id)
    }

    /// Returns an error unless the result of a call `is_valid`.
    #[inline]
    pub(super) fn expect(
        &self,
        call: &'static str,
        is_valid: bool,
        answer: impl FnOnce() -> String,
    ) -> Result<(), DriverError> {
        if is_valid { Ok(()) } else { Err(DriverError::InvalidAnswer { call, device: self.id, answer: answer() }) }
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
