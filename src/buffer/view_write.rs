//! Writes through a [`BufferViewMut`].

use super::element::Element;
use super::view::BufferView;
use super::view_mut::BufferViewMut;
use crate::device::error::DeviceError;
use crate::transfer::Direction;
use bytemuck::Zeroable;
use cumem_driver::call_site::CallSite;
use std::slice;

impl<T: Element, K> BufferViewMut<'_, T, K> {
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
    /// buffer.slice_mut(1..)?.set(0, 20)?;
    /// assert_eq!(buffer.to_vec()?, [1, 20, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn set(&mut self, index: usize, value: T) -> Result<(), DeviceError> {
        self.slice_mut(index..index.saturating_add(1))?.copy_from_slice(slice::from_ref(&value))
    }

    /// Enqueues a copy of `value` over one element. The host does not wait for it.
    ///
    /// The value is taken by value, and kept in pinned memory of this library until the copy is done. Up to 64 such
    /// copies of a device are on their way at a time; a further one waits for the oldest.
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
    /// buffer.slice_mut(1..)?.set_async(0, 20)?;
    /// assert_eq!(buffer.to_vec()?, [1, 20, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn set_async(&mut self, index: usize, value: T) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        let element = self.slice_mut(index..index.saturating_add(1))?;
        // SAFETY: the view borrows the element exclusively.
        unsafe { element.part.set_async(bytemuck::bytes_of(&value)) }
    }

    /// Enqueues a fill that sets every element to `value`. The host does not wait for it.
    ///
    /// If the value is a repeated byte or a repeated word of 4 bytes, for example a `f32`, the fill is one call of the
    /// driver. Otherwise the first elements are copied
    /// from the host, and the rest from them, with about one call for each doubling of their number.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the fill.
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
    /// buffer.slice_mut(1..)?.fill(7)?;
    /// assert_eq!(buffer.to_vec()?, [1, 7, 7, 7]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn fill(&mut self, value: T) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        // SAFETY: the view borrows the elements exclusively.
        unsafe { self.part.fill(bytemuck::bytes_of(&value)) }
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
    /// buffer.slice_mut(1..)?.zero()?;
    /// assert_eq!(buffer.to_vec()?, [1, 0, 0, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn zero(&mut self) -> Result<(), DeviceError>
    where
        T: Zeroable,
    {
        let _site = CallSite::here();
        // SAFETY: the view borrows the elements exclusively.
        unsafe { self.part.fill_bytes(0) }
    }

    /// Copies `data` over all elements. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails. After a failed copy, some elements may have the new values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.slice_mut(1..3)?.copy_from_slice(&[20, 30])?;
    /// assert_eq!(buffer.to_vec()?, [1, 20, 30, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_from_slice(&mut self, data: &[T]) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.as_view().expect_len(data.len())?;
        // SAFETY: the slice has as many elements, and is borrowed until the copy is complete. The copy only reads it.
        unsafe { self.part.transfer(data.as_ptr().cast_mut().cast(), Direction::ToDevice, false, None) }.map(|_| ())
    }

    /// Enqueues a copy of all elements of `source` over all elements of this view. The host does not wait for it.
    ///
    /// The copy runs on this view's stream, after the work on both buffers so far. Later work on the stream of the
    /// source's buffer waits for the copy.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if the views differ in their number of elements,
    /// [`DeviceError::WrongDevice`] if they belong to different machines, and the driver's error if it rejects the
    /// copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let source = Buffer::from_slice(&[10_u32, 20, 30], &Stream::new(&device)?, CudaResource::new(&device))?;
    /// buffer.slice_mut(2..)?.copy_from_view(source.slice(..2)?)?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 10, 20]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_from_view<S>(&mut self, source: BufferView<'_, T, S>) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.as_view().expect_len(source.len())?;
        // SAFETY: this view borrows its elements exclusively, so the source does not overlap them.
        unsafe { self.part.copy_from(&source.part) }
    }
}
