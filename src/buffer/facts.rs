//! The length, the address, the stream and the resource of a [`Buffer`].

use super::array::Buffer;
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::resource::MemoryResource;

impl<T, R: MemoryResource> Buffer<T, R> {
    /// Returns the number of elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.len(), 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reports whether the buffer has no elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::with_capacity(100, &stream, CudaResource::new(&device))?;
    /// assert!(buffer.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of elements that the allocated memory can hold.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
    /// buffer.resize(1)?;
    /// assert_eq!((buffer.len(), buffer.capacity()), (1, 3));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the size of the elements, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<f64, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.size_bytes(), 800);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// Returns the buffer's stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.stream().id(), stream.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &Stream {
        &self.memory.stream
    }

    /// Returns the device of the buffer's stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.device().id(), device.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &Device {
        self.memory.stream.device()
    }

    /// Returns the resource that allocated the buffer's memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// let same_memory = Buffer::<u8, _>::zeroed(10, &stream, buffer.resource())?;
    /// assert_eq!(same_memory.len(), 10);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn resource(&self) -> &R {
        &self.memory.resource
    }

    /// Returns the buffer's memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert!(buffer.block().size() >= 400);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn block(&self) -> &Block {
        &self.memory.block
    }

    /// Returns the address of the first element, for kernels.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::kernel::KernelArg;
    ///
    /// let buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// let arguments = [KernelArg::new(buffer.device_address()), KernelArg::new(buffer.len() as u32)];
    /// assert_eq!(buffer.device_address() % 256, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn device_address(&self) -> u64 {
        self.memory.block.addr()
    }

    /// Returns the address of the first element as a pointer. The host may dereference it only if the kind of memory is
    /// [accessible to the host](crate::kind::HostAccessible).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_ptr() as u64, buffer.device_address());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.memory.block.as_ptr().cast()
    }

    /// Returns the address of the first element as a mutable pointer. The host may dereference it only if the kind of
    /// memory is [accessible to the host](crate::kind::HostAccessible).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_mut_ptr() as u64, buffer.device_address());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.memory.block.as_ptr().cast()
    }

    /// Moves the buffer to another stream. The new stream waits for the work that is enqueued on the old one.
    ///
    /// A buffer of managed memory can move to a stream of another device of the same machine, whose work may then use
    /// the memory. The buffer's later operations run there. Its drop waits for that work on the stream that the buffer
    /// had on its own device.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the stream belongs to another device, and the memory is not managed, or
    /// the device is not of the same machine, or one of both devices has no concurrent managed access. Returns the
    /// driver's error if the wait cannot be enqueued. The buffer then
    /// keeps its stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// let other = Stream::new(&device)?;
    /// buffer.set_stream(&other)?; // work on `other` now finds the zeros
    /// assert_eq!(buffer.stream().id(), other.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_stream(&mut self, stream: &Stream) -> Result<(), DeviceError> {
        self.memory.set_stream(stream)
    }
}
