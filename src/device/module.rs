//! Kernels: [`Module`] and [`Function`] of a GPU, [`HostKernel`] in their place on a simulated device.

use super::handle::Device;
use cumem_driver::owned::OwnedModule;
use cumem_driver::{DriverError, RawFunction};
use std::fmt;
use std::sync::Arc;

/// A loaded module. Functions keep it loaded.
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
    /// [`DriverError::NotSupported`] on a simulated device, or what the driver answers
    /// (`CUDA_ERROR_INVALID_PTX`, `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`, ...).
    pub fn from_ptx(device: &Device, ptx: &str) -> Result<Self, DriverError> {
        let owned = OwnedModule::load(device.raw(), ptx)?;
        Ok(Self { inner: Arc::new(Loaded { owned, device: device.clone() }) })
    }

    /// The kernel called `name`.
    ///
    /// # Errors
    ///
    /// `CUDA_ERROR_NOT_FOUND` if the module has none.
    pub fn function(&self, name: &str) -> Result<Function, DriverError> {
        Ok(Function { raw: self.inner.owned.function(name)?, module: self.clone() })
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({:#x} on {})", self.inner.owned.raw().0, self.inner.device.id())
    }
}

/// A kernel, for [`Stream::launch_kernel`](crate::Stream::launch_kernel).
#[derive(Debug, Clone)]
pub struct Function {
    raw: RawFunction,
    module: Module,
}

impl Function {
    /// The device that it was loaded for.
    pub fn device(&self) -> &Device {
        &self.module.inner.device
    }

    pub(crate) fn raw(&self) -> RawFunction {
        self.raw
    }
}
