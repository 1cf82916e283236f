//! The bridge to cust's own types: both libraries share the primary context of a device.

use crate::buffer::Buffer;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::Notice;
use crate::device::stream::Stream;
use crate::resource::MemoryResource;
use bytemuck::Pod;
use cumem_driver::DriverError;
use cumem_driver::LaunchConfig;
use cust::error::{CudaError, CudaResult};
use cust::function::{BlockSize, Function, GridSize};
use cust::memory::{DeviceCopy, DevicePointer};
use std::ffi::c_void;

/// With the feature `cuda`.
impl Device {
    /// Makes the device's primary context current on the calling thread and leaves it so, as cust's own
    /// functions need it. This library's need nothing of the kind.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] on a simulated device, or what the driver answers.
    pub fn bind_to_thread(&self) -> Result<(), DriverError> {
        if self.is_simulated() {
            return Err(DriverError::NotSupported { what: "CUDA contexts", device: self.id() });
        }
        cumem_driver::cuda::driver()?.bind(self.ordinal())
    }
}

/// With the feature `cuda`.
impl<T: Pod + DeviceCopy, R: MemoryResource> Buffer<T, R> {
    /// The buffer's address as cust's type, to pass to a kernel.
    pub fn as_device_pointer(&self) -> DevicePointer<T> {
        DevicePointer::from_raw(self.device_address())
    }
}

/// With the feature `cuda`.
impl Stream {
    /// Launches a kernel of a cust module: this is what [`cust::launch!`] calls on its stream.
    ///
    /// ```no_run
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cust::{launch, module::Module};
    ///
    /// # fn example(ptx: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::open(0)?;
    /// device.bind_to_thread()?; // for cust's part in this
    /// let module = Module::from_ptx(ptx, &[])?;
    ///
    /// let stream = Stream::new(&device)?;
    /// let numbers = Buffer::<u32, _>::zeroed(1000, &stream, CudaResource::new(&device))?;
    /// // SAFETY: `fill` takes these three, and writes 1000 numbers, for which there is room.
    /// unsafe { launch!(module.fill<<<4, 256, 0, stream>>>(numbers.as_device_pointer(), 1000_u32, 7_u32)) }?;
    /// assert_eq!(numbers.to_vec()?, [7; 1000]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the driver answers; a code that cust has no name for is [`CudaError::UnknownError`].
    /// [`CudaError::NotSupported`] on a simulated device, [`CudaError::InvalidHandle`] on another thread's default
    /// stream.
    ///
    /// # Safety
    ///
    /// The function was loaded in the primary context of the stream's device. `args` points to the values that the
    /// kernel takes, in number and type, and everything that the kernel touches is valid, and used in no conflicting
    /// way, until the stream has passed it.
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
            // SAFETY: the caller vouches for function and arguments, which the driver only reads; the stream is alive.
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

/// What a launch, or work before it on the device, can fail with, as far as cust has a name for it.
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
