//! Conversions to and from cust's types. Both libraries share the primary context of a device.

use crate::buffer::{Buffer, Element};
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::Notice;
use crate::device::stream::Stream;
use crate::resource::MemoryResource;
use cumem_driver::{DriverError, LaunchConfig};
use cust::error::{CudaError, CudaResult};
use cust::function::{BlockSize, Function, GridSize};
use cust::memory::{DeviceCopy, DevicePointer};
use std::ffi::c_void;

/// Available with the feature `cuda`.
impl Device {
    /// Makes the device's primary context current on the calling thread and leaves it current. cust's functions need a
    /// current context; this library's functions do not.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device is simulated, or the error that the driver returns.
    pub fn bind_to_thread(&self) -> Result<(), DriverError> {
        if self.is_simulated() {
            return Err(DriverError::NotSupported { what: "CUDA contexts", device: self.id() });
        }
        cumem_driver::cuda::driver()?.bind(self.ordinal())
    }
}

/// Available with the feature `cuda`.
impl<T: Element + DeviceCopy, R: MemoryResource> Buffer<T, R> {
    /// Returns the buffer's device address as cust's type, to pass to a kernel.
    pub fn as_device_pointer(&self) -> DevicePointer<T> {
        DevicePointer::from_raw(self.device_address())
    }
}

/// Available with the feature `cuda`.
impl Stream {
    /// Launches a kernel of a cust module. [`cust::launch!`] calls this method on its stream.
    ///
    /// ```no_run
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cust::{launch, module::Module};
    ///
    /// # fn example(ptx: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::open(0)?;
    /// device.bind_to_thread()?; // cust needs a current context
    /// let module = Module::from_ptx(ptx, &[])?;
    ///
    /// let stream = Stream::new(&device)?;
    /// let numbers = Buffer::<u32, _>::zeroed(1000, &stream, CudaResource::new(&device))?;
    /// // SAFETY: `fill` takes an address, a count and a value. It writes 1000 numbers, and the buffer holds 1000.
    /// unsafe { launch!(module.fill<<<4, 256, 0, stream>>>(numbers.as_device_pointer(), 1000_u32, 7_u32)) }?;
    /// assert_eq!(numbers.to_vec()?, [7; 1000]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`CudaError::NotSupported`] if the device is simulated,
    /// - [`CudaError::InvalidHandle`] if the stream is another thread's default stream,
    /// - otherwise the error that the driver returns, as [`CudaError::UnknownError`] if cust has no name for its
    ///   code.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - the function was loaded in the primary context of the stream's device,
    /// - `args` points to the values of the kernel's parameters, in matching number and types,
    /// - all memory that the kernel uses stays valid, and is not used in a conflicting way, until the stream has
    ///   passed the kernel.
    pub unsafe fn launch<G: Into<GridSize>, B: Into<BlockSize>>(
        &self,
        function: &Function<'_>,
        grid: G,
        block: B,
        shared_bytes: u32,
        args: &[*mut c_void],
    ) -> CudaResult<()> {
        if self.device().is_simulated() {
            return Err(CudaError::NotSupported);
        }
        let raw = self.raw().map_err(|_| CudaError::InvalidHandle)?;
        let (grid, block) = (grid.into(), block.into());
        let grid_and_block = ((grid.x, grid.y, grid.z), (block.x, block.y, block.z));
        let config = LaunchConfig::new(grid_and_block.0, grid_and_block.1).shared_bytes(shared_bytes);
        let (device, function) = (self.device(), function.to_raw());
        let driver = cumem_driver::cuda::driver().map_err(|error| to_cust(&error.into()))?;
        let launch = || {
            // SAFETY: the caller ensures that function and arguments are valid. The driver only reads them. The stream
            // is alive.
            unsafe { driver.launch_pointers(device.ordinal(), function, config, args.as_ptr().cast_mut(), raw) }
        };
        device.enqueue(launch).map_err(|error| to_cust(&error))?;
        device.tell(&Notice::Launched { accesses: &[] });
        Ok(())
    }
}

fn to_cust(error: &DeviceError) -> CudaError {
    let known = |code| KNOWN.iter().find(|known| **known as u32 == code).copied();
    error.code().and_then(|code| known(code.0)).unwrap_or(CudaError::UnknownError)
}

/// The errors of cust that a launch, or earlier work on the device, can return.
const KNOWN: [CudaError; 34] = [
    CudaError::InvalidValue,
    CudaError::OutOfMemory,
    CudaError::NotInitialized,
    CudaError::Deinitialized,
    CudaError::NoDevice,
    CudaError::InvalidDevice,
    CudaError::InvalidImage,
    CudaError::InvalidContext,
    CudaError::NoBinaryForGpu,
    CudaError::EccUncorrectable,
    CudaError::ContextAlreadyInUse,
    CudaError::InvalidPtx,
    CudaError::NvlinkUncorrectable,
    CudaError::InvalidSource,
    CudaError::SharedObjectSymbolNotFound,
    CudaError::SharedObjectInitFailed,
    CudaError::OperatingSystemError,
    CudaError::InvalidHandle,
    CudaError::NotFound,
    CudaError::NotReady,
    CudaError::IllegalAddress,
    CudaError::LaunchOutOfResources,
    CudaError::LaunchTimeout,
    CudaError::LaunchIncompatibleTexturing,
    CudaError::ContextIsDestroyed,
    CudaError::AssertError,
    CudaError::HardwareStackError,
    CudaError::IllegalInstruction,
    CudaError::MisalignedAddress,
    CudaError::InvalidAddressSpace,
    CudaError::InvalidProgramCounter,
    CudaError::LaunchFailed,
    CudaError::NotPermitted,
    CudaError::NotSupported,
];

#[cfg(test)]
mod tests {
    use super::*;
    use cumem_driver::CudaErrorCode;
    use cumem_driver::DeviceId;

    #[test]
    fn codes_reach_cust() {
        let error = |code| DriverError::Call { call: "cuLaunchKernel", device: DeviceId::cuda(0), code };
        assert_eq!(to_cust(&error(CudaErrorCode::LAUNCH_OUT_OF_RESOURCES).into()), CudaError::LaunchOutOfResources);
        assert_eq!(to_cust(&error(CudaErrorCode(12345)).into()), CudaError::UnknownError);
        assert_eq!(
            to_cust(&DriverError::NoDriver { reason: String::new(), code: None }.into()),
            CudaError::UnknownError
        );
    }
}
