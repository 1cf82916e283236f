//! Modules, kernels and launches. cust does not load the modules, because it does not return the compiler's log.

use super::context::Active;
use super::state::CudaDriver;
use super::sys::{self, handle, number};
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::launch::{KernelArg, LaunchConfig};
use crate::module_image::ModuleImage;
use crate::raw::{RawFunction, RawModule, RawStream};
use cust::sys::{CUfunction, CUjit_option};
use smallvec::SmallVec;
use std::ffi::{CString, c_int, c_void};
use std::ptr;

/// Size of the buffer for the compiler's error log, in bytes.
const LOG_BYTES: usize = 8 << 10;

const LOAD: &str = "cuModuleLoadDataEx";

impl Active<'_> {
    /// # Safety
    ///
    /// A binary image is whole.
    pub(super) unsafe fn load_module(&self, image: ModuleImage<'_>) -> Result<RawModule, DriverError> {
        let invalid = |code, log| DriverError::Compile { device: self.id, code, log };
        match image {
            ModuleImage::Ptx(ptx) => {
                let ptx = CString::new(ptx)
                    .map_err(|_| invalid(CudaErrorCode::INVALID_PTX, "the text contains a zero byte".into()))?;
                // SAFETY: the text ends with a zero byte.
                unsafe { self.load_image(ptx.as_ptr().cast()) }
            }
            // The driver reads eight bytes before it knows the type of an image.
            ModuleImage::Binary(binary) if binary.len() < 8 => {
                Err(DriverError::Call { call: LOAD, device: self.id, code: CudaErrorCode::INVALID_IMAGE })
            }
            ModuleImage::Binary(binary) => {
                // The driver reads 64-bit fields of the headers.
                let mut aligned = vec![0_u64; binary.len().div_ceil(8)];
                bytemuck::cast_slice_mut(&mut aligned)[..binary.len()].copy_from_slice(binary);
                // SAFETY: the caller ensures that the image is whole.
                unsafe { self.load_image(aligned.as_ptr().cast()) }
            }
        }
    }

    /// # Safety
    ///
    /// The image is PTX that ends with a zero byte, or a whole cubin or fat binary.
    unsafe fn load_image(&self, image: *const c_void) -> Result<RawModule, DriverError> {
        let invalid = |code, log| DriverError::Compile { device: self.id, code, log };
        let mut log = vec![0_u8; LOG_BYTES];
        let mut options =
            [CUjit_option::CU_JIT_ERROR_LOG_BUFFER as c_int, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as c_int];
        // The driver expects an option whose value fits into a pointer in place of the pointer.
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(LOG_BYTES)];
        let mut module = ptr::null_mut();
        // SAFETY: the caller ensures that the image is whole. Each of the two options has a value, and the log has the
        // given size.
        let code =
            unsafe { sys::cuModuleLoadDataEx(&raw mut module, image, 2, options.as_mut_ptr(), values.as_mut_ptr()) };
        self.check(LOAD, code).map_err(|error| match text(&log) {
            log if log.is_empty() => error,
            log => invalid(code.number(), log),
        })?;
        self.created(LOAD, number(module)).map(RawModule)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::unload_module`](crate::driver::Driver::unload_module).
    pub(super) unsafe fn unload_module(&self, module: RawModule) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the module is loaded and not used afterwards.
        let code = unsafe { sys::cuModuleUnload(handle(module.0)) };
        self.check("cuModuleUnload", code)
    }

    /// # Safety
    ///
    /// The module is loaded.
    pub(super) unsafe fn function(&self, module: RawModule, name: &str) -> Result<RawFunction, DriverError> {
        const CALL: &str = "cuModuleGetFunction";
        let name = CString::new(name).map_err(|_| DriverError::Call {
            call: CALL,
            device: self.id,
            code: CudaErrorCode::NOT_FOUND,
        })?;
        let mut function = ptr::null_mut();
        // SAFETY: `function` is writable, `name` is a C string, and the caller ensures that the module is loaded.
        let code = unsafe { sys::cuModuleGetFunction(&raw mut function, handle(module.0), name.as_ptr()) };
        self.check(CALL, code)?;
        self.created(CALL, number(function)).map(RawFunction)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::launch`](crate::driver::Driver::launch).
    pub(super) unsafe fn launch(
        &self,
        function: RawFunction,
        config: LaunchConfig,
        args: &[KernelArg],
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let mut parameters: SmallVec<[*mut c_void; 16]> =
            args.iter().map(|arg| ptr::from_ref(arg).cast_mut().cast()).collect();
        // SAFETY: the caller keeps the contract of a launch. Each parameter points to the bytes of one argument.
        unsafe { self.launch_raw(handle(function.0), config, parameters.as_mut_ptr(), stream) }
    }

    /// # Safety
    ///
    /// - `function` and `stream` are live.
    /// - `parameters` points to one pointer for each parameter of the kernel, and that pointer to the parameter's
    ///   value.
    /// - The memory that the kernel uses is valid as [`Driver::launch`](crate::driver::Driver::launch) requires.
    unsafe fn launch_raw(
        &self,
        function: CUfunction,
        config: LaunchConfig,
        parameters: *mut *mut c_void,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        let LaunchConfig { grid, block, shared_bytes } = config;
        // SAFETY: the caller ensures the contract above. The driver copies the parameters before it returns, and writes
        // to none.
        let code = unsafe {
            sys::cuLaunchKernel(
                function,
                grid.0,
                grid.1,
                grid.2,
                block.0,
                block.1,
                block.2,
                shared_bytes,
                handle(stream.0),
                parameters,
                ptr::null_mut(),
            )
        };
        self.check("cuLaunchKernel", code)
    }
}

impl CudaDriver {
    /// Launches a kernel whose arguments are given as the driver takes them (`cuLaunchKernel`), for the bridge to cust.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Safety
    ///
    /// - `function` was loaded in the primary context of device `d`, and `stream` is a live stream of that device.
    /// - `parameters` points to one pointer for each parameter of the kernel, and each of those to a value of the
    ///   parameter's type.
    /// - Everything that the kernel accesses is valid, and is not used in a conflicting way, until the stream has
    ///   passed the launch.
    pub unsafe fn launch_pointers(
        &self,
        d: u32,
        function: CUfunction,
        config: LaunchConfig,
        parameters: *mut *mut c_void,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for the same contract.
        unsafe { self.on(d)?.launch_raw(function, config, parameters, stream) }
    }
}

/// Returns the text of a log, which ends at the first zero byte.
fn text(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn logs_end_at_zero() {
        assert_eq!(text(b"\0\0"), "");
        assert_eq!(text(b"line 1\n\0rest"), "line 1");
        assert_eq!(text(b"full"), "full");
    }
}
