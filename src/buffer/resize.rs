//! Changes of a buffer's length and capacity.

use super::array::Buffer;
use super::element::Element;
use super::view;
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind::DeviceAccessible;
use crate::layout::{self, InvalidLayout};
use crate::resource::MemoryResource;
use crate::transfer::{self, Ends};
use bytemuck::Zeroable;
use cumem_driver::BlockEvent;
use cumem_driver::call_site::CallSite;
use cumem_driver::drop_error::record_drop_error;
use std::mem;
use std::ops::Range;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Does the same as [`with_capacity`](Self::with_capacity), in memory that is aligned to `alignment` bytes or, if
    /// that is more, as for any buffer. The buffer keeps the alignment when it grows.
    ///
    /// A leaf aligns to 256 bytes, and [`CudaVirtualResource`](crate::CudaVirtualResource) and
    /// [`HostResource`](crate::HostResource) to more. A pool aligns to any power of two.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_capacity`](Self::with_capacity). Returns [`AllocError::InvalidLayout`] if
    /// `alignment` is not a power of two, and [`AllocError::UnsupportedAlignment`] if the resource cannot align to it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaVirtualResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaVirtualResource::new(&device)?;
    /// let buffer = Buffer::<u32, _>::with_capacity_aligned(100, 4096, &stream, memory)?;
    /// assert_eq!(buffer.device_address() % 4096, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn with_capacity_aligned(
        capacity: usize,
        alignment: usize,
        stream: &Stream,
        resource: R,
    ) -> Result<Self, AllocError>
    where
        R: MemoryResource<Kind: DeviceAccessible>,
    {
        let _site = CallSite::here();
        Self::allocate(layout::array_aligned::<T>(capacity, alignment)?, capacity, stream, resource)
    }

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
    pub fn resize(&mut self, len: usize) -> Result<(), AllocError>
    where
        T: Zeroable,
    {
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
        self.part().note_on_host(false);
        self.len = len;
    }

    fn reallocate(&mut self, capacity: usize) -> Result<(), AllocError> {
        // The resource allocates and frees on its own device.
        let away = self.memory.home.is_some().then(|| self.memory.stream.clone());
        self.memory.go_home()?;
        self.memory.settle()?;
        let reallocated = self.reallocate_here(capacity);
        match away {
            // A new block may be of another memory, for example of a resource that spills.
            Some(away) if self.device().is_managed(self.memory.block.as_ptr()).unwrap_or(false) => {
                let returned = self.set_stream(&away).map_err(AllocError::from);
                reallocated.and(returned)
            }
            _ => reallocated,
        }
    }

    /// Does the same as `reallocate` on the buffer's stream, which is of the resource's device.
    fn reallocate_here(&mut self, capacity: usize) -> Result<(), AllocError> {
        let alignment = self.memory.block.layout().align();
        let new =
            self.memory.resource.allocate(&self.memory.stream, layout::array_aligned::<T>(capacity, alignment)?)?;
        new.declare(&self.memory.stream, BlockEvent::Allocated);
        // SAFETY: both blocks are live and hold at least `size_bytes` bytes. The stream orders the copy after the work
        // that wrote the old block, and before any reuse of the old block.
        let copied = unsafe { self.enqueue_copy_to(&new) };
        if let Err(error) = copied {
            // SAFETY: the copy was not enqueued, so no work uses the new block.
            let returned = unsafe { self.memory.resource.deallocate(&self.memory.stream, new) };
            record_drop_error("a buffer's new block", returned);
            return Err(error.into());
        }
        let old = mem::replace(&mut *self.memory.block, new);
        self.capacity = capacity;
        old.declare(&self.memory.stream, BlockEvent::Freed);
        self.part().note_on_host(false);
        if let Some(auto) = &self.auto {
            auto.moved_to(&self.memory.block);
        }
        // SAFETY: the old block's last use is the copy, on this stream.
        let returned = unsafe { self.memory.resource.deallocate(&self.memory.stream, old) };
        record_drop_error("a buffer's old block", returned);
        Ok(())
    }

    /// Enqueues a copy of all elements to another block, on the buffer's stream.
    ///
    /// # Safety
    ///
    /// The caller must ensure that both blocks stay allocated, and that nothing accesses them in a conflicting way,
    /// until the copy is done.
    unsafe fn enqueue_copy_to(&self, block: &Block) -> Result<(), DeviceError> {
        let bytes = self.size_bytes();
        if bytes == 0 {
            return Ok(());
        }
        let ends = Ends { to: block.as_ptr(), from: self.memory.block.as_ptr(), bytes };
        // SAFETY: the contract of this function is that of the copy, which is enqueued on the buffer's stream.
        unsafe { transfer::enqueue_copy(ends, self.memory.stream.raw()?, &self.memory.stream) }
    }

    /// Enqueues a fill that zeroes elements within the capacity.
    pub(super) fn fill_zero(&mut self, range: Range<usize>) -> Result<(), DeviceError> {
        self.memory.settle()?;
        let part = self.part().part(view::in_bytes::<T>(&range));
        // SAFETY: the buffer is borrowed exclusively.
        unsafe { part.fill_bytes(0) }
    }
}
