//! Which context is current, and a device's turn to have its own.

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

/// A device of the driver and its primary context, which is retained at first use and never released:
/// memory may be given back until the very end of the process.
#[derive(Debug)]
pub(super) struct Slot {
    device: cust::device::Device,
    context: OnceLock<Context>,
}

impl Slot {
    pub(super) fn new(device: cust::device::Device) -> Self {
        Self { device, context: OnceLock::new() }
    }

    /// Retains the context if that was not done yet, and may then leave it current.
    fn context(&self, id: DeviceId) -> Result<CUcontext, DriverError> {
        if let Some(context) = self.context.get() {
            return Ok(context.as_raw());
        }
        let device = self.device.as_raw();
        // Asked here first, so that a refusal keeps its code. Then cust is told nothing that its enum of
        // codes lacks, since the context is there already.
        let mut retained = ptr::null_mut();
        // SAFETY: `retained` is writable.
        let code = unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut retained, device) };
        code.check("cuDevicePrimaryCtxRetain", id)?;
        let context = Context::new(self.device).map_err(|error| from_cust("cuDevicePrimaryCtxRetain", id, error));
        // SAFETY: this gives back the reference of the call above; cust has taken its own.
        let released = unsafe { sys::cuDevicePrimaryCtxRelease_v2(device) };
        let context = context?;
        released.check("cuDevicePrimaryCtxRelease", id)?;
        // If another thread was faster, this reference is dropped with the closure.
        Ok(self.context.get_or_init(|| context).as_raw())
    }
}

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

    /// Makes the context of device `d` current for good.
    pub(super) fn bind(&self, d: u32) -> Result<(), DriverError> {
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

fn set_current(context: CUcontext, id: DeviceId) -> Result<(), DriverError> {
    // SAFETY: the context is a primary context that this library retains, or was this thread's current one
    // just before; the driver checks whether it still exists.
    unsafe { sys::cuCtxSetCurrent(context) }.check("cuCtxSetCurrent", id)
}

/// An error of cust as one of this library's. cust calls an unknown code `UnknownError` (999).
pub(super) fn from_cust(call: &'static str, device: DeviceId, error: CudaError) -> DriverError {
    DriverError::Call { call, device, code: CudaErrorCode(error as u32) }
}
