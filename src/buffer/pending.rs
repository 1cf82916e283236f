//! [`Pending`]: an element that a stream copies to the host.

use super::element::{self, Element};
use crate::device::error::DeviceError;
use crate::transfer::PendingBytes;
use std::fmt;
use std::marker::PhantomData;

/// An element that a stream copies to the host, from [`get_async`](crate::Buffer::get_async). It owns the pinned memory
/// that the copy writes, so the buffer may be changed or dropped meanwhile.
///
/// A value that is dropped before it was waited for does not make the host wait.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, Stream};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let mut numbers = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
/// let before = numbers.get_async(1)?;
/// numbers.set_async(1, 20)?;
/// let after = numbers.get_async(1)?;
/// drop(numbers);
/// assert_eq!((before.wait()?, after.wait()?), (2, 20));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the value is on its way; `wait` returns it"]
pub struct Pending<T> {
    bytes: PendingBytes,
    index: usize,
    element: PhantomData<T>,
}

impl<T: Element> Pending<T> {
    pub(super) fn new(bytes: PendingBytes, index: usize) -> Self {
        Self { bytes, index, element: PhantomData }
    }

    /// Reports whether the copy is done, so that [`wait`](Self::wait) does not wait.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let zeros = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// let pending = zeros.get_async(0)?;
    /// assert!(!pending.is_done()?); // the device still zeroes the buffer
    /// stream.synchronize()?;
    /// assert!(pending.is_done()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_done(&self) -> Result<bool, DeviceError> {
        Ok(self.bytes.is_done()?)
    }

    /// Waits for the copy, and returns the element. The wait is for the copy only, not for later work on the stream.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included. Returns [`DeviceError::InvalidElement`] if the
    /// bytes are not a value of `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let numbers = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// assert_eq!(numbers.get_async(2)?.wait()?, 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(self) -> Result<T, DeviceError> {
        let bits = self.bytes.wait(bytemuck::pod_read_unaligned::<T::Bits>)?;
        element::from_bits(self.index, bits)
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("index", &self.index).finish_non_exhaustive()
    }
}
