//! Single elements of a [`Buffer`], and fills.

use super::array::Buffer;
use super::element::Element;
use super::pending::Pending;
use crate::device::error::DeviceError;
use crate::resource::MemoryResource;
use bytemuck::Zeroable;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Returns a copy of one element. The host waits for it.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if there is no such element, and the driver's error if the copy fails.
    /// Returns [`DeviceError::InvalidElement`] if the bytes are not a value of `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.get(1)?, 2);
    /// let error = buffer.get(4).unwrap_err();
    /// assert_eq!(error.to_string(), "range 4..5 is not within 4 bytes or elements");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn get(&self, index: usize) -> Result<T, DeviceError> {
        self.as_view().get(index)
    }

    /// Returns a copy of the first element. The host waits for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), for example [`DeviceError::OutOfRange`] if the buffer is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.first()?, 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn first(&self) -> Result<T, DeviceError> {
        self.as_view().first()
    }

    /// Returns a copy of the last element. The host waits for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), for example [`DeviceError::OutOfRange`] if the buffer is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.last()?, 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn last(&self) -> Result<T, DeviceError> {
        self.as_view().last()
    }

    /// Enqueues a copy of one element to the host. The host does not wait for it until [`Pending::wait`]. The result
    /// owns the memory that the copy writes, so the buffer may be changed or dropped meanwhile.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if there is no such element, and the driver's error if it rejects the copy.
    /// Returns [`DriverError::NotSupported`](crate::DriverError::NotSupported) if the stream is captured into a graph.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let pending = buffer.get_async(1)?;
    /// drop(buffer);
    /// assert_eq!(pending.wait()?, 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn get_async(&self, index: usize) -> Result<Pending<T>, DeviceError> {
        self.as_view().get_async(index)
    }

    /// Copies `value` over one element. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if there is no such element, and the driver's error if the copy fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.set(1, 20)?;
    /// assert_eq!(buffer.to_vec()?, [1, 20, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn set(&mut self, index: usize, value: T) -> Result<(), DeviceError> {
        self.as_view_mut().set(index, value)
    }

    /// Enqueues a copy of `value` over one element. The host does not wait for it. The value is taken by value, and
    /// this library keeps it until the copy is done.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if there is no such element, and the driver's error if it rejects the copy.
    /// Returns [`DriverError::NotSupported`](crate::DriverError::NotSupported) if the stream is captured into a graph.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// for i in 0..4 {
    ///     buffer.set_async(i, 10 * i as u32)?;
    /// }
    /// assert_eq!(buffer.to_vec()?, [0, 10, 20, 30]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn set_async(&mut self, index: usize, value: T) -> Result<(), DeviceError> {
        self.memory.settle()?;
        self.as_view_mut().set_async(index, value)
    }

    /// Enqueues a fill that sets every element to `value`. The host does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the fill. Some elements may then have the new value.
    /// Returns [`DriverError::NotSupported`](crate::DriverError::NotSupported) if the stream is captured into a graph, unless
    /// the value is a repeated byte or word.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.fill(7)?;
    /// assert_eq!(buffer.to_vec()?, [7; 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn fill(&mut self, value: T) -> Result<(), DeviceError> {
        self.memory.settle()?;
        self.as_view_mut().fill(value)
    }

    /// Enqueues a fill that sets every byte to zero. The host does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the fill.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.zero()?;
    /// assert_eq!(buffer.to_vec()?, [0; 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn zero(&mut self) -> Result<(), DeviceError>
    where
        T: Zeroable,
    {
        self.memory.settle()?;
        self.as_view_mut().zero()
    }
}
