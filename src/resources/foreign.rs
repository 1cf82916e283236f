use super::leaf::{Finished, Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError, DeallocReason};
use crate::kind::MemoryKind;
use crate::resource::MemoryResource;
use cumem_driver::{CudaErrorCode, DriverError, MemoryType};
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory that another library has allocated, as a resource with one block. The resource keeps a value of type `O` that
/// owns the memory, for example an array of cudarc or cust, and drops it when the block is deallocated and the work of the
/// stream is done. If the block is dropped instead, its owner is leaked. `K` is the [kind](crate::kind) of the memory.
///
/// With [`Buffer::from_foreign`](crate::Buffer::from_foreign) the memory becomes a buffer. The resource allocates nothing:
/// a buffer over it cannot grow.
///
/// # Examples
///
/// ```
/// use cumem::resources::ForeignMemory;
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream, kind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// // Stands for an array of another library.
/// let array = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
/// let (start, bytes) = (array.block().as_non_null(), array.size_bytes());
///
/// // SAFETY: the array owns the memory as long as it exists, and nothing else uses the memory.
/// let (memory, block) = unsafe { ForeignMemory::<kind::Device, _>::new(&device, start, bytes, array) }?;
/// // SAFETY: the block is the memory's, and all three elements were written.
/// let numbers = unsafe { Buffer::<u32, _>::from_block(block, 3, &stream, memory) }?;
/// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
/// drop(numbers); // drops the array
/// # Ok(())
/// # }
/// ```
pub struct ForeignMemory<K, O> {
    /// The owner, until the block is deallocated. A block that is never deallocated may still be in use, so its owner is
    /// leaked.
    owner: Mutex<Option<ManuallyDrop<O>>>,
    leaf: Leaf,
    kind: PhantomData<fn() -> K>,
}

/// The tag of the block whose memory the owner owns. Blocks of requests for zero bytes have the tag 0.
const WITH_OWNER: u64 = 1;

/// The error of foreign memory that cannot be used as requested, with its owner.
///
/// # Examples
///
/// ```
/// use cumem::resources::ForeignMemory;
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream, kind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let array = Buffer::from_slice(&[1_u32, 2, 3], &Stream::new(&device)?, CudaResource::new(&device))?;
/// let (start, bytes) = (array.block().as_non_null(), array.size_bytes());
/// // SAFETY: the array owns the memory.
/// let error = unsafe { ForeignMemory::<kind::Pinned, _>::new(&device, start, bytes, array) }.unwrap_err();
/// assert!(error.reason.to_string().ends_with("and pinned memory is needed here"));
/// assert_eq!(error.owner.to_vec()?, [1, 2, 3]); // the error returns the array
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct ForeignError<O> {
    /// The owner of the memory.
    pub owner: O,
    /// The reason why the memory cannot be used.
    pub reason: DeviceError,
}

impl<O> ForeignError<O> {
    pub(crate) fn new(owner: O, reason: impl Into<DeviceError>) -> Self {
        Self { owner, reason: reason.into() }
    }
}

impl<O> fmt::Debug for ForeignError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<O> fmt::Display for ForeignError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the memory of another library cannot be used")
    }
}

impl<O> std::error::Error for ForeignError<O> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}

impl<K: MemoryKind, O> ForeignMemory<K, O> {
    /// Creates the resource, and its block of `bytes` bytes at `start`. The driver is asked for the type of the memory.
    ///
    /// # Errors
    ///
    /// Returns [`ForeignError`] with the owner. The reason is [`DeviceError::OtherMemory`] if the kind `K` is device,
    /// managed or pinned and the memory has another type, [`DeviceError::WrongDevice`] if it is memory of another device,
    /// and the driver's error if the driver does not know the memory. Memory of other kinds, and a range without bytes, are
    /// not checked.
    ///
    /// # Safety
    ///
    /// - The range is allocated as long as the owner exists, also if the owner is moved, and `device` can access it.
    /// - As long as the owner exists, nothing uses the range but the block, and work that was enqueued before the
    ///   first use of the block.
    /// - If the kind is [host accessible](crate::kind::HostAccessible), all bytes are initialized.
    ///
    /// # Examples
    ///
    /// See [`ForeignMemory`].
    pub unsafe fn new(
        device: &Device,
        start: NonNull<u8>,
        bytes: usize,
        owner: O,
    ) -> Result<(Self, Block), ForeignError<O>> {
        let alignment = 1 << start.addr().get().trailing_zeros().min(30);
        let Ok(layout) = Layout::from_size_align(bytes, alignment) else {
            let reason = DeviceError::OutOfRange { start: 0, end: bytes, size: isize::MAX as usize };
            return Err(ForeignError::new(owner, reason));
        };
        if let Err(reason) = check::<K>(device, start, bytes) {
            return Err(ForeignError::new(owner, reason));
        }
        let leaf = Leaf::new("foreign", Place::Host, device);
        let block = Block::new(leaf.maker, start, layout, WITH_OWNER);
        Ok((Self { owner: Mutex::new(Some(ManuallyDrop::new(owner))), leaf, kind: PhantomData }, block))
    }

