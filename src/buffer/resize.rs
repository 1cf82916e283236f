//! Length and capacity.

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
    /// Makes room for at least `additional` more elements. The contents move, in stream order.
    ///
    /// # Errors
    ///
    /// Those of the resource, [`AllocError::InvalidLayout`] on overflow, or what the driver answers to
    /// the copy. The buffer is as before then.
    pub fn reserve(&mut self, additional: usize) -> Result<(), AllocError> {
        let needed =
            self.len.checked_add(additional).ok_or(InvalidLayout { size: usize::MAX, alignment: align_of::<T>() })?;
        if needed > self.capacity { self.reallocate(needed) } else { Ok(()) }
    }

    /// Changes the length to `len`. New elements are zero.
    ///
    /// # Errors
    ///
    /// Those of [`reserve`](Self::reserve); the length is as before then.
    pub fn resize(&mut self, len: usize) -> Result<(), AllocError> {
        if len > self.len {
            self.reserve(len - self.len)?;
            self.fill_zero(self.len..len)?;
        }
        self.len = len;
        Ok(())
    }

    /// Gives back the room that the elements do not need.
    ///
    /// # Errors
    ///
    /// Those of [`reserve`](Self::reserve).
    pub fn shrink_to_fit(&mut self) -> Result<(), AllocError> {
        if self.capacity > self.len { self.reallocate(self.len) } else { Ok(()) }
    }

    /// Sets the length without touching the contents.
    ///
    /// # Panics
    ///
    /// If `len` is more than the capacity.
    ///
    /// # Safety
    ///
    /// Every element up to `len` has been written, or will be before it is read.
    pub unsafe fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "length {len} is more than the capacity {}", self.capacity);
        self.note_on_host(false);
        self.len = len;
    }

    fn reallocate(&mut self, capacity: usize) -> Result<(), AllocError> {
        let new = self.resource.allocate(&self.stream, layout::array::<T>(capacity)?)?;
        new.declare(&self.stream, BlockEvent::Allocated);
        // SAFETY: both blocks are live, of `size_bytes` or more, and the stream orders the copy after what filled
        // the old one and before what reuses it.
        let copied = unsafe { self.copy_raw(new.as_ptr(), self.block.as_ptr(), self.size_bytes()) };
        if let Err(error) = copied {
            // SAFETY: nothing was enqueued that uses the new block.
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

    /// Zeroes elements within the capacity.
    pub(super) fn fill_zero(&mut self, range: Range<usize>) -> Result<(), DeviceError> {
        let bytes = range.len() * size_of::<T>();
        if bytes == 0 {
            return Ok(());
        }
        self.note_on_host(false);
        let start = self.block.as_ptr().wrapping_add(range.start * size_of::<T>());
        let (device, raw) = (self.device(), self.stream.raw()?);
        // SAFETY: the range is within the block, which is live and this buffer's until its stream has passed.
        device.enqueue(|| unsafe { device.driver().fill_async(device.ordinal(), start, 0, bytes, raw) })
    }
}
