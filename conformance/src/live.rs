//! [`LiveBlocks`]: the set of live blocks, which finds violations.

use cumem::Block;
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::resource::MakerId;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// The description of a block. Unlike the block itself it can be copied and kept.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, CudaResource, Device, MemoryResource, Stream};
/// use cumem_conformance::BlockId;
///
/// let device = Device::simulated(Profile::default())?;
/// let block = CudaResource::new(&device).allocate(&Stream::new(&device)?, layout::bytes(1024)?)?;
/// let id = BlockId::of(&block);
/// assert_eq!((id.addr, id.size, id.align), (block.addr(), 1024, 256));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BlockId {
    /// Address of the first byte.
    pub addr: u64,
    /// Requested bytes.
    pub size: usize,
    /// Requested alignment, in bytes.
    pub align: usize,
    /// The maker's private tag.
    pub tag: u64,
    /// The maker of the block.
    pub maker: MakerId,
}

impl BlockId {
    /// Returns the description of `block`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let id = BlockId::of(&block);
    /// assert_eq!(id.to_string(), format!("1000 bytes at {:#x} (aligned to 256, tag {})", block.addr(), block.tag()));
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(block: &Block) -> Self {
        let layout = block.layout();
        Self { addr: block.addr(), size: layout.size(), align: layout.align(), tag: block.tag(), maker: block.maker() }
    }

    fn end(&self) -> u64 {
        self.addr.saturating_add(self.size as u64)
    }
}

/// Prints `1024 bytes at 0x7f0000000000 (aligned to 256, tag 3)`.
impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:#x} (aligned to {}, tag {})", self.size, self.addr, self.align, self.tag)
    }
}

/// A violation by a block that was allocated or freed.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
/// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
/// # let device = Device::simulated(Profile::default())?;
/// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
/// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
/// let mut live = LiveBlocks::new();
/// live.enter(BlockId::of(&block))?;
/// let mut longer = BlockId::of(&block);
/// longer.size = 2000;
/// let violation = live.strike(longer).unwrap_err();
/// assert!(matches!(violation, Violation::Changed { .. }));
/// assert!(violation.to_string().contains("was freed as 2000 bytes"));
/// # // SAFETY: no work uses the block.
/// # unsafe { resource.deallocate(&stream, block) }?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The block's address is not aligned as its layout, or CUDA's minimum, requires.
    #[error("{block} is not aligned to {alignment} bytes")]
    Misaligned {
        /// The block.
        block: BlockId,
        /// Required alignment, in bytes.
        alignment: usize,
    },
    /// The block shares bytes with a live block.
    #[error("{block} overlaps {live}, which is live")]
    Overlap {
        /// The new block.
        block: BlockId,
        /// The live block.
        live: BlockId,
    },
    /// The block wraps around the end of the address space.
    #[error("{block} does not fit into the address space")]
    Wraps {
        /// The block.
        block: BlockId,
    },
    /// The block was freed with another size, alignment, tag or maker than it was allocated with.
    #[error("{live} was freed as {block}")]
    Changed {
        /// The block as it was freed.
        block: BlockId,
        /// The block as it was allocated.
        live: BlockId,
    },
    /// The block is not live: it was never allocated, or it has been freed before.
    #[error("{block} is not live: this resource did not allocate the block, or has freed it already")]
    Unknown {
        /// The block.
        block: BlockId,
    },
}

/// A set of live blocks that detects violations.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, CudaResource, Device, MemoryResource, Stream};
/// use cumem_conformance::{BlockId, LiveBlocks, Violation};
///
/// let device = Device::simulated(Profile::default())?;
/// let block = CudaResource::new(&device).allocate(&Stream::new(&device)?, layout::bytes(64)?)?;
/// let mut live = LiveBlocks::new();
/// live.enter(BlockId::of(&block))?;
/// live.strike(BlockId::of(&block))?;
/// // The block comes back a second time.
/// assert!(matches!(live.strike(BlockId::of(&block)), Err(Violation::Unknown { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct LiveBlocks {
    by_addr: BTreeMap<u64, BlockId>,
    /// Blocks of zero bytes, which may share an address, and how many of each are live.
    empty: HashMap<BlockId, usize>,
    bytes: usize,
}

impl LiveBlocks {
    /// Creates an empty set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::LiveBlocks;
    /// let live = LiveBlocks::new();
    /// assert!(live.is_empty() && live.bytes() == 0);
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a block that was allocated. The block is in the set afterwards, unless it overlaps a live block or wraps
    /// around.
    ///
    /// # Errors
    ///
    /// Returns the [`Violation`] of the block, if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let mut live = LiveBlocks::new();
    /// live.enter(BlockId::of(&block))?;
    /// let mut inside = BlockId::of(&block);
    /// inside.addr += 256;
    /// assert!(matches!(live.enter(inside), Err(Violation::Overlap { .. })));
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn enter(&mut self, block: BlockId) -> Result<(), Violation> {
        let alignment = block.align.max(CUDA_ALLOCATION_ALIGNMENT);
        if block.size == 0 {
            *self.empty.entry(block).or_default() += 1;
        } else {
            if block.addr.checked_add(block.size as u64).is_none() {
                return Err(Violation::Wraps { block });
            }
            let before = self.by_addr.range(..block.end()).next_back();
            if let Some((_, &live)) = before.filter(|(_, live)| live.end() > block.addr) {
                return Err(Violation::Overlap { block, live });
            }
            self.by_addr.insert(block.addr, block);
            self.bytes += block.size;
        }
        if block.addr.is_multiple_of(alignment as u64) {
            Ok(())
        } else {
            Err(Violation::Misaligned { block, alignment })
        }
    }

