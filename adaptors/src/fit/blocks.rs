//! [`fit_blocks`]: whether some blocks fit together, found out by allocating them.

use cumem::error::{DeallocError, InvalidLayout};
use cumem::{AllocError, Block, MemoryResource, Stream, layout};

/// The result of [`fit_blocks`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlocksFit {
    /// The number of blocks that fitted together, from the first on.
    pub blocks: usize,
    /// The bytes of these blocks, as requested.
    pub bytes: usize,
    /// Why the next block did not fit, or `None` if all blocks fitted.
    pub error: Option<AllocError>,
}

impl BlocksFit {
    /// Reports whether all blocks fitted.
    pub fn fits(&self) -> bool {
        self.error.is_none()
    }
}

/// Finds out whether blocks of these sizes fit into the memory of `stack` together: allocates them in order on `stream`,
/// and frees them again. The answer is exact at this moment on a GPU as on a simulated device, because every layer and
/// the driver round, limit and divide the memory as they will for the real blocks. [`fit_batch`](crate::fit_batch)
/// computes the largest single block without an allocation, and a dry run (`cumem-whatif`) runs a whole program on a
/// simulated device.
///
/// A pool keeps the memory that it has allocated for the blocks. Call [`trim_stack`](cumem::LayerExt::trim_stack) to
/// free it.
///
/// # Errors
///
/// Returns the first error if the stack does not accept its own block back.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, Stream};
/// use cumem_adaptors::{ResourceExt, fit_blocks};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).limit(8 << 20); // 8 MiB
/// assert!(fit_blocks(&memory, &stream, &[4 << 20, 4 << 20])?.fits());
/// let fit = fit_blocks(&memory, &stream, &[4 << 20, 3 << 20, 2 << 20])?;
/// assert_eq!((fit.blocks, fit.bytes), (2, 7 << 20)); // without the last one
/// assert!(fit.error.unwrap().is_out_of_memory());
/// # Ok(())
/// # }
/// ```
pub fn fit_blocks(
    stack: &(impl MemoryResource + ?Sized),
    stream: &Stream,
    sizes: &[usize],
) -> Result<BlocksFit, DeallocError> {
    let mut probe = Probe { stack, stream, live: Vec::with_capacity(sizes.len()) };
    let mut fit = BlocksFit { blocks: 0, bytes: 0, error: None };
    for &size in sizes {
        match layout::bytes(size).map_err(|error: InvalidLayout| error.into()).and_then(|it| stack.allocate(stream, it))
        {
            Ok(block) => {
                probe.live.push(block);
                fit.blocks += 1;
                fit.bytes += size;
            }
            Err(error) => {
                fit.error = Some(error);
                break;
            }
        }
    }
    probe.free().map(|()| fit)
}

/// The blocks that are allocated. Dropping the probe frees them, also during a panic of the stack.
struct Probe<'a, R: MemoryResource + ?Sized> {
    stack: &'a R,
    stream: &'a Stream,
    live: Vec<Block>,
}

impl<R: MemoryResource + ?Sized> Probe<'_, R> {
    /// Frees all blocks, and returns the first error.
    fn free(&mut self) -> Result<(), DeallocError> {
        let mut first = Ok(());
        while let Some(block) = self.live.pop() {
            // SAFETY: the stack returned the block, and nothing has used it.
            first = first.and(unsafe { self.stack.deallocate(self.stream, block) });
        }
        first
    }
}

impl<R: MemoryResource + ?Sized> Drop for Probe<'_, R> {
    fn drop(&mut self) {
        cumem::error::record_drop_error("a block", self.free());
    }
}
