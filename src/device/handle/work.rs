//! Work on all streams of a device: waits, kernels of a simulated device, and the gate between work and host access.

use super::Device;
use crate::device::error::DeviceError;
use crate::device::host_gate::HostGate;
use cumem_driver::DriverError;
use std::ops::RangeInclusive;

impl Device {
    /// Waits until the device has done all work of all its streams.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// device.synchronize()?;
    /// assert!(stream.is_idle()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.driver().synchronize_device(self.ordinal())
    }

    /// Returns the priorities that streams of the device can have, from the greatest, which is the smallest number, to the
    /// least.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::Device;
    /// # use cumem::sim::Profile;
    /// # let device = Device::simulated(Profile::default())?;
    /// assert_eq!(device.stream_priorities()?, -5..=0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream_priorities(&self) -> Result<RangeInclusive<i32>, DriverError> {
        self.driver().stream_priorities(self.ordinal())
    }

    /// Runs the closures of kernels that are due on a simulated device. On a GPU, the method does nothing.
    ///
    /// While a thread holds a lock of the library, calls of the device start no closure (see [`deferral`]). A resource
    /// that calls the driver under a lock therefore calls this method before it takes the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::device::deferral::Deferral;
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// use std::sync::Mutex;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let guarded = Mutex::new(CudaResource::new(&device));
    /// device.run_due_kernels();
    /// let _deferral = Deferral::begin(); // declared before the lock, so that it ends after the lock
    /// let resource = guarded.lock().unwrap();
    /// let block = resource.allocate(&stream, layout::bytes(4096)?)?;
    /// # // SAFETY: nothing uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`deferral`]: crate::device::deferral
    #[inline]
    pub fn run_due_kernels(&self) {
        if let Some(model) = self.model() {
            model.run_due();
        }
    }

    /// Returns an error if a simulated machine has closures of kernels to run, and this thread must not wait for them
    /// ([`Deferral::refusing_waits`]). A resource calls this method under a lock, before a call of an upstream that may
    /// wait for the device.
    ///
    /// # Errors
    ///
    /// Returns `CUDA_ERROR_NOT_READY`. The refusal is noted, as that of a wait is.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::device::deferral::Deferral;
    /// use cumem::kernel::HostKernel;
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// // SAFETY: the kernel uses no memory of the device.
    /// unsafe { stream.launch_host(HostKernel::new("nothing", |_| ())) }?;
    /// assert!(device.pending_kernels().is_ok(), "this thread may wait");
    /// let deferral = Deferral::refusing_waits();
    /// assert!(device.pending_kernels().is_err() && deferral.has_refused());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Deferral::refusing_waits`]: crate::device::deferral::Deferral::refusing_waits
    pub fn pending_kernels(&self) -> Result<(), DriverError> {
        self.model().map_or(Ok(()), |model| model.pending_kernels(self.ordinal()))
    }

    /// Waits for all work of a simulated machine, and runs the closures of its kernels. Errors of the work stay for the
    /// next synchronization. On a GPU, the method does nothing.
    ///
    /// A call that has refused to wait for a kernel under a lock ([`Deferral::refusing_waits`]) succeeds after this
    /// method, which is called without the lock.
    ///
    /// # Errors
    ///
    /// Returns an error inside the closure of a kernel, which cannot wait for kernels.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::kernel::HostKernel;
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Stream};
    /// use std::sync::mpsc::channel;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let (sender, receiver) = channel();
    /// // SAFETY: the kernel uses no memory of the device.
    /// unsafe { stream.launch_host(HostKernel::new("send", move |_| sender.send(7).unwrap())) }?;
    /// device.run_all_kernels()?;
    /// assert_eq!(receiver.recv()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Deferral::refusing_waits`]: crate::device::deferral::Deferral::refusing_waits
    pub fn run_all_kernels(&self) -> Result<(), DriverError> {
        self.model().map_or(Ok(()), |model| model.run_all(self.ordinal()))
    }

    /// Enqueues work with `enqueue`. Returns an error while a host guard over managed memory is open, because the work
    /// would make the memory inaccessible to the host.
    pub(crate) fn enqueue(&self, enqueue: impl FnOnce() -> Result<(), DriverError>) -> Result<(), DeviceError> {
        match &self.inner.gate {
            None => Ok(enqueue()?),
            Some(gate) => gate.pass(self.id(), enqueue),
        }
    }

    /// Returns the gate that keeps host access and device work apart, or `None` if the device has concurrent managed
    /// access.
    pub(crate) fn host_gate(&self) -> Option<&HostGate> {
        self.inner.gate.as_deref()
    }

    /// Waits for the work of all devices of the machine that have no concurrent managed access.
    pub(crate) fn synchronize_gated(&self) -> Result<(), DriverError> {
        let devices = (0..self.machine().devices() as u32).filter_map(|ordinal| self.opened_sibling(ordinal));
        devices.filter(|device| device.host_gate().is_some()).try_for_each(|device| device.synchronize())
    }
}
