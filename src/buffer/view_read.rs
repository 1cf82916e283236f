//! Reads through a [`BufferView`].

use super::element::{self, Element};
use super::pending::Pending;
use super::view::BufferView;
use crate::device::error::DeviceError;
use crate::transfer::Direction;
use bytemuck::Zeroable;
use cumem_driver::call_site::CallSite;
use std::slice;

impl<T: Element, K> BufferView<'_, T, K> {
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
    /// assert_eq!(buffer.slice(1..)?.get(0)?, 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn get(&self, index: usize) -> Result<T, DeviceError> {
        let _site = CallSite::here();
        let mut bits = T::Bits::zeroed();
        self.slice(index..index.saturating_add(1))?.copy_bits(slice::from_mut(&mut bits))?;
        element::from_bits(index, bits)
    }

    /// Returns a copy of the first element. The host waits for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), for example [`DeviceError::OutOfRange`] if there are no elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(2..)?.first()?, 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn first(&self) -> Result<T, DeviceError> {
        self.get(0)
    }

    /// Returns a copy of the last element. The host waits for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), for example [`DeviceError::OutOfRange`] if there are no elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(..2)?.last()?, 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn last(&self) -> Result<T, DeviceError> {
        self.get(self.len().saturating_sub(1))
    }

    /// Enqueues a copy of one element to the host. The host does not wait for it until [`Pending::wait`].
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if there is no such element, and the driver's error if it rejects the copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let pending = buffer.slice(1..)?.get_async(0)?;
    /// // the host can enqueue more work here
    /// assert_eq!(pending.wait()?, 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn get_async(&self, index: usize) -> Result<Pending<T>, DeviceError> {
        let _site = CallSite::here();
        let element = self.slice(index..index.saturating_add(1))?;
        Ok(Pending::new(element.part.get_async()?, index))
    }

    /// Copies all elements to `data`. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails. Returns [`DeviceError::InvalidElement`] if the bytes of an element are not a value of `T`. After a
    /// failed copy, some elements of `data` may have the new values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let mut data = [0; 2];
    /// buffer.slice(1..3)?.copy_to_slice(&mut data)?;
    /// assert_eq!(data, [2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_to_slice(&self, data: &mut [T]) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        element::read_slice(data, |bits| self.copy_bits(bits))
    }

    /// Copies all elements to a new vector.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the copy fails, and [`DeviceError::InvalidElement`] if the bytes of an element are
    /// not a value of `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.slice(1..3)?.to_vec()?, [2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<T>, DeviceError> {
        let _site = CallSite::here();
        element::read_vec(self.len(), |bits| self.copy_bits(bits)).map(|(elements, ())| elements)
    }

    /// Copies the bits of all elements to `bits`, which has as many elements.
    pub(super) fn copy_bits(&self, bits: &mut [T::Bits]) -> Result<(), DeviceError> {
        // SAFETY: `bits` has as many elements of the same size, and is borrowed mutably until the copy is complete. Any
        // bytes are bits.
        unsafe { self.part.transfer(bits.as_mut_ptr().cast(), Direction::ToHost, false, None) }.map(|_| ())
    }

    pub(super) fn expect_len(&self, found: usize) -> Result<(), DeviceError> {
        let expected = self.len();
        if found == expected { Ok(()) } else { Err(DeviceError::WrongLength { expected, found }) }
    }
}
