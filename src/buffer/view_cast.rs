//! Views of the same memory with another type of element, or without the kind of the memory.

use super::element::Element;
use super::part::Part;
use super::view::BufferView;
use super::view_mut::BufferViewMut;
use crate::device::error::DeviceError;
use crate::kind::DeviceAccessible;

/// Returns the number of elements of type `U` that `part` holds, or an error if it holds no whole number of them.
pub(super) fn fit<U>(part: &Part<'_>) -> Result<usize, DeviceError> {
    let (bytes, size, alignment) = (part.bytes, size_of::<U>(), align_of::<U>());
    let whole = if size == 0 { bytes == 0 } else { bytes.is_multiple_of(size) };
    if whole && part.addr().is_multiple_of(alignment as u64) {
        return Ok(bytes.checked_div(size).unwrap_or(0));
    }
    Err(DeviceError::Misfit { bytes, addr: part.addr(), size, alignment })
}

impl<'a, T, K> BufferView<'a, T, K> {
    /// Returns the same elements as memory whose kind is known only at run time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::buffer::BufferView;
    ///
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let view: BufferView<'_, u32> = buffer.as_view().erase_kind();
    /// assert_eq!(view.len(), 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn erase_kind(self) -> BufferView<'a, T>
    where
        K: DeviceAccessible,
    {
        BufferView::new(self.part, self.len())
    }

    /// Returns the bytes of the elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.as_view().as_bytes().len(), 16);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_bytes(self) -> BufferView<'a, u8, K> {
        BufferView::new(self.part, self.part.bytes)
    }

    /// Returns the same memory as elements of another type. Each read checks the elements, as [`Element`] describes.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::Misfit`] if the bytes are not a whole number of elements of type `U`, or not aligned for
    /// them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let pairs = Buffer::from_slice(&[[1_u32, 2], [3, 4]], &stream, CudaResource::new(&device))?;
    /// let numbers = pairs.as_view().cast::<u32>()?;
    /// assert_eq!(numbers.to_vec()?, [1, 2, 3, 4]);
    /// assert!(numbers.slice(1..)?.cast::<[u32; 2]>().is_err()); // three numbers are no whole number of pairs
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn cast<U: Element>(self) -> Result<BufferView<'a, U, K>, DeviceError> {
        Ok(BufferView::new(self.part, fit::<U>(&self.part)?))
    }
}

impl<'a, T, K> BufferViewMut<'a, T, K> {
    /// Returns the same elements as memory whose kind is known only at run time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::buffer::BufferViewMut;
    ///
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let view: BufferViewMut<'_, u32> = buffer.as_view_mut().erase_kind();
    /// assert_eq!(view.len(), 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn erase_kind(self) -> BufferViewMut<'a, T>
    where
        K: DeviceAccessible,
    {
        BufferViewMut::new(self.part, self.len())
    }

    /// Returns the bytes of the elements. A read of the elements checks the bytes that are written here, as [`Element`]
    /// describes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// buffer.as_view_mut().as_bytes_mut().slice_mut(..4)?.fill(0xff)?;
    /// assert_eq!(buffer.to_vec()?, [u32::MAX, 2, 3, 4]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_bytes_mut(self) -> BufferViewMut<'a, u8, K> {
        BufferViewMut::new(self.part, self.part.bytes)
    }

    /// Returns the same memory as elements of another type. Each read checks the elements, as [`Element`] describes.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::Misfit`] if the bytes are not a whole number of elements of type `U`, or not aligned for
    /// them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, CudaResource::new(&device))?;
    /// let mut pairs = buffer.as_view_mut().cast_mut::<[u32; 2]>()?;
    /// pairs.set(1, [30, 40])?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 30, 40]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn cast_mut<U: Element>(self) -> Result<BufferViewMut<'a, U, K>, DeviceError> {
        Ok(BufferViewMut::new(self.part, fit::<U>(&self.part)?))
    }
}
