//! [`Spill`] allocates from a second resource when the first is out of memory.

use cumem::device::deferral::after_locks;
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

/// An adaptor over two resources. The adaptor allocates from the first. If the first is out of memory, at its limit or
/// under [`Pressure`](crate::Pressure), the adaptor allocates from the second: for example device memory that spills to
/// managed memory. The kind of its memory is [`Either`], which has the capabilities that both kinds have.
///
/// Each series of spilled blocks is a `tracing` event with its numbers. A spilled block stays in the second resource
/// until it is freed.
///
/// `find::<SpillState>()` returns its [`SpillState`] from any stack. Other queries of the stack, such as that for the
/// device, return the answer of the first resource.
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
    /// The number of live spilled blocks of each key. Only blocks of zero bytes share a key.
    out: Mutex<HashMap<Key, usize>>,
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

/// Identifies a spilled block: its address and its maker. Blocks of zero bytes have no memory, so their addresses say
/// nothing. They are equal if they have the same maker, and their key has the address 0.
type Key = (u64, MakerId);

fn key(block: &Block) -> Key {
    (if block.size() == 0 { 0 } else { block.addr() }, block.maker())
}

impl SpillState {
    /// Returns the number of live spilled blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, PinnedResource, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).limit(1 << 20).spill_to(PinnedResource::new(&device))?;
    /// let spilled = Buffer::<u8, _>::zeroed(2 << 20, &stream, &stack)?;
    /// assert_eq!(stack.state().blocks(), 1);
    /// drop(spilled);
    /// assert_eq!(stack.state().blocks(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn blocks(&self) -> usize {
        self.blocks.load(Ordering::Acquire)
    }

    /// Returns the bytes of the live spilled blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, PinnedResource, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).limit(1 << 20).spill_to(PinnedResource::new(&device))?;
    /// let spilled = Buffer::<u8, _>::zeroed(2 << 20, &stream, &stack)?;
    /// assert_eq!(stack.state().bytes(), 2 << 20);
    /// # drop(spilled);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of blocks spilled so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, PinnedResource, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).limit(1 << 20).spill_to(PinnedResource::new(&device))?;
    /// let spilled = Buffer::<u8, _>::zeroed(2 << 20, &stream, &stack)?;
    /// drop(spilled);
    /// assert_eq!(stack.state().total_blocks(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn total_blocks(&self) -> u64 {
        self.total_blocks.load(Ordering::Relaxed)
    }

    /// Returns the bytes of all blocks spilled so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, PinnedResource, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).limit(1 << 20).spill_to(PinnedResource::new(&device))?;
    /// let spilled = Buffer::<u8, _>::zeroed(2 << 20, &stream, &stack)?;
    /// drop(spilled);
    /// assert_eq!(stack.state().total_bytes(), 2 << 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of allocations that the second resource refused too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, PinnedResource, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let second = PinnedResource::new(&device).limit(0);
    /// let stack = CudaResource::new(&device).limit(0).spill_to(second)?;
    /// assert!(Buffer::<u8, _>::zeroed(4096, &stream, &stack).is_err());
    /// assert_eq!(stack.state().refusals(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
    /// Returns the adaptor itself while spilled blocks are live, because only the adaptor records which of the two
    /// resources made a block.
    pub fn into_upstreams(self) -> Result<(P, S), Self> {
        if self.state.blocks() == 0 { Ok((self.first, self.second)) } else { Err(self) }
    }

    fn note(&self, block: &Block, why: &AllocError) {
        let (bytes, spilled) = (block.size(), &self.state);
        self.insert(block);
        spilled.bytes.fetch_add(bytes, Ordering::Relaxed);
        spilled.total_blocks.fetch_add(1, Ordering::Relaxed);
        spilled.total_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if spilled.blocks.fetch_add(1, Ordering::AcqRel) == 0 {
            let why = why.clone();
            after_locks(move || tracing::warn!(bytes, %why, "spilling: the first resource has no more"));
        }
    }

    fn insert(&self, block: &Block) {
        *self.out.lock().unwrap_or_else(PoisonError::into_inner).entry(key(block)).or_insert(0) += 1;
    }

    fn remove(&self, block: &Block) -> bool {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(blocks) = out.get_mut(&key(block)) else { return false };
        *blocks -= 1;
        if *blocks == 0 {
            out.remove(&key(block));
        }
        true
    }

    /// Reports whether the block is a spilled one, and if so, stops counting it.
    fn take(&self, block: &Block) -> bool {
        if self.state.blocks() == 0 {
            return false;
        }
        let taken = self.remove(block);
        if taken {
            self.state.bytes.fetch_sub(block.size(), Ordering::Relaxed);
            if self.state.blocks.fetch_sub(1, Ordering::AcqRel) == 1 {
                let total_bytes = self.state.total_bytes();
                after_locks(move || tracing::info!(total_bytes, "nothing is spilled any more"));
            }
        }
        taken
    }

    /// Counts a block again whose deallocation the second resource refused.
    fn put_back(&self, block: &Block) {
        self.insert(block);
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
                    let (requested, error) = (layout.size(), error.clone());
                    after_locks(move || tracing::warn!(requested, %why, %error, "neither resource has memory"));
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
