//! [`CudaDriver`]: the loaded driver, its devices with their primary contexts, and the calls that not every driver has.

use super::fork;
use super::sys::{self, MemAdviseV2, MemPrefetchAsyncV2, StreamGetId, StreamWriteValue32};
use crate::deferral::{Deferral, after_locks};
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::extension::Extension;
use crate::location::DeviceId;
use cumem_libcuda::{DriverVersion, Library};
use cust::context::Context;
use cust::error::CudaError;
use cust::sys::CUcontext;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

/// The NVIDIA driver of this process, with all its devices.
#[derive(Debug)]
pub struct CudaDriver {
    pub(super) library: &'static Library,
    pub(super) devices: Box<[Slot]>,
    /// Whether the driver has memory pools. Set at the first use of a pool.
    pub(super) pools: OnceLock<Result<(), DriverError>>,
    /// The functions that accept NUMA nodes. Set at their first use.
    pub(super) numa_calls: OnceLock<Result<NumaCalls, DriverError>>,
    pub(super) write_value: OnceLock<Result<StreamWriteValue32, DriverError>>,
    /// `cuStreamGetId`, or the error of drivers that lack it.
    pub(super) stream_id: OnceLock<Result<StreamGetId, DriverError>>,
    pub(super) extension: Extension,
}

/// Returns the driver, and loads it at the first call. Every call returns the same result.
///
/// # Errors
///
/// Returns [`DriverError::NoDriver`] if this machine has no usable driver or no device.
pub fn driver() -> Result<Arc<CudaDriver>, DriverError> {
    get().cloned()
}

fn get() -> Result<&'static Arc<CudaDriver>, DriverError> {
    static DRIVER: OnceLock<Result<Arc<CudaDriver>, DriverError>> = OnceLock::new();
    // The event of the first call is emitted after the initialization, because a subscriber may open devices.
    let _deferral = Deferral::begin();
    DRIVER.get_or_init(|| CudaDriver::open().map(Arc::new)).as_ref().map_err(Clone::clone)
}

/// More devices than any driver lists. A negative count, which cust returns as a large one, is also above.
const DEVICES_MOST: u32 = 1 << 12;

impl CudaDriver {
    fn open() -> Result<Self, DriverError> {
        let library =
            cumem_libcuda::load().map_err(|error| DriverError::NoDriver { reason: error.to_string(), code: None })?;
        let no_driver = |call, code| {
            let version = library.driver_version();
            let reason = format!("{call} of the driver for CUDA {version} failed: {code}");
            DriverError::NoDriver { reason, code: Some(code) }
        };
        // SAFETY: `cuInit` may be called at any time. Its flags must be zero, and they are.
        match unsafe { sys::cuInit(0) }.check("cuInit", DeviceId::cuda(0)) {
            Err(DriverError::Call { code: CudaErrorCode::NO_DEVICE, .. }) => return Err(no_device()),
            Err(DriverError::Call { call, code, .. }) => return Err(no_driver(call, code)),
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        // From here on cust's wrappers suffice. These calls fail only if the driver is not initialized or the device
        // does not exist, with codes that cust knows.
        let from_cust = |call| move |error| no_driver(call, CudaErrorCode(error as u32));
        let count = cust::device::Device::num_devices().map_err(from_cust("cuDeviceGetCount"))?;
        if count == 0 {
            return Err(no_device());
        }
        if count > DEVICES_MOST {
            let reason = format!("cuDeviceGetCount of the driver returned {} devices", count.cast_signed());
            return Err(DriverError::NoDriver { reason, code: None });
        }
        let open = |ordinal| cust::device::Device::get_device(ordinal).map(Slot::new);
        let devices = (0..count).map(open).collect::<Result<_, _>>().map_err(from_cust("cuDeviceGet"))?;
        fork::watch();
        let version = library.driver_version();
        after_locks(move || tracing::debug!(%version, devices = count, "CUDA driver loaded"));
        Ok(Self {
            library,
            devices,
            pools: OnceLock::new(),
            numa_calls: OnceLock::new(),
            write_value: OnceLock::new(),
            stream_id: OnceLock::new(),
            extension: Extension::new(),
        })
    }

    pub(super) fn slot(&self, d: u32) -> &Slot {
        &self.devices[d as usize]
    }

    pub(super) fn version(&self) -> DriverVersion {
        self.library.driver_version()
    }

    /// Returns the address of a function that older drivers may lack.
    pub(super) fn symbol(&self, symbol: &'static str) -> Result<NonNull<c_void>, DriverError> {
        self.library.symbol(symbol).map_err(|missing| DriverError::MissingSymbol {
            symbol,
            driver_version: missing.driver_version.to_string(),
        })
    }
}

fn no_device() -> DriverError {
    DriverError::NoDriver { reason: "the driver lists no device".into(), code: Some(CudaErrorCode::NO_DEVICE) }
}

/// A device of the driver, and its primary context.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) device: cust::device::Device,
    /// Set when the device is first used.
    pub(super) context: OnceLock<Context>,
}

impl Slot {
    pub(super) fn new(device: cust::device::Device) -> Self {
        Self { device, context: OnceLock::new() }
    }

    /// Returns the primary context, and retains it at the first call. That call may leave the context current.
    pub(super) fn context(&self, id: DeviceId) -> Result<CUcontext, DriverError> {
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

/// The calls that take a NUMA node.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumaCalls {
    pub(super) prefetch: MemPrefetchAsyncV2,
    pub(super) advise: MemAdviseV2,
}

pub(super) fn set_current(context: CUcontext, id: DeviceId) -> Result<(), DriverError> {
    // SAFETY: the context is a primary context that this library retains, or was current on this thread just before.
    // The driver checks whether it still exists.
    unsafe { sys::cuCtxSetCurrent(context) }.check("cuCtxSetCurrent", id)
}

/// Converts an error of cust. cust turns a code that it does not know into `UnknownError` (999).
pub(super) fn from_cust(call: &'static str, device: DeviceId, error: CudaError) -> DriverError {
    DriverError::Call { call, device, code: CudaErrorCode(error as u32) }
}