    fn lock(&self) -> MutexGuard<'_, Option<ManuallyDrop<O>>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the owner of a block that was not used.
    pub(crate) fn abandon(self) -> Option<O> {
        self.lock().take().map(ManuallyDrop::into_inner)
    }

    /// Deallocates the block, and returns the owner instead of dropping it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`deallocate`](MemoryResource::deallocate), with the block.
    ///
    /// # Safety
    ///
    /// The contract of [`deallocate`](MemoryResource::deallocate).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::ForeignMemory;
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream, kind};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let array = Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?;
    /// let (start, bytes) = (array.block().as_non_null(), array.size_bytes());
    /// // SAFETY: the array owns the memory.
    /// let (memory, block) = unsafe { ForeignMemory::<kind::Device, _>::new(&device, start, bytes, array) }?;
    /// // SAFETY: the block is the memory's, and no work uses it.
    /// let array = unsafe { memory.take_owner(&stream, block) }?;
    /// assert_eq!(array.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn take_owner(&self, stream: &Stream, block: Block) -> Result<O, DeallocError> {
        if block.maker() != self.leaf.maker || block.tag() != WITH_OWNER {
            return Err(DeallocError::foreign(self.leaf.name, block));
        }
        let (device, size) = (&self.leaf.device, block.size());
        let waited = device.check_device("the stream", stream.device_id()).and_then(|()| match size {
            0 => Ok(Finished::Now),
            _ => self.leaf.finish(stream),
        });
        match waited {
            Err(error) => Err(DeallocError::new(block, error)),
            // The owner frees the memory at once, but the closure of a kernel cannot wait for the work that uses it.
            Ok(Finished::Later) => {
                let (call, code) = ("cuStreamSynchronize", CudaErrorCode::NOT_PERMITTED);
                Err(DeallocError::new(block, DriverError::Call { call, device: device.id(), code }))
            }
            Ok(Finished::Now) => {
                let owner = self.lock().take().map(ManuallyDrop::into_inner);
                owner.ok_or_else(|| DeallocError::new(block, DeallocReason::Foreign { layer: self.leaf.name }))
            }
        }
    }
}

/// Checks the type and the device of memory.
fn check<K: MemoryKind>(device: &Device, start: NonNull<u8>, bytes: usize) -> Result<(), DeviceError> {
    let types = [MemoryType::Device, MemoryType::Unified, MemoryType::Host];
    let Some(expected) = types.into_iter().find(|kind| kind.to_string() == K::NAME).filter(|_| bytes > 0) else {
        return Ok(());
    };
    let info = device.pointer_info(start.as_ptr())?;
    if info.memory_type != expected {
        let (addr, found) = (start.as_ptr() as u64, info.memory_type);
        return Err(DeviceError::OtherMemory { addr, expected: K::NAME, found, device: info.device });
    }
    if expected == MemoryType::Device {
        device.check_device("the memory", info.device)?;
    }
    Ok(())
}

impl<K, O> fmt::Debug for ForeignMemory<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignMemory").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

leaf_layer!(impl [K, O] ForeignMemory<K, O> where [K: MemoryKind]);

// SAFETY: the resource makes one block, for which the caller of `new` has promised this contract. `allocate` makes blocks of
// zero bytes only.
unsafe impl<K: MemoryKind, O> MemoryResource for ForeignMemory<K, O> {
    type Kind = K;

    /// Refuses every request, except those for zero bytes.
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.leaf.device.check_device("the stream", stream.device_id())?;
        match layout.size() {
            0 => Ok(Block::empty(self.leaf.maker, layout)),
            size => Err(AllocError::custom(self.leaf.name, size, "memory of another library cannot be allocated here")),
        }
    }

    /// Waits for the work of the stream, and drops the owner. The block of a request for zero bytes has no owner.
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if block.maker() == self.leaf.maker && block.tag() != WITH_OWNER {
            let checked = self.leaf.device.check_device("the stream", stream.device_id());
            return checked.map_err(|error| DeallocError::new(block, error));
        }
        // SAFETY: the caller keeps the contract of this method, which is the same.
        unsafe { self.take_owner(stream, block) }.map(drop)
    }
}
