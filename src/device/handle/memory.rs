//! Questions to the driver about memory.

use super::Device;
use cumem_driver::{CudaErrorCode, DriverError, MemoryInfo, MemoryType, PointerInfo};

impl Device {
    /// Returns the free and total bytes of the device's memory at this moment.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let before = device.memory_info()?.free;
    /// let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// assert!(device.memory_info()?.free <= before - buffer.size_bytes());
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_info(&self) -> Result<MemoryInfo, DriverError> {
        self.driver().memory_info(self.ordinal())
    }

    /// Returns the free and total memory of the host, which pinned and ordinary host memory come from.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, or an error if the host does not report its memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, MemoryResource, PinnedResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let (stream, pinned) = (Stream::new(&device)?, PinnedResource::new(&device));
    /// let before = device.host_memory_info()?.free;
    /// let block = pinned.allocate(&stream, layout::bytes(64 << 20)?)?;
    /// assert_eq!(device.host_memory_info()?.free, before - block.size());
    /// # // SAFETY: nothing uses the block.
    /// # unsafe { pinned.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn host_memory_info(&self) -> Result<MemoryInfo, DriverError> {
        self.driver().host_memory_info(self.ordinal())
    }

    /// Returns the type and the device of the memory that a pointer points to.
    ///
    /// # Errors
    ///
    /// Returns `CUDA_ERROR_INVALID_VALUE` if the driver did not allocate the memory, for example memory of `malloc`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::device::MemoryType;
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u8, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// let info = device.pointer_info(buffer.as_ptr())?;
    /// assert_eq!((info.memory_type, info.device), (MemoryType::Device, device.id()));
    /// assert!(device.pointer_info(Box::new(7_u8).as_ref()).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn pointer_info(&self, ptr: *const u8) -> Result<PointerInfo, DriverError> {
        self.driver().pointer_info(self.ordinal(), ptr)
    }

    /// Reports whether a pointer points to managed memory. Memory that the driver did not allocate is not managed.
    pub(crate) fn is_managed(&self, ptr: *const u8) -> Result<bool, DriverError> {
        match self.pointer_info(ptr) {
            Ok(info) => Ok(info.memory_type == MemoryType::Unified),
            Err(error) if error.code() == Some(CudaErrorCode::INVALID_VALUE) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
