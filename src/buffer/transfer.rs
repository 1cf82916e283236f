//! Uploads to and downloads from unified memory, by the best path.

use super::array::Buffer;
use super::element::{self, Element};
use crate::device::error::DeviceError;
use crate::kind::{HostAccessible, Migratable};
use crate::resource::MemoryResource;
use crate::transfer::{self, Direction, TransferPath};
use crate::unified::hints;
use cumem_driver::Location;
use cumem_driver::call_site::CallSite;
use std::sync::atomic::Ordering;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Copies `data` over all elements by the best path, and returns that path. The copy is complete on return, and the
    /// pages are then on the buffer's device.
    ///
    /// The path follows from the size and from the kind of memory that `data` is in. The device reads pinned memory
    /// directly, for example through a [guard](Self::host_read) over a buffer of a
    /// [`PinnedResource`](crate::PinnedResource). Pageable memory goes through pinned memory that this library
    /// allocates. Pages that are not known to be on the device are migrated there first, because a copy to pages that
    /// fault in one by one takes two to five times as long.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails. After a failed copy, some elements may have the new values. Nothing accesses `data` after
    /// the return, also after an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = UnifiedBuffer::<u32, _>::zeroed(3, &stream, ManagedResource::new(&device)?)?;
    /// let path = buffer.upload(&[1, 2, 3])?;
    /// println!("by the path: {path}");
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn upload(&mut self, data: &[T]) -> Result<TransferPath, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        self.upload_to(data, None)
    }

    /// Does the same as [`upload`](Self::upload), but by `path`. If this transfer cannot take that path, one copy call
    /// of the driver does it. This function is for measurements of which path is best (`cargo bench --bench paths`).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`upload`](Self::upload).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::buffer::TransferPath;
    ///
    /// let mut buffer = UnifiedBuffer::<u32, _>::zeroed(3, &stream, ManagedResource::new(&device)?)?;
    /// assert_eq!(buffer.upload_by(TransferPath::Copy, &[1, 2, 3])?, TransferPath::Copy);
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
        self.as_view().expect_len(data.len())?;
        // If the device cannot take the pages, the hint is skipped and the copy works without it.
        let _skipped = hints::prefetch_if_needed(
            &self.memory.block,
            0..self.size_bytes(),
            self.device().id(),
            &self.memory.stream,
        )?;
        // SAFETY: the slice has as many elements as the buffer, and is borrowed until the copy is complete. The copy
        // only reads it.
        unsafe { self.part().transfer(data.as_ptr().cast_mut().cast(), Direction::ToDevice, true, by) }
    }

    /// Copies all elements to `data` by the best path, and returns that path. The copy is complete on return.
    ///
    /// The path is chosen as by [`upload`](Self::upload). The copy does not migrate the pages. If the buffer's latest
    /// applied hint was a [prefetch](Self::prefetch) of all elements to the host, the host copies. Therefore the kind
    /// of memory must be [accessible to the host](HostAccessible).
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails. After a failed copy, some elements of `data` may have the new values.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::buffer::TransferPath;
    ///
    /// let buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.prefetch(Location::Host)?.is_applied());
    /// let mut data = [0; 3];
    /// assert_eq!(buffer.download(&mut data)?, TransferPath::HostPages);
    /// assert_eq!(data, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn download(&self, data: &mut [T]) -> Result<TransferPath, DeviceError>
    where
        R: MemoryResource<Kind: Migratable + HostAccessible>,
    {
        let _site = CallSite::here();
        self.as_view().expect_len(data.len())?;
        if !self.on_host.load(Ordering::Relaxed) || self.size_bytes() == 0 {
            return self.download_to(data, None);
        }
        let _gate = self.memory.stream.host_access(self.memory.block.as_ptr())?;
        let (start, bytes) = (self.memory.block.as_ptr(), self.size_bytes());
        element::read_slice(data, |bits| {
            self.device().tell_copied(self.memory.block.addr(), bytes, Location::Host, || {
                self.device().driver().host_access(self.device().ordinal(), start, bytes, false)?;
                // SAFETY: `HostAccessible` promises readable initialized bytes, and `host_access` has waited for the
                // work that writes them. The slice has as many elements. It does not overlap the buffer, because a
                // guard over the buffer's elements that can write them borrows the buffer exclusively.
                unsafe { transfer::host_copy(bits.as_mut_ptr().cast(), start, bytes) };
                Ok(TransferPath::HostPages)
            })
        })
    }

    /// Does the same as [`download`](Self::download), but by `path`, and never by a copy of the host. If this transfer
    /// cannot take that path, one copy call of the driver does it. This function is for measurements of which path is
    /// best (`cargo bench --bench paths`).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`download`](Self::download).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::buffer::TransferPath;
    ///
    /// let buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
    /// let mut data = [0; 3];
    /// assert_eq!(buffer.download_by(TransferPath::Copy, &mut data)?, TransferPath::Copy);
    /// assert_eq!(data, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn download_by(&self, path: TransferPath, data: &mut [T]) -> Result<TransferPath, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        let _site = CallSite::here();
        self.as_view().expect_len(data.len())?;
        self.download_to(data, Some(path))
    }

    fn download_to(&self, data: &mut [T], by: Option<TransferPath>) -> Result<TransferPath, DeviceError> {
        element::read_slice(data, |bits| {
            let host = bits.as_mut_ptr().cast();
            // SAFETY: the slice has as many elements as the buffer, and is borrowed mutably until the copy is complete.
            // Any bytes are bits.
            unsafe { self.part().transfer(host, Direction::ToHost, true, by) }
        })
    }
}
