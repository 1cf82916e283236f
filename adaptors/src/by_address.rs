//! [`ByAddress`] frees blocks by their addresses, for code that cannot keep a [`Block`], such as a C library.

mod kept;
mod pools;

use crate::AddressError;
use crate::pool::PoolState;
use cumem::device::{KeptStream, StreamId};
use cumem::error::{AllocError, DeallocError};
use cumem::{Block, DeviceError, Event, LayerExt, MemoryResource, Stream};
use kept::Kept;
use pools::Pools;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;

/// A stack whose blocks can be freed by address.
///
/// [`allocate_address`](Self::allocate_address) returns an address, and
/// [`deallocate_address`](Self::deallocate_address) frees it. A free that is no free of a live block is a typed
/// [`AddressError`], and changes nothing.
///
/// A block of a [`Pool`](crate::Pool) is found through an index in the pool, under the lock that the pool locks in any
/// case. All other blocks, such as those of a leaf, are in a table of this layer. Blocks that Rust code holds are in
/// neither, so [`allocate`](MemoryResource::allocate) and [`deallocate`](MemoryResource::deallocate) cost no more than
/// without this layer.
///
/// The layer wraps finished stacks too, so no other adaptor can wrap the layer.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, Stream, layout};
/// use cumem_adaptors::{AddressError, PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.statistics().by_address();
/// let address = stack.allocate_address(&stream, layout::bytes(1000)?)?;
/// let size = Some(1000); // if the caller knows it, the stack compares
/// // SAFETY: `address` came from this stack, and nothing has used the memory.
/// unsafe { stack.deallocate_address(&stream, address, size) }?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ByAddress<R> {
    kept: Kept,
    pools: Pools,
    /// Behind a pointer, because `pools` refers to it.
    upstream: Arc<R>,
}

