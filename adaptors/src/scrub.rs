//! [`Scrub`] clears memory between its owners.

mod state;

pub use state::{ScrubState, ScrubTime};

use crate::parts::Parts;
use cumem::error::record_drop_error;
use cumem::kind::DeviceAccessible;
use cumem::resource::MakerId;
use cumem::sim::{declare_allocation, declare_free};
use cumem::{AllocError, Block, DeallocError, DeviceError, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::collections::HashSet;

/// An adaptor that overwrites memory between its owners, so that no tenant of a pool reads the bytes of another.
///
/// When a block is freed, the adaptor enqueues a fill of all its bytes on the stream of the free, and then frees the block
/// to its upstream. Work of the next owner comes after the fill, because the upstream hands memory out in stream order. A
/// block whose fill the driver refuses is not freed: the error of the free contains it, so its bytes reach no other
/// owner. A block that was not allocated through the adaptor is refused, because its owner may not expect the fill.
///
/// By default, blocks are cleared when they are freed. Memory that is allocated for the first time then has what its
/// last user left, outside of this adaptor. [`ScrubTime`] chooses otherwise.
///
/// A fill takes the time of writing the memory once: about a third of a microsecond a MiB on a GPU with 3 TB/s, and a
/// launch. Managed memory that is on the host migrates to the device for it.
///
/// # Order
///
/// The adaptor stands over pools. Beneath a pool it would clear only the chunks that the pool frees, and the pool would
/// hand out blocks with the bytes of their last owner. [`Pool::new`](crate::Pool::new) and the constructors of
/// [`FixedSize`](crate::FixedSize) and [`Binning`](crate::Binning) therefore return an error over a stack that contains
/// a `Scrub`.
///
/// `find::<ScrubState>()` returns its [`ScrubState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).pool(PoolOptions::new())?.scrub();
/// drop(Buffer::from_slice(b"a secret", &stream, &memory)?);
/// // SAFETY: the memory is the freed one, which was filled with zeros.
/// let next = unsafe { Buffer::<u8, _>::uninit(8, &stream, &memory) }?;
/// assert_eq!(next.to_vec()?, [0; 8]);
/// drop(next);
/// assert!(memory.pool(PoolOptions::new()).is_err()); // a pool over it would hand out memory that is not cleared
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scrub<U> {
    state: ScrubState,
    /// Which blocks are live, so that a foreign block is not overwritten.
    live: Parts<HashSet<(u64, MakerId)>>,
    upstream: U,
}

impl<U> Scrub<U> {
    /// Creates the adaptor, which fills blocks with zeros when they are freed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::Scrub;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Scrub::new(CudaResource::new(&device));
    /// assert!(stack.to_string().starts_with("scrub over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U) -> Self
    where
        U: Upstream<Kind: DeviceAccessible>,
    {
        Self { state: ScrubState::default(), live: Parts::default(), upstream }
    }

    /// Sets the byte that blocks are filled with. The default is 0. Another value shows where a program reads memory
    /// that it has not written: for example, four bytes of 0xff are a NaN.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{ResourceExt, ScrubTime};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).scrub().pattern(0xff).at(ScrubTime::Allocate);
    /// // SAFETY: the memory was filled when it was allocated.
    /// let fresh = unsafe { Buffer::<f32, _>::uninit(1, &stream, &memory) }?;
    /// assert!(fresh.to_vec()?[0].is_nan());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn pattern(mut self, byte: u8) -> Self {
        self.state.pattern = byte;
        self
    }

    /// Sets when blocks are filled. The default is [`ScrubTime::Free`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, ScrubTime};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).scrub().at(ScrubTime::Both);
    /// assert!(stack.to_string().starts_with("scrub(at=both) over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn at(mut self, time: ScrubTime) -> Self {
        self.state.time = time;
        self
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).statistics().scrub();
    /// assert_eq!(stack.upstream().state().counts().total_blocks, 0); // the statistics
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream, which does not clear them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// assert!(CudaResource::new(&device).scrub().into_upstream().to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the pattern, the time and the counts.
    pub fn state(&self) -> &ScrubState {
        &self.state
    }

    fn hand_out(&self, block: Block) -> Block {
        if block.size() > 0 {
            self.live.of(block.addr()).insert((block.addr(), block.maker()));
        }
        block
    }

    fn take_back(&self, block: &Block) -> bool {
        block.size() == 0 || self.live.of(block.addr()).remove(&(block.addr(), block.maker()))
    }

    /// Enqueues the fill of a whole block.
    ///
    /// # Safety
    ///
    /// The device accesses the memory of the block. The block stays live, and nothing else uses it, until `stream` has
    /// passed the fill.
    unsafe fn fill(&self, block: &Block, stream: &Stream) -> Result<(), DeviceError> {
        // SAFETY: the caller upholds the same contract.
        unsafe { block.fill(0..block.size(), self.state.pattern, stream) }?;
        self.state.count(block.size());
        Ok(())
    }

    /// Does the same for a block that its owner has declared as free.
    ///
    /// # Safety
    ///
    /// The contract of [`fill`](Self::fill).
    unsafe fn fill_freed(&self, block: &Block, stream: &Stream) -> Result<(), DeviceError> {
        // Otherwise the race detector would report the fill as a use after the free.
        declare_allocation(block, stream);
        // SAFETY: the caller upholds the same contract.
        let filled = unsafe { self.fill(block, stream) };
        declare_free(block, stream);
        filled
    }
}

cumem::adaptor_layer! {
    impl[U] Layer for Scrub<U> {
        upstream: U = upstream;
        describe = |scrub, f| scrub.state.describe(f);
        state = state;
    }
}

impl<U: Upstream<Kind: DeviceAccessible>> Upstream for Scrub<U> {}

// SAFETY: every block is the upstream's and is passed on. The fills use it while it is not handed out, in the order of
// the stream.
unsafe impl<U: Upstream<Kind: DeviceAccessible>> MemoryResource for Scrub<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let block = self.upstream.allocate(stream, layout)?;
        if !self.state.time.on_allocate() {
            return Ok(self.hand_out(block));
        }
        // SAFETY: the kind is device accessible. The block is ready on `stream`, and no other code knows it yet.
        match unsafe { self.fill(&block, stream) } {
            Ok(()) => Ok(self.hand_out(block)),
            Err(source) => {
                let requested = block.size();
                // SAFETY: this method has not returned the block, so no other code knows it; the driver refused its only
                // work, the fill.
                let returned = unsafe { self.upstream.deallocate(stream, block) };
                record_drop_error("a block that could not be cleared", returned);
                Err(AllocError::NotPrepared { layer: "scrub", requested, source: Box::new(source) })
            }
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // The upstream would refuse the stream only after the fill.
        if let Err(error) = self.upstream.device().check_device("the stream", stream.device_id()) {
            return Err(DeallocError::new(block, error));
        }
        // Removed before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        if !self.take_back(&block) {
            return Err(DeallocError::foreign("scrub", block));
        }
        let cleared = match self.state.time.on_free() {
            // SAFETY: the kind is device accessible. The caller gave the block up, and enqueued all its uses before this
            // point of `stream`. If the upstream refuses the free, the owner uses the block later.
            true => unsafe { self.fill_freed(&block, stream) },
            false => Ok(()),
        };
        let freed = match cleared {
            // SAFETY: the caller upholds the contract of this method, which is the upstream's.
            Ok(()) => unsafe { self.upstream.deallocate(stream, block) },
            Err(error) => Err(DeallocError::new(block, error)),
        };
        freed.map_err(|DeallocError { block, reason, .. }| DeallocError::new(self.hand_out(block), reason))
    }
}
