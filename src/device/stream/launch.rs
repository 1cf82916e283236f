//! Launches of kernels.

use super::Stream;
use crate::device::error::DeviceError;
use crate::device::module::Function;
use crate::device::notice::{Interest, Notice};
use cumem_driver::call_site::CallSite;
use cumem_driver::{HostKernel, KernelArg, LaunchConfig};

impl Stream {
    /// Launches a kernel. For an example, see [`Module`](crate::kernel::Module).
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DeviceError::WrongDevice`] if the function was loaded for another device,
    /// - [`DeviceError::HostAccess`] while a host guard over managed memory is open on a device without concurrent
    ///   managed access,
    /// - [`DeviceError::WrongThread`] for another thread's default stream,
    /// - otherwise the driver's error.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - `args` match the kernel's parameters in number and types,
    /// - all memory that the kernel uses stays valid, and is not used in a conflicting way, until the stream has passed
    ///   the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::{KernelArg, LaunchConfig, Module};
    /// use cumem::{Buffer, CudaResource, Device, DeviceError, MemoryResource, Stream};
    ///
    /// /// Launches the kernel `fill(numbers, count, value)` of some PTX on all elements of a buffer.
    /// fn fill<R>(ptx: &str, numbers: &Buffer<u32, R>, stream: &Stream) -> Result<(), DeviceError>
    /// where
    ///     R: MemoryResource<Kind: cumem::kind::DeviceAccessible>,
    /// {
    ///     let kernel = Module::from_ptx(stream.device(), ptx)?.function("fill")?;
    ///     let count = numbers.len() as u32;
    ///     let args = [KernelArg::new(numbers.device_address()), KernelArg::new(count), KernelArg::new(7_u32)];
    ///     // SAFETY: the arguments are those of `fill`, which writes `count` elements of the buffer.
    ///     unsafe { stream.launch_kernel(&kernel, LaunchConfig::for_elements(count, 256), &args) }
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn launch_kernel(
        &self,
        function: &Function,
        config: LaunchConfig,
        args: &[KernelArg],
    ) -> Result<(), DeviceError> {
        let (raw, device) = (self.raw()?, self.device());
        device.check_device("the kernel", function.device().id())?;
        // SAFETY: the caller ensures that the arguments match; both handles are alive.
        device.enqueue(|| unsafe { device.driver().launch(device.ordinal(), function.raw(), config, args, raw) })?;
        device.tell(&Notice::Launched { accesses: &[] });
        Ok(())
    }

    /// Enqueues a kernel of a simulated device. The kernel is a closure, which the host runs when the stream reaches
    /// it.
    ///
    /// The closure may own buffers and other handles of the device. They keep the device alive until the kernel has run,
    /// so a program that drops its own handles first waits for the kernel, for example with
    /// [`Device::run_all_kernels`](crate::Device::run_all_kernels).
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DriverError::NotSupported`](crate::DriverError::NotSupported) if the device is a GPU,
    /// - [`DeviceError::HostAccess`] while a host guard over managed memory is open on a device without concurrent
    ///   managed access,
    /// - [`DeviceError::WrongThread`] for another thread's default stream,
    /// - otherwise the simulator's error.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the ranges that the kernel declares stay valid, hold initialized bytes, and are not
    /// used in a conflicting way until the stream has passed the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::HostKernel;
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let numbers = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// let fill = HostKernel::new("fill", |memory| memory.write::<u32>(0).fill(7));
    /// let fill = fill.writes(numbers.device_address(), numbers.size_bytes());
    /// // SAFETY: the kernel writes the buffer, which lives until `to_vec` has waited for the kernel.
    /// unsafe { stream.launch_host(fill) }?;
    /// assert_eq!(numbers.to_vec()?, [7, 7, 7]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub unsafe fn launch_host(&self, kernel: HostKernel) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        let (raw, device) = (self.raw()?, self.device());
        let heard = device.wants(Interest::LAUNCHED);
        let accesses = if heard { kernel.accesses.clone() } else { Default::default() };
        // SAFETY: the caller ensures that the declared ranges are valid; the handle is alive.
        device.enqueue(|| unsafe { device.driver().launch_host(device.ordinal(), kernel, raw) })?;
        device.tell(&Notice::Launched { accesses: &accesses });
        Ok(())
    }
}