    /// Removes a block that is about to be freed.
    ///
    /// # Errors
    ///
    /// Returns [`Violation::Unknown`] or [`Violation::Changed`]. The set is unchanged then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let mut live = LiveBlocks::new();
    /// live.enter(BlockId::of(&block))?;
    /// live.strike(BlockId::of(&block))?;
    /// assert!(matches!(live.strike(BlockId::of(&block)), Err(Violation::Unknown { .. })));
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn strike(&mut self, block: BlockId) -> Result<(), Violation> {
        if block.size == 0 {
            let count = self.empty.get_mut(&block).ok_or(Violation::Unknown { block })?;
            *count -= 1;
            if *count == 0 {
                self.empty.remove(&block);
            }
            return Ok(());
        }
        let live = *self.by_addr.get(&block.addr).ok_or(Violation::Unknown { block })?;
        if live != block {
            return Err(Violation::Changed { block, live });
        }
        self.by_addr.remove(&block.addr);
        self.bytes -= block.size;
        Ok(())
    }

    /// Returns the number of live blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let mut live = LiveBlocks::new();
    /// live.enter(BlockId::of(&block))?;
    /// assert_eq!(live.len(), 1);
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.by_addr.len() + self.empty.values().sum::<usize>()
    }

    /// Reports whether no block is live.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let mut live = LiveBlocks::new();
    /// live.enter(BlockId::of(&block))?;
    /// assert!(!live.is_empty());
    /// live.strike(BlockId::of(&block))?;
    /// assert!(live.is_empty());
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.by_addr.is_empty() && self.empty.is_empty()
    }

    /// Returns the requested bytes of all live blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let mut live = LiveBlocks::new();
    /// live.enter(BlockId::of(&block))?;
    /// assert_eq!(live.bytes(), 1000);
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns all live blocks: those with bytes by address, then those of zero bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Block, CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockId, LiveBlocks, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (stream, resource) = (Stream::new(&device)?, CudaResource::new(&device));
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// let mut live = LiveBlocks::new();
    /// live.enter(BlockId::of(&block))?;
    /// assert!(live.iter().eq([BlockId::of(&block)]));
    /// # // SAFETY: no work uses the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = BlockId> + '_ {
        let empty = self.empty.iter().flat_map(|(&id, &count)| std::iter::repeat_n(id, count));
        self.by_addr.values().copied().chain(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(addr: u64, size: usize) -> BlockId {
        static MAKER: std::sync::LazyLock<MakerId> = std::sync::LazyLock::new(MakerId::unique);
        BlockId { addr, size, align: 256, tag: 0, maker: *MAKER }
    }

    #[test]
    fn neighbours_fit_and_overlaps_do_not() {
        let mut live = LiveBlocks::new();
        live.enter(block(0x1000, 256)).unwrap();
        live.enter(block(0x1100, 256)).unwrap();
        live.enter(block(0x0f00, 256)).unwrap();
        for (addr, size) in [(0x1000, 1), (0x0e00, 0x300), (0x1100, 512), (0x0f00, 0x1000)] {
            assert!(matches!(live.enter(block(addr, size)), Err(Violation::Overlap { .. })), "{addr:#x} {size}");
        }
        assert_eq!((live.len(), live.bytes()), (3, 768));
    }

    #[test]
    fn a_block_is_freed_once_and_unchanged() {
        let mut live = LiveBlocks::new();
        let id = block(0x1000, 256);
        live.enter(id).unwrap();
        let changed = BlockId { tag: 1, ..id };
        assert_eq!(live.strike(changed), Err(Violation::Changed { block: changed, live: id }));
        live.strike(id).unwrap();
        assert_eq!(live.strike(id), Err(Violation::Unknown { block: id }));
        assert!(live.is_empty());
    }

    #[test]
    fn empty_blocks_share_an_address_and_are_counted() {
        let mut live = LiveBlocks::new();
        let id = block(256, 0);
        live.enter(id).unwrap();
        live.enter(id).unwrap();
        assert_eq!(live.len(), 2);
        live.strike(id).unwrap();
        live.strike(id).unwrap();
        assert_eq!(live.strike(id), Err(Violation::Unknown { block: id }));
    }

    #[test]
    fn alignment_is_the_larger_of_the_layout_and_256() {
        let mut live = LiveBlocks::new();
        assert!(matches!(live.enter(block(0x1080, 1)), Err(Violation::Misaligned { alignment: 256, .. })));
        let page = BlockId { align: 4096, ..block(0x3100, 1) };
        assert!(matches!(live.enter(page), Err(Violation::Misaligned { alignment: 4096, .. })));
    }
}
