//! The value of a [`Scalar`]: reads and writes.

use super::element::Element;
use super::pending::Pending;
use super::scalar::Scalar;
use crate::device::error::DeviceError;
use crate::resource::MemoryResource;
use bytemuck::Zeroable;

impl<T: Element, R: MemoryResource> Scalar<T, R> {
    /// Returns the value. The host waits for it.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the copy fails, and [`DeviceError::InvalidElement`] if the bytes are not a value
    /// of `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// assert_eq!(scalar.get()?, 7);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn get(&self) -> Result<T, DeviceError> {
        self.buffer.get(0)
    }

    /// Enqueues a copy of the value to the host. The host does not wait for it until [`Pending::wait`]. The result owns
    /// the memory that the copy writes, so the scalar may be changed or dropped meanwhile.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// let pending = scalar.get_async()?;
    /// scalar.set_async(8)?;
    /// assert_eq!(pending.wait()?, 7);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn get_async(&self) -> Result<Pending<T>, DeviceError> {
        self.buffer.get_async(0)
    }

    /// Copies `value` to the device. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the copy fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// scalar.set(8)?;
    /// assert_eq!(scalar.get()?, 8);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn set(&mut self, value: T) -> Result<(), DeviceError> {
        self.buffer.set(0, value)
    }

    /// Enqueues a copy of `value` to the device. The host does not wait for it. The value is taken by value, and this
    /// library keeps it until the copy is done.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// scalar.set_async(8)?;
    /// assert_eq!(scalar.get()?, 8);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn set_async(&mut self, value: T) -> Result<(), DeviceError> {
        self.buffer.set_async(0, value)
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
    /// # use cumem::{CudaResource, Device, Scalar, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut scalar = Scalar::new(7_u32, &stream, CudaResource::new(&device))?;
    /// scalar.zero()?;
    /// assert_eq!(scalar.get()?, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn zero(&mut self) -> Result<(), DeviceError>
    where
        T: Zeroable,
    {
        self.buffer.zero()
    }
}
