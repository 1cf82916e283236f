use super::leaf::{Leaf, Place, leaf_layer};
use crate::block::Block;
use crate::device::Device;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError, DeallocReason};
use crate::kind::MemoryKind;
use crate::layout::CUDA_ALLOCATION_ALIGNMENT;
use crate::resource::MemoryResource;
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A leaf made of two closures, for memory that another library allocates. `K` is the [kind](crate::kind) of the memory.
///
/// The leaf answers requests for zero bytes itself, and refuses blocks of other resources and streams of other devices, so
/// the closures need no such checks. A type with a trait implementation of its own, as in `examples/write_a_leaf.rs`, can
/// do more: it has a name and a state in the stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AllocError, Buffer, CallbackResource, CudaResource, Device, MemoryResource, Stream, kind};
/// use std::alloc::Layout;
/// use std::collections::HashMap;
/// use std::ptr::NonNull;
/// use std::sync::Mutex;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
///
/// // Stands for an allocator of another library, which knows its memory by address.
/// let (library, live) = (CudaResource::new(&device), Mutex::new(HashMap::new()));
/// let allocate = |stream: &Stream, layout: Layout| {
///     let block = library.allocate(stream, layout)?;
///     let start = block.as_non_null();
///     live.lock().unwrap().insert(start, block);
///     Ok(start)
/// };
/// let deallocate = |stream: &Stream, start: NonNull<u8>, _layout: Layout| {
///     let block = live.lock().unwrap().remove(&start).expect("the library allocated it");
///     // SAFETY: `allocate` has allocated the block, and the leaf deallocates each block once.
///     unsafe { library.deallocate(stream, block) }.map_err(|error| error.reason)
/// };
/// // SAFETY: `allocate` returns device memory that nothing else uses, until `deallocate` gets it.
/// let memory = unsafe { CallbackResource::<kind::Device, _, _>::new(&device, allocate, deallocate) };
/// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &memory)?;
/// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
/// drop(numbers);
/// assert!(live.lock().unwrap().is_empty());
/// # Ok(())
/// # }
/// ```
pub struct CallbackResource<K, A, D> {
    allocate: A,
    deallocate: D,
    leaf: Leaf,
    kind: PhantomData<fn() -> K>,
}

impl<K, A, D> CallbackResource<K, A, D>
where
    K: MemoryKind,
    A: Fn(&Stream, Layout) -> Result<NonNull<u8>, AllocError>,
    D: Fn(&Stream, NonNull<u8>, Layout) -> Result<(), DeallocReason>,
{
    /// Creates a leaf for the streams of `device`.
    ///
    /// `allocate` gets the stream and the layout of a request, whose size is never zero and whose alignment is at least
    /// 256. If it returns an address of a smaller alignment, the leaf gives the address to `deallocate`, and refuses the
    /// request with [`AllocError::UnsupportedAlignment`]. `deallocate` gets the stream, the address and the same layout. If
    /// it returns an error, the block is still allocated. Errors of either reach the caller as they are:
    /// [`AllocError::custom_out_of_memory`] makes adaptors trim or spill, [`AllocError::custom`] does not.
    ///
    /// Both closures are called from all threads that use the leaf, and without a lock of the library, except that a pool
    /// above calls `allocate` while it grows.
    ///
    /// # Safety
    ///
    /// Memory that `allocate` returns keeps the contract of a block of [`MemoryResource`]: it is memory of the kind `K` that
    /// `device` can use, is in no other live block, is ready on the stream, and stays valid until `deallocate` has returned
    /// `Ok` for it. `deallocate` frees it no earlier than the stream has passed all work that was enqueued before.
    pub unsafe fn new(device: &Device, allocate: A, deallocate: D) -> Self {
        // The memory is the library's, so nothing is announced or made room for.
        let leaf = Leaf::new("callback", Place::Host, device);
        Self { allocate, deallocate, leaf, kind: PhantomData }
    }
}

impl<K, A, D> fmt::Debug for CallbackResource<K, A, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackResource").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// The layout of a request with the alignment that every block has.
fn aligned(layout: Layout) -> Layout {
    layout.align_to(CUDA_ALLOCATION_ALIGNMENT).unwrap_or(layout)
}

leaf_layer! {
    impl [K, A, D] CallbackResource<K, A, D>
    where [
        K: MemoryKind,
        A: Fn(&Stream, Layout) -> Result<NonNull<u8>, AllocError>,
        D: Fn(&Stream, NonNull<u8>, Layout) -> Result<(), DeallocReason>,
    ]
}

// SAFETY: the memory is that of the closures, for which the caller of `new` has promised this contract. The leaf passes on
// only addresses that are aligned as requested.
unsafe impl<K, A, D> MemoryResource for CallbackResource<K, A, D>
where
    K: MemoryKind,
    A: Fn(&Stream, Layout) -> Result<NonNull<u8>, AllocError>,
    D: Fn(&Stream, NonNull<u8>, Layout) -> Result<(), DeallocReason>,
{
    type Kind = K;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.leaf.device.check_device("the stream", stream.device_id())?;
        if layout.size() == 0 {
            return Ok(Block::empty(self.leaf.maker, layout));
        }
        let actual = aligned(layout);
        let start = (self.allocate)(stream, actual)?;
        if !start.addr().get().is_multiple_of(actual.align()) {
            let maximum = 1 << start.addr().get().trailing_zeros();
            (self.deallocate)(stream, start, actual)
                .map_err(|reason| AllocError::custom(self.leaf.name, layout.size(), reason))?;
            let (layer, alignment) = (self.leaf.name, actual.align());
            return Err(AllocError::UnsupportedAlignment { layer, alignment, maximum });
        }
        Ok(Block::new(self.leaf.maker, start, layout, 0))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if block.maker() != self.leaf.maker {
            return Err(DeallocError::foreign(self.leaf.name, block));
        }
        let freed = match self.leaf.device.check_device("the stream", stream.device_id()) {
            Err(error) => Err(error.into()),
            Ok(()) if block.size() == 0 => Ok(()),
            Ok(()) => (self.deallocate)(stream, block.as_non_null(), aligned(block.layout())),
        };
        freed.map_err(|reason| DeallocError::new(block, reason))
    }
}
