//! Upload and download of unified memory, by the best path.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::kind::Migratable;
use crate::resource::MemoryResource;
use crate::transfer::{self, Direction, TransferPath};
use crate::unified::hints;
use bytemuck::Pod;
use cumem_driver::Location;
use cumem_driver::call_site::CallSite;
use std::sync::atomic::Ordering;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Copies `data` over all elements by the best path, complete on return, and says which one it was. The pages are
    /// on the buffer's device afterwards.
    ///
    /// The path follows from the size and from whose memory `data` is: page-locked memory, such as a
    /// [guard](Self::host_read) over a buffer of a [`PinnedResource`](crate::PinnedResource), is read by the device
    /// itself; memory of the process goes through page-locked memory of this library. Pages that are not known to be on
    /// the device are moved there first, since copies to pages that have to come one by one take two to five times as
    /// long.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongLength`] unless `data` has as many elements, or what the driver answers; any of the elements
    /// may be those of `data` then. Nothing uses `data` any more in any case.
    #[track_caller]
    pub fn upload(&mut self, data: &[T]) -> Result<TransferPath, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        self.upload_to(data, None)
    }

    /// As [`upload`](Self::upload), but by `path` where this transfer can take it and otherwise by a copy call of the
    /// driver: to see which is best on a machine (`cargo bench --bench paths`).
    ///
    /// # Errors
    ///
    /// Those of [`upload`](Self::upload).
    #[track_caller]
    pub fn upload_by(&mut self, path: TransferPath, data: &[T]) -> Result<TransferPath, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        self.upload_to(data, Some(path))
    }

    #[track_caller]
    fn upload_to(&mut self, data: &[T], by: Option<TransferPath>) -> Result<TransferPath, DeviceError> {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        // Where the pages cannot be moved the copy does what it can.
        let _skipped = hints::prefetch_if_needed(&self.block, 0..self.size_bytes(), self.device().id(), &self.stream)?;
        // SAFETY: the slice has as many elements; it is borrowed until the copy is complete, and only read.
        unsafe { self.carry(data.as_ptr().cast_mut().cast(), Direction::ToDevice, true, by) }
    }

    /// Copies all elements to `data` by the best path, complete on return, and says which one it was.
    ///
    /// The path is chosen as by [`upload`](Self::upload). The pages stay where they are; where the buffer's last word
    /// on them was a [prefetch](Self::prefetch) of all to the host, the host copies.
    ///
    /// # Errors
    ///
    /// [`DeviceError::WrongLength`] unless `data` has as many elements, or what the driver answers; any of the elements
    /// of `data` may be the buffer's then.
    #[track_caller]
    pub fn download(&self, data: &mut [T]) -> Result<TransferPath, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        let host = data.as_mut_ptr().cast();
        if self.on_host.load(Ordering::Relaxed) && self.size_bytes() > 0 {
            let _gate = self.stream.host_access()?;
            let (start, bytes) = (self.block.as_ptr(), self.size_bytes());
            return self.device().tell_copied(self.block.addr(), bytes, Location::Host, || {
                self.device().driver().host_access(self.device().ordinal(), start, bytes, false)?;
                // SAFETY: the host may read the pages (`wait_for_host`), the slice has as many elements, and is not of
                // the buffer, which would be borrowed.
                unsafe { transfer::host_copy(host, start, bytes) };
                Ok(TransferPath::HostPages)
            });
        }
        // SAFETY: the slice has as many elements, and is borrowed until the copy is complete.
        unsafe { self.carry(host, Direction::ToHost, true, None) }
    }
    /// As [`download`](Self::download), but by the device, and by `path` where this transfer can take it, otherwise by
    /// a copy call of the driver: to see which is best on a machine (`cargo bench --bench paths`).
    ///
    /// # Errors
    ///
    /// Those of [`download`](Self::download).
    #[track_caller]
    pub fn download_by(&self, path: TransferPath, data: &mut [T]) -> Result<TransferPath, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        // SAFETY: the slice has as many elements, and is borrowed until the copy is complete.
        unsafe { self.carry(data.as_mut_ptr().cast(), Direction::ToHost, true, Some(path)) }
    }
}
