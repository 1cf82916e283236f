//! Copies between a buffer and the host, and between buffers.

use super::Buffer;
use crate::caller::Calling;
use crate::error::DriverError;
use crate::resource::MemoryResource;
use bytemuck::Pod;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Copies `data` over all elements, complete on return.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfRange`] unless `data` has as many elements, or what the driver answers.
    #[track_caller]
    pub fn copy_from_slice(&mut self, data: &[T]) -> Result<(), DriverError> {
        let _here = Calling::here();
        self.expect_len(data.len())?;
        // SAFETY: the block holds this many bytes; the borrow of `data` outlives the copy, which `finish` waits for.
        unsafe { self.copy_raw(self.block.as_ptr(), data.as_ptr().cast(), self.size_bytes()) }?;
        self.finish()
    }

    /// Copies all elements to `data`, complete on return.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfRange`] unless `data` has as many elements, or what the driver answers.
    #[track_caller]
    pub fn copy_to_slice(&self, data: &mut [T]) -> Result<(), DriverError> {
        let _here = Calling::here();
        self.expect_len(data.len())?;
        // SAFETY: the block holds this many bytes; the borrow of `data` outlives the copy, which `finish` waits for.
        unsafe { self.copy_raw(data.as_mut_ptr().cast(), self.block.as_ptr(), self.size_bytes()) }?;
        self.finish()
    }

    /// The elements, on the host.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<T>, DriverError> {
        let _here = Calling::here();
        let mut data = vec![T::zeroed(); self.len];
        self.copy_to_slice(&mut data)?;
        Ok(data)
    }

    /// Copies all elements of `source` over all of this buffer's, on this buffer's stream and after
    /// `source`'s; work enqueued on `source`'s stream later waits for the copy. Not waited for by the host.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfRange`] unless both have as many elements, [`DriverError::WrongDevice`] between two
    /// machines, or what the driver answers.
    #[track_caller]
    pub fn copy_from_buffer<S: MemoryResource>(&mut self, source: &Buffer<T, S>) -> Result<(), DriverError> {
        let _here = Calling::here();
        self.expect_len(source.len)?;
        self.stream.wait_for(&source.stream)?;
        // SAFETY: both blocks hold this many bytes, and both streams are ordered around the copy.
        unsafe { self.copy_raw(self.block.as_ptr(), source.block.as_ptr(), self.size_bytes()) }?;
        // Where the source's stream cannot be made to wait, the host does, or the source could be reused too early.
        source.stream.wait_for(&self.stream).or_else(|error| self.finish().and(Err(error)))
    }

    /// Waits for a copy from or to memory of the caller: page-locked memory is read and written until it is done.
    ///
    /// A synchronisation that fails reports earlier work, after the wait. Should it have failed before, the device is
    /// waited for; where that fails too, the context is lost, and nothing is written any more.
    fn finish(&self) -> Result<(), DriverError> {
        self.stream.synchronize().or_else(|error| self.device().synchronize().and(Err(error)))
    }

    fn expect_len(&self, len: usize) -> Result<(), DriverError> {
        if len == self.len { Ok(()) } else { Err(DriverError::OutOfRange { start: 0, end: len, size: self.len }) }
    }

    /// # Safety
    ///
    /// Both ranges are valid, and used by nothing in conflict, until this buffer's stream has passed the copy.
    pub(super) unsafe fn copy_raw(&self, dst: *mut u8, src: *const u8, bytes: usize) -> Result<(), DriverError> {
        if bytes == 0 {
            return Ok(());
        }
        let (device, raw) = (self.device(), self.stream.raw()?);
        // SAFETY: by this function's contract.
        device.enqueue(|| unsafe { device.driver().copy_async(device.ordinal(), dst, src, bytes, raw) })
    }
}
