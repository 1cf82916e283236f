//! The current context of a thread: making a device's context current for a call, and restoring the previous one.

use super::{CudaDriver, sys};
use crate::code::CudaErrorCode;
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use crate::location::DeviceId;
use cust::context::Context;
use cust::error::CudaError;
use cust::sys::{CUcontext, CUdevice};
use std::ptr;
use std::sync::OnceLock;

/// A device and its primary context. The context is retained at first use and never released, because memory may be
/// freed until the very end of the process.
#[derive(Debug)]
pub(super) struct Slot {
    device: cust::device::Device,
    context: OnceLock<Context>,
}

impl Slot {
    pub(super) fn new(device: cust::device::Device) -> Self {
        Self { device, context: OnceLock::new() }
    }

    /// Returns the primary context, and retains it at the first call. That call may leave the context current.
    fn context(&self, id: DeviceId) -> Result<CUcontext, DriverError> {
        if let Some(context) = self.context.get() {
            return Ok(context.as_raw());
        }
        let device = self.device.as_raw();
        // Retained here first, so that a failure keeps its error code. cust's enum cannot hold every code. After this
        // call the context exists, so cust's own call returns no code that the enum lacks.
        let mut retained = ptr::null_mut();
        // SAFETY: `retained` is writable.
        let code = unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut retained, device) };
        code.check("cuDevicePrimaryCtxRetain", id)?;
        let context = Context::new(self.device).map_err(|error| from_cust("cuDevicePrimaryCtxRetain", id, error));
        // SAFETY: the call releases the reference that was retained above. cust holds a reference as well.
        let released = unsafe { sys::cuDevicePrimaryCtxRelease_v2(device) };
        let context = context?;
        released.check("cuDevicePrimaryCtxRelease", id)?;
        // If another thread was faster, this reference is dropped together with the closure.
        Ok(self.context.get_or_init(|| context).as_raw())
    }
}

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
    pub(super) fn bind(&self, d: u32) -> Result<(), DriverError> {
        let id = DeviceId::cuda(d);
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

fn set_current(context: CUcontext, id: DeviceId) -> Result<(), DriverError> {
    // SAFETY: the context is a primary context that this library retains, or was current on this thread just before.
    // The driver checks whether it still exists.
    unsafe { sys::cuCtxSetCurrent(context) }.check("cuCtxSetCurrent", id)
}

/// Converts an error of cust. cust turns a code that it does not know into `UnknownError` (999).
pub(super) fn from_cust(call: &'static str, device: DeviceId, error: CudaError) -> DriverError {
    DriverError::Call { call, device, code: CudaErrorCode(error as u32) }
}
