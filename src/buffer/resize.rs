//! Changes of a buffer's length and capacity.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::error::AllocError;
use crate::layout::{self, InvalidLayout};
use crate::resource::MemoryResource;
use bytemuck::Pod;
use cumem_driver::BlockEvent;
use cumem_driver::drop_error::record_drop_error;
use std::mem;
use std::ops::Range;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Makes the capacity at least `additional` elements more than the length. If that needs more memory, the elements
    /// are copied to a new block, in stream order.
    ///
    /// # Errors
    ///
    /// Returns the errors of the resource, [`AllocError::InvalidLayout`] if the size overflows, and the driver's error
    /// if it rejects the copy. The buffer is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// buffer.reserve(7)?;
    /// assert_eq!((buffer.len(), buffer.capacity()), (3, 10));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, additional: usize) -> Result<(), AllocError> {
        let needed =
            self.len.checked_add(additional).ok_or(InvalidLayout { size: usize::MAX, alignment: align_of::<T>() })?;
        if needed > self.capacity { self.reallocate(needed) } else { Ok(()) }
    }

    /// Changes the length to `len`. The bytes of new elements are zero.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`reserve`](Self::reserve), and the driver's error if it rejects the fill. The length is
    /// then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// buffer.resize(4)?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3, 0]);
    /// buffer.resize(1)?;
    /// assert_eq!(buffer.to_vec()?, [1]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn resize(&mut self, len: usize) -> Result<(), AllocError> {
        if len > self.len {
            self.reserve(len - self.len)?;
            self.fill_zero(self.len..len)?;
        }
        self.len = len;
        Ok(())
    }

    /// Reduces the capacity to the length. The elements are copied to a smaller block, in stream order.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`reserve`](Self::reserve). The buffer is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u32, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// buffer.resize(10)?;
    /// buffer.shrink_to_fit()?;
    /// assert_eq!((buffer.len(), buffer.capacity()), (10, 10));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn shrink_to_fit(&mut self) -> Result<(), AllocError> {
        if self.capacity > self.len { self.reallocate(self.len) } else { Ok(()) }
    }

    /// Sets the length and leaves the memory unchanged.
    ///
    /// # Panics
    ///
    /// Panics if `len` is greater than the capacity.
    ///
    /// # Safety
    ///
    /// The caller must ensure that every element below `len` has been written, or is written before it is read.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = Buffer::<u32, _>::with_capacity(3, &stream, CudaResource::new(&device))?;
    /// // SAFETY: the copy below writes all three elements before anything reads them.
    /// unsafe { buffer.set_len(3) };
    /// buffer.copy_from_slice(&[1, 2, 3])?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "length {len} is more than the capacity {}", self.capacity);
        self.note_on_host(false);
        self.len = len;
    }

    fn reallocate(&mut self, capacity: usize) -> Result<(), AllocError> {
        // The resource allocates and frees on its own device.
        let away = self.home.is_some().then(|| self.stream.clone());
        self.go_home()?;
        self.settle()?;
        let reallocated = self.reallocate_here(capacity);
        match away {
            // A new block may be of another memory, for example of a resource that spills.
            Some(away) if self.device().is_managed(self.block.as_ptr()).unwrap_or(false) => {
                let returned = self.set_stream(&away).map_err(AllocError::from);
                reallocated.and(returned)
            }
            _ => reallocated,
        }
    }

    /// Does the same as `reallocate` on the buffer's stream, which is of the resource's device.
    fn reallocate_here(&mut self, capacity: usize) -> Result<(), AllocError> {
        let new = self.resource.allocate(&self.stream, layout::array::<T>(capacity)?)?;
        new.declare(&self.stream, BlockEvent::Allocated);
        // SAFETY: both blocks are live and hold at least `size_bytes` bytes. The stream orders the copy after the work
        // that wrote the old block, and before any reuse of the old block.
        let copied = unsafe { self.copy_raw(new.as_ptr(), self.block.as_ptr(), self.size_bytes()) };
        if let Err(error) = copied {
            // SAFETY: the copy was not enqueued, so no work uses the new block.
            let returned = unsafe { self.resource.deallocate(&self.stream, new) };
            record_drop_error("a buffer's new block", returned);
            return Err(error.into());
        }
        let old = mem::replace(&mut *self.block, new);
        self.capacity = capacity;
        old.declare(&self.stream, BlockEvent::Freed);
        self.note_on_host(false);
        if let Some(auto) = &self.auto {
            auto.moved_to(&self.block);
        }
        // SAFETY: the old block's last use is the copy, on this stream.
        let returned = unsafe { self.resource.deallocate(&self.stream, old) };
        record_drop_error("a buffer's old block", returned);
        Ok(())
    }

    /// Enqueues a fill that zeroes elements within the capacity.
    pub(super) fn fill_zero(&mut self, range: Range<usize>) -> Result<(), DeviceError> {
        let bytes = range.len() * size_of::<T>();
        if bytes == 0 {
            return Ok(());
        }
        self.settle()?;
        self.note_on_host(false);
        let start = self.block.as_ptr().wrapping_add(range.start * size_of::<T>());
        let (device, raw) = (self.device(), self.stream.raw()?);
        // SAFETY: the range is within the block. The buffer owns the block, and frees it on the same stream after the
        // fill.
        device.enqueue(|| unsafe { device.driver().fill_async(device.ordinal(), start, 0, bytes, raw) })
    }
}
