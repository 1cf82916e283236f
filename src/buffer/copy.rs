//! Copies between a buffer and the host, and between buffers.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::resource::MemoryResource;
use crate::transfer::{self, Direction, Transfer, TransferPath, Transfers};
use bytemuck::Pod;
use cumem_driver::Location;
use cumem_driver::call_site::CallSite;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Copies `data` over all elements, complete on return. From ordinary memory of the process, 2 MiB and more (1 MiB
    /// the other way) go through page-locked memory of this library, which is faster than the driver's own way
    /// ([`Device::trim_staging`](crate::Device::trim_staging) gives it back).
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongLength`] unless `data` has as many elements, or what the driver answers; any of the elements
    /// may be those of `data` then.
    #[track_caller]
    pub fn copy_from_slice(&mut self, data: &[T]) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        // SAFETY: the slice has as many elements; it is borrowed until the copy is complete, and only read.
        unsafe { self.carry(data.as_ptr().cast_mut().cast(), Direction::ToDevice, false, None) }.map(|_| ())
    }

    /// Copies all elements to `data`, complete on return, in the same way.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongLength`] unless `data` has as many elements, or what the driver answers; any of the elements
    /// of `data` may be the buffer's then.
    #[track_caller]
    pub fn copy_to_slice(&self, data: &mut [T]) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        // SAFETY: the slice has as many elements, and is borrowed until the copy is complete.
        unsafe { self.carry(data.as_mut_ptr().cast(), Direction::ToHost, false, None) }.map(|_| ())
    }

    /// The elements, on the host.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<T>, DeviceError> {
        let _site = CallSite::here();
        let mut data = vec![T::zeroed(); self.len];
        self.copy_to_slice(&mut data)?;
        Ok(data)
    }

    /// Copies all elements of `source` over all of this buffer's, on this buffer's stream and after
    /// `source`'s; work enqueued on `source`'s stream later waits for the copy. Not waited for by the host.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongLength`] unless both have as many elements, [`DeviceError::WrongDevice`] between two
    /// machines, or what the driver answers.
    #[track_caller]
    pub fn copy_from_buffer<S: MemoryResource>(&mut self, source: &Buffer<T, S>) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.expect_len(source.len)?;
        self.stream.wait_for(&source.stream)?;
        self.note_on_host(false);
        source.note_on_host(false);
        // SAFETY: both blocks hold this many bytes, and both streams are ordered around the copy.
        unsafe { self.copy_raw(self.block.as_ptr(), source.block.as_ptr(), self.size_bytes()) }?;
        // Where the source's stream cannot be made to wait, the host does, or the source could be reused too early.
        source.stream.wait_for(&self.stream).or_else(|error| transfer::wait_for_stream(&self.stream).and(Err(error)))
    }

    /// Copies all elements from or to `host`, complete on return, by the best path or by one that was asked for.
    ///
    /// # Safety
    ///
    /// `host` is valid for as many elements, for writes if they go there, and nothing uses it in a conflicting way
    /// meanwhile.
    pub(super) unsafe fn carry(
        &self,
        host: *mut u8,
        direction: Direction,
        unified: bool,
        by: Option<TransferPath>,
    ) -> Result<TransferPath, DeviceError> {
        let (device, bytes) = (self.block.as_ptr(), self.size_bytes());
        if bytes == 0 {
            return Ok(TransferPath::Nothing);
        }
        self.note_on_host(false);
        let transfer = Transfer { host, device, bytes, direction, unified, by };
        let to = match direction {
            Direction::ToDevice => self.device().id().into(),
            Direction::ToHost => Location::Host,
        };
        self.device().tell_copied(device as u64, bytes, to, || {
            // SAFETY: the block holds this many bytes, and the caller vouches for the host's end.
            unsafe { Transfers::of(self.device()).run(transfer, &self.stream) }
        })
    }

    pub(super) fn expect_len(&self, found: usize) -> Result<(), DeviceError> {
        let expected = self.len;
        if found == expected { Ok(()) } else { Err(DeviceError::WrongLength { expected, found }) }
    }

    /// # Safety
    ///
    /// Both ranges are valid, and used by nothing in conflict, until this buffer's stream has passed the copy.
    pub(super) unsafe fn copy_raw(&self, dst: *mut u8, src: *const u8, bytes: usize) -> Result<(), DeviceError> {
        if bytes == 0 {
            return Ok(());
        }
        let (device, raw) = (self.device(), self.stream.raw()?);
        // SAFETY: by this function's contract.
        device.enqueue(|| unsafe { device.driver().copy_async(device.ordinal(), dst, src, bytes, raw) })
    }
}
