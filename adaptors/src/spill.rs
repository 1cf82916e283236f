//! [`Spill`] allocates from a second resource when the first is out of memory.

use cumem::error::{TrimError, is_reported, unreported};
use cumem::kind::Either;
use cumem::layer::Beneath;
use cumem::resource::MakerId;
use cumem::{AllocError, Block, DeallocError, DeviceError, Layer, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// An adaptor that allocates from a first resource. If that is out of memory, at its limit or under
/// [`Pressure`](crate::Pressure), it allocates from a second one: for example device memory that spills to managed
/// memory. The kind of its memory is [`Either`], which has the capabilities that both kinds have.
///
/// Each series of spilled blocks is a `tracing` event with its numbers. A spilled block stays in the second resource
/// until it is freed.
///
/// `find::<SpillState>()` returns its [`SpillState`] from any stack. Its other queries, such as that for the device, are
/// answered by the first resource.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, PinnedResource, Stream};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).limit(1 << 20).spill_to(PinnedResource::new(&device))?;
/// let _first = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?;
/// let _second = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?;
/// assert_eq!(memory.state().bytes(), 1 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Spill<P, S> {
    state: SpillState,
    /// Sizes in bytes of the live spilled blocks, by address and maker. Blocks of zero bytes may have equal addresses,
    /// but only with different makers.
    out: Mutex<HashMap<(u64, MakerId), usize>>,
    first: P,
    second: S,
}

/// Counts of what a [`Spill`] allocated from its second resource.
#[derive(Debug, Default)]
pub struct SpillState {
    blocks: AtomicUsize,
    bytes: AtomicUsize,
    total_blocks: AtomicU64,
    total_bytes: AtomicU64,
    refusals: AtomicU64,
}

impl SpillState {
    /// Returns the number of live spilled blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.load(Ordering::Acquire)
    }

    /// Returns the bytes of the live spilled blocks.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of blocks spilled so far.
    pub fn total_blocks(&self) -> u64 {
        self.total_blocks.load(Ordering::Relaxed)
    }

    /// Returns the bytes of all blocks spilled so far.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of allocations that the second resource refused too.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

impl<P, S> Spill<P, S> {
    /// Creates the adaptor, which allocates from `first`, and from `second` when `first` is out of memory.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if the two resources are not on the same device.
    pub fn new(first: P, second: S) -> Result<Self, DeviceError>
    where
        P: Upstream,
        S: Upstream,
    {
        first.device().check_device("the resource to spill to", second.device().id())?;
        Ok(Self { state: SpillState::default(), out: Mutex::default(), first, second })
    }

    /// Returns the first resource.
    pub fn first(&self) -> &P {
        &self.first
    }

    /// Returns the second resource.
    pub fn second(&self) -> &S {
        &self.second
    }

    /// Returns the counts of spilled blocks.
    pub fn state(&self) -> &SpillState {
        &self.state
    }

    /// Removes this adaptor and returns the first and the second resource.
    ///
    /// # Errors
    ///
    /// Returns the adaptor itself while spilled blocks are live, because only the adaptor knows which of the two
    /// resources a block came from.
    pub fn into_upstreams(self) -> Result<(P, S), Self> {
        if self.state.blocks() == 0 { Ok((self.first, self.second)) } else { Err(self) }
    }

    fn note(&self, block: &Block, why: &AllocError) {
        let (bytes, spilled) = (block.size(), &self.state);
        self.out.lock().unwrap_or_else(PoisonError::into_inner).insert((block.addr(), block.maker()), bytes);
        spilled.bytes.fetch_add(bytes, Ordering::Relaxed);
        spilled.total_blocks.fetch_add(1, Ordering::Relaxed);
        spilled.total_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if spilled.blocks.fetch_add(1, Ordering::AcqRel) == 0 {
            tracing::warn!(bytes, %why, "spilling: the first resource has no more");
        }
    }

    /// Reports whether the block is a spilled one, and if so, stops counting it.
    fn take(&self, block: &Block) -> bool {
        if self.state.blocks() == 0 {
            return false;
        }
        let taken = self.out.lock().unwrap_or_else(PoisonError::into_inner).remove(&(block.addr(), block.maker()));
        if let Some(bytes) = taken {
            self.state.bytes.fetch_sub(bytes, Ordering::Relaxed);
            if self.state.blocks.fetch_sub(1, Ordering::AcqRel) == 1 {
                tracing::info!(total_bytes = self.state.total_bytes(), "nothing is spilled any more");
            }
        }
        taken.is_some()
    }

    /// Counts a block again that the second resource did not take back.
    fn put_back(&self, block: &Block) {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).insert((block.addr(), block.maker()), block.size());
        self.state.bytes.fetch_add(block.size(), Ordering::Relaxed);
        self.state.blocks.fetch_add(1, Ordering::AcqRel);
    }
}

impl<P: Layer, S: Layer> Layer for Spill<P, S> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("spill(")?;
        from_the_leaf(&self.second, f)?;
        f.write_str(")")
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Two(&self.first, &self.second)
    }
    fn state(&self) -> &dyn Any {
        &self.state
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

/// Writes a whole stack in the grammar of [`StackSpec`](crate::StackSpec).
fn from_the_leaf(layer: &dyn Layer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Beneath::Layer(beneath) | Beneath::Two(beneath, _) = layer.beneath() {
        from_the_leaf(beneath, f)?;
        f.write_str(" | ")?;
    }
    layer.describe(f)
}

// SAFETY: every block is from one of the two resources and is passed on unchanged.
unsafe impl<P: Upstream, S: Upstream> MemoryResource for Spill<P, S> {
    type Kind = Either<P::Kind, S::Kind>;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let why = match unreported(|| self.first.allocate(stream, layout)) {
            Err(error) if error.is_out_of_memory() => error,
            allocated => return allocated,
        };
        let spilled = self.second.allocate(stream, layout);
        match &spilled {
            Ok(block) => self.note(block, &why),
            Err(error) => {
                self.state.refusals.fetch_add(1, Ordering::Relaxed);
                if is_reported() {
                    tracing::warn!(requested = layout.size(), %why, %error, "neither resource has memory");
                }
            }
        }
        spilled
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if !self.take(&block) {
            // SAFETY: the block is not a spilled one, so it is the first resource's; the caller upholds the same
            // contract.
            return unsafe { self.first.deallocate(stream, block) };
        }
        // SAFETY: the second resource made the block, and the caller upholds the same contract.
        let freed = unsafe { self.second.deallocate(stream, block) };
        freed.inspect_err(|error| self.put_back(&error.block))
    }
}

impl<P: Upstream, S: Upstream> Upstream for Spill<P, S> {}

impl<P: Layer, S: Layer> fmt::Display for Spill<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cumem::layer::fmt_stack(self, f)
    }
}
