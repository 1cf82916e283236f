//! Copies between a buffer and the host, and between buffers.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::resource::MemoryResource;
use crate::transfer::{self, Direction, Ends, Transfer, TransferPath, Transfers};
use bytemuck::Pod;
use cumem_driver::Location;
use cumem_driver::call_site::CallSite;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Copies `data` over all elements. The copy is complete on return.
    ///
    /// If `data` is ordinary (pageable) memory, copies of 2 MiB and more go through pinned memory that this library
    /// allocates, which is faster than the driver's own copy. In the other direction, that begins at 1 MiB.
    /// [`Device::trim_staging`](crate::Device::trim_staging) frees this memory.
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
    /// let mut buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
    /// buffer.copy_from_slice(&[1, 2, 3])?;
    /// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
    /// assert!(buffer.copy_from_slice(&[1, 2]).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_from_slice(&mut self, data: &[T]) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        // SAFETY: the slice has as many elements as the buffer, and is borrowed until the copy is complete. The copy
        // only reads it.
        unsafe { self.transfer_all(data.as_ptr().cast_mut().cast(), Direction::ToDevice, false, None) }.map(|_| ())
    }

    /// Copies all elements to `data`, as [`copy_from_slice`](Self::copy_from_slice) does in the other direction. The
    /// copy is complete on return.
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
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// let mut data = [0; 3];
    /// buffer.copy_to_slice(&mut data)?;
    /// assert_eq!(data, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_to_slice(&self, data: &mut [T]) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.expect_len(data.len())?;
        // SAFETY: the slice has as many elements as the buffer, and is borrowed mutably until the copy is complete.
        unsafe { self.transfer_all(data.as_mut_ptr().cast(), Direction::ToHost, false, None) }.map(|_| ())
    }

    /// Copies all elements to a new vector.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the copy fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(&device))?;
    /// assert_eq!(buffer.to_vec()?, vec![1, 4, 9]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<T>, DeviceError> {
        let _site = CallSite::here();
        let mut data = vec![T::zeroed(); self.len];
        self.copy_to_slice(&mut data)?;
        Ok(data)
    }

    /// Enqueues a copy of all elements of `source` over all elements of this buffer. The host does not wait for it.
    ///
    /// The copy runs on this buffer's stream, after the work that is enqueued on `source`'s stream. Work that is
    /// enqueued on `source`'s stream later waits for the copy.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if the buffers differ in their number of elements,
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
    /// let memory = CudaResource::new(&device);
    /// let source = Buffer::from_slice(&[1_u32, 2, 3], &Stream::new(&device)?, &memory)?;
    /// let mut copy = Buffer::<u32, _>::zeroed(3, &stream, &memory)?;
    /// copy.copy_from_buffer(&source)?;
    /// assert_eq!(copy.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn copy_from_buffer<S: MemoryResource>(&mut self, source: &Buffer<T, S>) -> Result<(), DeviceError> {
        let _site = CallSite::here();
        self.expect_len(source.len)?;
        self.settle()?;
        self.stream.wait_for(&source.stream)?;
        self.note_on_host(false);
        source.note_on_host(false);
        // SAFETY: both blocks hold this many bytes. The copy is ordered after the work of both streams, and the later
        // work of both streams is ordered after the copy.
        unsafe { self.copy_raw(self.block.as_ptr(), source.block.as_ptr(), self.size_bytes()) }?;
        // If the wait cannot be enqueued on the source's stream, the host waits instead. Otherwise the source could be
        // reused before the copy has read it.
        source.stream.wait_for(&self.stream).or_else(|error| transfer::wait_for_stream(&self.stream).and(Err(error)))
    }

    /// Copies all elements from or to `host`, by the path `by` or, if that is `None`, by the best path. The copy is
    /// complete on return.
    ///
    /// # Safety
    ///
    /// The caller must ensure that:
    /// - `host` is valid for as many elements as the buffer has, for reads or, if the copy writes there, for writes;
    /// - no other code accesses that memory in a conflicting way during the call.
    pub(super) unsafe fn transfer_all(
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
        let stream = self.stream.usable_here()?;
        let transfer = Transfer { host, device, bytes, direction, unified, by };
        let to = match direction {
            Direction::ToDevice => self.device().id().into(),
            Direction::ToHost => Location::Host,
        };
        self.device().tell_copied(device as u64, bytes, to, || {
            // SAFETY: the block holds this many bytes, and the caller ensures that `host` is valid.
            unsafe { Transfers::of(self.device()).run(transfer, &stream) }
        })
    }

    pub(super) fn expect_len(&self, found: usize) -> Result<(), DeviceError> {
        let expected = self.len;
        if found == expected { Ok(()) } else { Err(DeviceError::WrongLength { expected, found }) }
    }

    /// Enqueues a copy on this buffer's stream.
    ///
    /// # Safety
    ///
    /// The caller must ensure that both ranges stay valid, and that nothing accesses them in a conflicting way, until
    /// the copy is done.
    pub(super) unsafe fn copy_raw(&self, dst: *mut u8, src: *const u8, bytes: usize) -> Result<(), DeviceError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the contract of this function is the contract of the copy, which is enqueued on the buffer's stream.
        unsafe { transfer::enqueue_copy(Ends { to: dst, from: src, bytes }, self.stream.raw()?, &self.stream) }
    }
}