impl<R: MemoryResource> ByAddress<R> {
    /// Creates the adaptor.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ByAddress;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = ByAddress::new(CudaResource::new(&device));
    /// assert!(stack.to_string().starts_with("by_address over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: R) -> Self {
        let upstream = Arc::new(upstream);
        // SAFETY: the upstream stays in its place, unchanged, for as long as `pools` exists.
        let pools = unsafe { Pools::of(&*upstream) };
        Self { kept: Kept::default(), pools, upstream }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ByAddress;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = ByAddress::new(CudaResource::new(&device));
    /// assert!(stack.upstream().to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &R {
        &self.upstream
    }

    /// Allocates a block and releases it to its address. A request for zero bytes allocates one byte, so that every
    /// result is an address of its own.
    ///
    /// # Errors
    ///
    /// Returns the error of the stack.
    ///
    /// # Examples
    ///
    /// See [`ByAddress`].
    #[inline]
    pub fn allocate_address(&self, stream: &Stream, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        match self.allocate_at_once(stream.id(), layout) {
            Some(address) => Ok(address),
            None => self.allocate_and_release(stream, layout),
        }
    }

    /// Allocates as [`allocate_address`](Self::allocate_address), but only if the pool of the stack has free memory of the
    /// stream at hand. If the result is `None`, the caller calls `allocate_address`. The caller needs only the id of the
    /// stream here, which a cache may hold.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream, layout};
    /// # use cumem_adaptors::{PoolOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.by_address();
    /// let layout = layout::bytes(1000)?;
    /// assert_eq!(stack.allocate_at_once(stream.id(), layout), None); // the pool has no memory yet
    /// let address = stack.allocate_address(&stream, layout)?;
    /// // SAFETY: the stack returned the address, and nothing uses the memory.
    /// assert!(unsafe { stack.deallocate_at_once(stream.id(), address, Some(1000)) });
    /// assert_eq!(stack.allocate_at_once(stream.id(), layout), Some(address));
    /// # // SAFETY: as above.
    /// # assert!(unsafe { stack.deallocate_at_once(stream.id(), address, None) });
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn allocate_at_once(&self, stream: StreamId, layout: Layout) -> Option<NonNull<u8>> {
        self.pools.outermost()?.allocate_hit(stream, layout)
    }

    #[inline(never)]
    fn allocate_and_release(&self, stream: &Stream, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let layout = if layout.size() == 0 { one_byte(layout) } else { layout };
        let block = self.upstream.allocate(stream, layout)?;
        // SAFETY: the upstream has just returned the block.
        Ok(unsafe { self.release(block) })
    }

    /// Frees the block at an address that [`allocate_address`](Self::allocate_address) or [`release`](Self::release)
    /// returned. If `size` is some, it is compared with the size of the block.
    ///
    /// # Errors
    ///
    /// Returns an [`AddressError`] if no released block starts at the address, if the block has another size, or if the
    /// stack refuses the free. Nothing was freed then.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - every use of the memory was [enqueued before](cumem::resource#terms) this point of `stream`, or on a stream
    ///   that [`record_use`](Self::record_use) names for the block,
    /// - nothing refers to the memory of the block any more.
    ///
    /// # Examples
    ///
    /// See [`ByAddress`].
    #[inline]
    pub unsafe fn deallocate_address(
        &self,
        stream: &Stream,
        address: NonNull<u8>,
        size: Option<usize>,
    ) -> Result<(), AddressError> {
        // SAFETY: the caller upholds the contract, which is the same.
        if unsafe { self.deallocate_at_once(stream.id(), address, size) } {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { self.reclaim_and_deallocate(stream, address, size) }
    }

    /// Frees as [`deallocate_address`](Self::deallocate_address), but only a block whose memory becomes the stream's at
    /// once. If the result is false, nothing was freed, and the caller calls `deallocate_address`.
    ///
    /// # Safety
    ///
    /// As [`deallocate_address`](Self::deallocate_address), for the stream with this id.
    ///
    /// # Examples
    ///
    /// See [`allocate_at_once`](Self::allocate_at_once).
    #[inline(always)]
    pub unsafe fn deallocate_at_once(&self, stream: StreamId, address: NonNull<u8>, size: Option<usize>) -> bool {
        // SAFETY: the caller upholds the contract, which is the same.
        self.pools.outermost().is_some_and(|pool| unsafe { pool.deallocate_hit(stream, address, size) })
    }

    /// # Safety
    ///
    /// As [`deallocate_address`](Self::deallocate_address).
    #[inline(never)]
    unsafe fn reclaim_and_deallocate(
        &self,
        stream: &Stream,
        address: NonNull<u8>,
        size: Option<usize>,
    ) -> Result<(), AddressError> {
        let block = self.reclaim(address, stream)?;
        if let Some(given) = size
            && given != block.size()
        {
            return Err(self.keep_again(block, |addr, size| AddressError::WrongSize { addr, size, given }));
        }
        // SAFETY: a resource returned the block, because only such blocks are released. The rest is the caller's promise.
        unsafe { self.deallocate(stream, block) }.map_err(|DeallocError { block, reason, .. }| {
            self.keep_again(block, |addr, _| AddressError::Refused { addr, reason })
        })
    }

    #[cold]
    fn keep_again(&self, block: Block, error: impl FnOnce(u64, usize) -> AddressError) -> AddressError {
        let error = error(block.addr(), block.size());
        // SAFETY: the block was released before, so a resource returned it.
        let _ = unsafe { self.release(block) };
        error
    }

    /// Releases a block to its address: the stack keeps the description of the block until
    /// [`reclaim`](Self::reclaim) or [`deallocate_address`](Self::deallocate_address).
    ///
    /// The address of a block of zero bytes is not its own: the block cannot be found again.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the `allocate` of this stack returned `block`, which was not created with
    /// [`Block::new`]: a copy of a block would permit code that holds only an address to free the block of another
    /// holder.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, MemoryResource, PinnedResource, Stream, layout};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let stack = PinnedResource::new(&device).by_address();
    /// let block = stack.allocate(&stream, layout::bytes(1000)?)?;
    /// // SAFETY: the stack returned the block.
    /// let address = unsafe { stack.release(block) }; // for example for a C library, which returns it later
    /// let block = stack.reclaim(address, &stream)?;
    /// assert_eq!(block.size(), 1000);
    /// // SAFETY: the stack returned the block, and nothing uses it.
    /// unsafe { stack.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub unsafe fn release(&self, block: Block) -> NonNull<u8> {
        // The first pool is the usual maker.
        let kept = match self.pools.first() {
            // SAFETY: the caller upholds the contract of the pool's method, which is the same.
            Some(pool) => unsafe { pool.release(block) },
            None => Err(block),
        };
        kept.unwrap_or_else(|block| self.release_elsewhere(block))
    }

    #[cold]
    fn release_elsewhere(&self, block: Block) -> NonNull<u8> {
        let mut block = block;
        for pool in self.upstream.find_all::<PoolState>() {
            // SAFETY: `release`, whose contract is the same, is the only caller.
            match unsafe { pool.release(block) } {
                Ok(address) => return address,
                Err(back) => block = back,
            }
        }
        self.kept.insert(block)
    }

    /// Returns the released block at an address. The caller holds the block then, and the address is no longer
    /// released. `stream` is the stream on which the caller will free the block; its blocks are found fastest.
    ///
    /// # Errors
    ///
    /// Returns an [`AddressError`] if no released block starts at the address.
    ///
    /// # Examples
    ///
    /// See [`release`](Self::release).
    #[inline]
    pub fn reclaim(&self, address: NonNull<u8>, stream: &Stream) -> Result<Block, AddressError> {
        match self.pools.first().and_then(|pool| pool.reclaim(address, stream)) {
            Some(block) => Ok(block),
            None => self.reclaim_elsewhere(address, stream),
        }
    }

    #[cold]
    fn reclaim_elsewhere(&self, address: NonNull<u8>, stream: &Stream) -> Result<Block, AddressError> {
        let pools = self.upstream.find_all::<PoolState>();
        let pooled = || pools.iter().find_map(|pool| pool.reclaim(address, stream));
        if let Some(block) = self.kept.remove(address).or_else(pooled) {
            return Ok(block);
        }
        Err(self.explain(address.as_ptr() as u64))
    }

    /// Records that work on `stream` uses the released block at an address, which may be freed on another stream. When the
    /// block is freed, its memory is not handed out before `stream` has passed the point of the free.
    ///
    /// For a block of a pool, neither stream waits for the other, unless the pool has no other memory. For a block of
    /// another resource, the stream of the free waits for `stream`.
    ///
    /// # Errors
    ///
    /// Returns an [`AddressError`] if no released block starts at the address, or if the stream belongs to another
    /// device.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, Stream, layout};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let (owner, other) = (Stream::new(&device)?, Stream::new(&device)?);
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.by_address();
    /// let address = stack.allocate_address(&owner, layout::bytes(1000)?)?;
    /// other.wait_for(&owner)?;
    /// // ... work with the memory is enqueued on `other` ...
    /// stack.record_use(address, &other)?;
    /// // SAFETY: all work with the memory is enqueued on `owner` or on `other`, whose use is recorded.
    /// unsafe { stack.deallocate_address(&owner, address, None) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn record_use(&self, address: NonNull<u8>, stream: &Stream) -> Result<(), AddressError> {
        for pool in self.upstream.find_all::<PoolState>() {
            if pool.record_use_at(address, stream)? {
                return Ok(());
            }
        }
        let addr = address.as_ptr() as u64;
        let refused = |error: DeviceError| AddressError::Refused { addr, reason: error.into() };
        self.device().check_device("the stream", stream.device_id()).map_err(refused)?;
        if self.kept.record_use(addr, stream) { Ok(()) } else { Err(self.explain(addr)) }
    }

    /// Frees a block that may have recorded uses, after the work of those streams.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`deallocate`](MemoryResource::deallocate).
    #[cold]
    unsafe fn deallocate_used(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let (addr, uses) = (block.addr(), self.kept.take_uses(block.addr()));
        let freed = match uses.iter().try_for_each(|used| wait_for(stream, used)) {
            // SAFETY: recorded uses come before this point of the stream, and the caller promises the rest.
            Ok(()) => unsafe { self.upstream.deallocate(stream, block) },
            Err(error) => Err(DeallocError::new(block, error)),
        };
        freed.inspect_err(|_| self.kept.put_uses(addr, uses))
    }

    /// Returns the number of blocks that are released to their addresses.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream, layout};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let (stack, stream) = (CudaResource::new(&device).by_address(), Stream::new(&device)?);
    /// let address = stack.allocate_address(&stream, layout::bytes(1000)?)?;
    /// assert_eq!(stack.released(), 1);
    /// # // SAFETY: the stack returned the address, and nothing uses the memory.
    /// # unsafe { stack.deallocate_address(&stream, address, None) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn released(&self) -> usize {
        let pools = self.upstream.find_all::<PoolState>();
        self.kept.len() + pools.iter().map(|pool| pool.released()).sum::<usize>()
    }

    /// Returns why no released block starts at an address. A chunk of an outer pool is a live block of the pool
    /// beneath, so the outer pool comes first.
    fn explain(&self, addr: u64) -> AddressError {
        let pools = self.upstream.find_all::<PoolState>();
        let pooled = || pools.iter().find_map(|pool| pool.explain(addr));
        self.kept.explain(addr).or_else(pooled).unwrap_or(AddressError::Foreign { addr })
    }
}

/// Makes `stream` wait for the work on a stream with a recorded use. If the handle of that stream cannot be used here,
/// waits for all work of the device.
fn wait_for(stream: &Stream, used: &KeptStream) -> Result<(), DeviceError> {
    if used.id() == stream.id() {
        return Ok(());
    }
    let event = Event::new(stream.device())?;
    match used.usable() {
        Some(used) => event.record(used)?,
        None => event.record_on_device()?,
    }
    stream.wait(&event)
}

/// Returns a layout of one byte with the same alignment.
fn one_byte(layout: Layout) -> Layout {
    Layout::from_size_align(1, layout.align()).unwrap_or(layout)
}

cumem::adaptor_layer! {
    impl[R] Layer for ByAddress<R> {
        upstream: R = upstream;
        describe = "by_address";
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<R: MemoryResource> MemoryResource for ByAddress<R> {
    type Kind = R::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.upstream.allocate(stream, layout)
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if self.kept.has_uses() {
            // SAFETY: the caller upholds the contract of this method, which is the same.
            return unsafe { self.deallocate_used(stream, block) };
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}
