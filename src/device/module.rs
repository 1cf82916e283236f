//! [`Module`] and [`Function`]: kernels of a GPU.

use super::handle::Device;
use super::module_size;
use cumem_driver::owned::OwnedModule;
use cumem_driver::{CudaErrorCode, DriverError, RawFunction};
use std::fmt;
use std::sync::Arc;

/// A module of kernels that is loaded on a GPU.
///
/// The type is a shared handle. The module is unloaded when the last handle and the last [`Function`] of it are
/// dropped. A simulated device runs closures instead, see [`kernel`](crate::kernel).
///
/// # Examples
///
/// ```no_run
/// use cumem::kernel::{KernelArg, LaunchConfig, Module};
/// use cumem::{Buffer, CudaResource, Device, Stream};
///
/// # fn example(ptx: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::open(0)?;
/// let stream = Stream::new(&device)?;
/// let numbers = Buffer::<u32, _>::zeroed(1000, &stream, CudaResource::new(&device))?;
///
/// let fill = Module::from_ptx(&device, ptx)?.function("fill")?;
/// let arguments = [KernelArg::new(numbers.device_address()), KernelArg::new(1000_u32), KernelArg::new(7_u32)];
/// // SAFETY: `fill` takes an address, a count and a value. It writes 1000 numbers, and the buffer holds 1000.
/// unsafe { stream.launch_kernel(&fill, LaunchConfig::for_elements(1000, 256), &arguments) }?;
/// assert_eq!(numbers.to_vec()?, [7; 1000]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Module {
    inner: Arc<Loaded>,
}

struct Loaded {
    owned: OwnedModule,
    device: Device,
}

impl Module {
    /// Compiles PTX for the device and loads it.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device is simulated, [`DriverError::Compile`] with the compiler's
    /// log if the driver rejects the code, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::Module;
    /// use cumem::sim::Profile;
    /// use cumem::{Device, DriverError};
    ///
    /// let device = Device::simulated(Profile::default())?;
    /// let error = Module::from_ptx(&device, "").unwrap_err();
    /// assert!(matches!(error, DriverError::NotSupported { .. }));
    /// # Ok::<_, cumem::sim::ProfileError>(())
    /// ```
    pub fn from_ptx(device: &Device, ptx: &str) -> Result<Self, DriverError> {
        let owned = OwnedModule::load(device.raw(), ptx)?;
        Ok(Self { inner: Arc::new(Loaded { owned, device: device.clone() }) })
    }

    /// Loads compiled code: a cubin, or a fat binary with code for several types of devices. The device compiles nothing
    /// if the code is for its type.
    ///
    /// # Errors
    ///
    /// Returns `CUDA_ERROR_INVALID_IMAGE` if the bytes do not begin like a cubin or a fat binary, or end before their
    /// headers say so; `CUDA_ERROR_NO_BINARY_FOR_GPU` if the code is for other devices;
    /// [`DriverError::NotSupported`] if the device is simulated; or another error of the driver.
    ///
    /// # Safety
    ///
    /// The image is what a compiler of CUDA wrote, for example `nvcc --cubin` or `nvcc --fatbin`, without a change. The
    /// headers that this function checks do not describe all of an image, and the driver trusts the rest.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem::Device;
    /// use cumem::kernel::Module;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::open(0)?;
    /// let image = std::fs::read("kernels.fatbin")?; // nvcc --fatbin -arch=all-major -o kernels.fatbin kernels.cu
    /// // SAFETY: nvcc wrote the file.
    /// let fill = unsafe { Module::from_binary(&device, &image) }?.function("fill")?;
    /// # Ok(())
    /// # }
    /// ```
    pub unsafe fn from_binary(device: &Device, image: &[u8]) -> Result<Self, DriverError> {
        if !module_size::is_whole(image) {
            let (call, code) = ("cuModuleLoadDataEx", CudaErrorCode::INVALID_IMAGE);
            return Err(DriverError::Call { call, device: device.id(), code });
        }
        // SAFETY: the caller ensures that the image is a compiler's, and it has all bytes that its headers name.
        let owned = unsafe { OwnedModule::load_binary(device.raw(), image) }?;
        Ok(Self { inner: Arc::new(Loaded { owned, device: device.clone() }) })
    }

    /// Returns the kernel `name`.
    ///
    /// # Errors
    ///
    /// Returns `CUDA_ERROR_NOT_FOUND` if the module has no kernel of this name.
    pub fn function(&self, name: &str) -> Result<Function, DriverError> {
        Ok(Function { raw: self.inner.owned.function(name)?, module: self.clone() })
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({:#x} on {})", self.inner.owned.raw().0, self.inner.device.id())
    }
}

/// A kernel of a [`Module`], for [`Stream::launch_kernel`](crate::Stream::launch_kernel).
///
/// # Examples
///
/// ```no_run
/// # fn example(ptx: &str) -> Result<(), cumem::DriverError> {
/// let device = cumem::Device::open(0)?;
/// let fill = cumem::kernel::Module::from_ptx(&device, ptx)?.function("fill")?;
/// assert_eq!(fill.device(), &device); // the module stays loaded as long as `fill` exists
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Function {
    raw: RawFunction,
    module: Module,
}

impl Function {
    /// Returns the device that the kernel was loaded for.
    pub fn device(&self) -> &Device {
        &self.module.inner.device
    }

    pub(crate) fn raw(&self) -> RawFunction {
        self.raw
    }
}
