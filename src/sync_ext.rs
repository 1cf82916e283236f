//! [`SyncExt`]: blocks that are ready on every stream at once.

use crate::block::Block;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError, record_drop_error};
use crate::layer::LayerExt;
use crate::resource::MemoryResource;
use std::alloc::Layout;

/// Allocation and deallocation without a stream. Every [`MemoryResource`] has these methods, which are made of its two
/// methods and the legacy default stream of the device. RMM calls them `allocate_sync` and `deallocate_sync`, too.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaAsyncResource, Device, SyncExt, layout};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let resource = CudaAsyncResource::new(&device)?;
/// let block = resource.allocate_sync(layout::bytes(1000)?)?;
/// // Work on any stream may use the block now.
/// device.synchronize()?;
/// // SAFETY: the resource returned the block, and the device has done all work that used it.
/// unsafe { resource.deallocate_sync(block) }?;
/// # Ok(())
/// # }
/// ```
pub trait SyncExt: MemoryResource {
    /// Allocates a block that is [ready](crate::resource#terms) on every stream and for the host. The call waits for
    /// the legacy default stream.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MemoryResource::allocate`], or the error of the wait. Nothing was allocated then.
    fn allocate_sync(&self, layout: Layout) -> Result<Block, AllocError> {
        let stream = Stream::legacy_default(self.device());
        let block = self.allocate(&stream, layout)?;
        match stream.synchronize() {
            Ok(()) => Ok(block),
            Err(error) => {
                // SAFETY: this resource returned the block, and nothing has used it.
                record_drop_error("a block", unsafe { self.deallocate(&stream, block) });
                Err(error.into())
            }
        }
    }

    /// Deallocates a block that no stream uses any more. Work on any stream may reuse the memory. The call waits for the
    /// legacy default stream, so that the memory is free at once.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MemoryResource::deallocate`]. An error of earlier work on the legacy default stream is not
    /// returned, because the block is freed by then. The next call on that stream returns it.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - the `allocate` or the `allocate_sync` of a resource returned `block`, which was not created with
    ///   [`Block::new`],
    /// - every use of the block on any stream has ended,
    /// - nothing refers to the memory of the block any more.
    unsafe fn deallocate_sync(&self, block: Block) -> Result<(), DeallocError> {
        let stream = Stream::legacy_default(self.device());
        // SAFETY: every use has ended, so every use was enqueued before any point of the stream. The other conditions
        // are the caller's.
        unsafe { self.deallocate(&stream, block) }?;
        let _ = stream.synchronize();
        Ok(())
    }
}

impl<R: MemoryResource + ?Sized> SyncExt for R {}
