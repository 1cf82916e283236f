//! [`GraphPoolsState`]: the private pools, and which streams allocate from which.

use super::error::GraphPoolError;
use super::id::GraphPoolId;
use super::private::PrivatePool;
use crate::pool::PoolError;
use cumem::device::CaptureUnderway;
use cumem::resource::MakerId;
use cumem::{Block, Device, Stream};
use smallvec::SmallVec;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The private pools of a [`GraphPools`](super::GraphPools).
///
/// Rust programs call [`capture`](Self::capture). Code that captures by itself, such as PyTorch, calls
/// [`begin`](Self::begin) before its capture, [`end`](Self::end) after it, and [`release`](Self::release) when the graph
/// is gone.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, CudaResource, Device, LayerExt};
/// use cumem_adaptors::ResourceExt;
/// use cumem_adaptors::graph_pools::GraphPoolsState;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaResource::new(&device).graph_pools());
/// assert_eq!(stack.find::<GraphPoolsState>().unwrap().reserved(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GraphPoolsState(pub(super) Arc<Shared>);

type Filter = dyn Fn(&Stream) -> bool + Send + Sync;
type Make = dyn Fn() -> Result<Arc<dyn PrivatePool>, PoolError> + Send + Sync;

pub(super) struct Shared {
    device: Device,
    make: Box<Make>,
    /// The number of routes.
    captures: AtomicUsize,
    /// Whether a private pool was ever made.
    has_pools: AtomicBool,
    /// The number of pools that no graph holds, and that exist because they have live blocks, or had at the last look.
    released: AtomicUsize,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    pools: Vec<Entry>,
    routes: Vec<Route>,
}

struct Entry {
    id: GraphPoolId,
    /// Captures that were begun and not released.
    holders: usize,
    maker: MakerId,
    pool: Arc<dyn PrivatePool>,
}

/// Makes streams allocate from a private pool.
struct Route {
    id: GraphPoolId,
    pool: Arc<dyn PrivatePool>,
    streams: Arc<Filter>,
    _underway: CaptureUnderway,
}

impl GraphPoolsState {
    pub(super) fn new(
        device: &Device,
        make: impl Fn() -> Result<Arc<dyn PrivatePool>, PoolError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            device: device.clone(),
            make: Box::new(make),
            captures: AtomicUsize::new(0),
            has_pools: AtomicBool::new(false),
            released: AtomicUsize::new(0),
            table: RwLock::default(),
        }))
    }

    /// Makes allocations on some streams come from the private pool `id`, until [`end`](Self::end). The pool is created if
    /// it does not exist. `streams` is called at each allocation, and returns whether the stream allocates from the private
    /// pool. It runs under no lock of this library.
    ///
    /// The private pool keeps its memory until [`release`](Self::release) was called as often as this method.
    ///
    /// # Errors
    ///
    /// Returns [`GraphPoolError::AlreadyOpen`] if `begin` was called for this id and `end` was not, and
    /// [`GraphPoolError::Pool`] if the pool cannot be created.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// use cumem_adaptors::ResourceExt;
    /// use cumem_adaptors::graph_pools::GraphPoolId;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).graph_pools();
    /// let id = GraphPoolId(0, 1); // the id of another library
    /// stack.state().begin(id, |_| true)?;
    /// // The other library captures here, and allocates.
    /// let block = stack.allocate(&stream, layout::bytes(1000)?)?;
    /// // SAFETY: the stack returned the block, and nothing uses it.
    /// unsafe { stack.deallocate(&stream, block) }?;
    /// stack.state().end(id)?;
    /// assert!(stack.state().reserved() > 0); // the memory is the graph's
    /// stack.state().release(id)?;
    /// assert_eq!(stack.state().reserved(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn begin(
        &self,
        id: GraphPoolId,
        streams: impl Fn(&Stream) -> bool + Send + Sync + 'static,
    ) -> Result<(), GraphPoolError> {
        self.0.begin(id, Arc::new(streams))
    }

    /// Ends what [`begin`](Self::begin) began: allocations on all streams come from the upstream again.
    ///
    /// # Errors
    ///
    /// Returns [`GraphPoolError::NotOpen`] if `begin` was not called for this id.
    ///
    /// # Examples
    ///
    /// See [`begin`](Self::begin).
    pub fn end(&self, id: GraphPoolId) -> Result<(), GraphPoolError> {
        self.0.end(id)
    }

    /// Gives up the hold of one [`begin`](Self::begin) on the memory: the graph of that capture is gone. The chunks of a
    /// private pool without a hold go back to the upstream when all its blocks are freed and no capture is underway.
    ///
    /// # Errors
    ///
    /// Returns [`GraphPoolError::NotHeld`] if there is no such hold.
    ///
    /// # Examples
    ///
    /// See [`begin`](Self::begin).
    pub fn release(&self, id: GraphPoolId) -> Result<(), GraphPoolError> {
        self.0.release(id)
    }

    /// Returns the bytes that all private pools hold from the upstream.
    ///
    /// # Examples
    ///
    /// See [`begin`](Self::begin).
    pub fn reserved(&self) -> usize {
        let pools: Vec<_> = self.0.read().pools.iter().map(|entry| Arc::clone(&entry.pool)).collect();
        pools.iter().map(|pool| pool.stats().reserved).sum()
    }

    /// Reports whether a capture is underway.
    #[inline]
    pub(super) fn is_capturing(&self) -> bool {
        self.0.captures.load(Ordering::Acquire) > 0
    }

    /// Reports whether there ever was a private pool.
    #[inline]
    pub(super) fn has_pools(&self) -> bool {
        self.0.has_pools.load(Ordering::Acquire)
    }

    /// Returns the private pool that a stream allocates from.
    #[cold]
    pub(super) fn pool_for(&self, stream: &Stream) -> Option<Arc<dyn PrivatePool>> {
        let routes: SmallVec<[_; 2]> =
            self.0.read().routes.iter().map(|route| (Arc::clone(&route.streams), Arc::clone(&route.pool))).collect();
        // The lock is released now, because a filter is user code.
        routes.into_iter().find(|(streams, _)| streams(stream)).map(|(_, pool)| pool)
    }

    /// Returns the private pool that made a block.
    pub(super) fn pool_of(&self, block: &Block) -> Option<Arc<dyn PrivatePool>> {
        let table = self.0.read();
        table.pools.iter().find(|entry| entry.maker == block.maker()).map(|entry| Arc::clone(&entry.pool))
    }

    /// Closes the pools that no graph holds and that have no live block. Returns the bytes that they gave back.
    pub(super) fn close_unused(&self) -> usize {
        self.0.close_unused()
    }

    /// As [`close_unused`](Self::close_unused), if there may be such a pool.
    #[inline]
    pub(super) fn close_released(&self) {
        if self.0.released.load(Ordering::Acquire) > 0 {
            self.close_unused();
        }
    }
}

impl Shared {
    pub(super) fn begin(&self, id: GraphPoolId, streams: Arc<Filter>) -> Result<(), GraphPoolError> {
        let known = self.read().pools.iter().any(|entry| entry.id == id);
        // Made without the lock, because it calls the driver.
        let made = (!known).then(|| (self.make)()).transpose()?;
        let mut table = self.write();
        if table.routes.iter().any(|route| route.id == id) {
            return Err(GraphPoolError::AlreadyOpen { id });
        }
        let entry = match (table.pools.iter().position(|entry| entry.id == id), made) {
            (Some(at), _) => &mut table.pools[at],
            (None, made) => {
                let pool = made.map_or_else(|| (self.make)(), Ok)?;
                table.pools.push(Entry { id, holders: 0, maker: pool.maker(), pool });
                table.pools.last_mut().expect("just added")
            }
        };
        entry.holders += 1;
        let pool = Arc::clone(&entry.pool);
        table.routes.push(Route { id, pool, streams, _underway: self.device.capture_underway() });
        self.counted(&table);
        Ok(())
    }

    pub(super) fn end(&self, id: GraphPoolId) -> Result<(), GraphPoolError> {
        let ended = {
            let mut table = self.write();
            let at = table.routes.iter().position(|route| route.id == id).ok_or(GraphPoolError::NotOpen { id })?;
            let ended = table.routes.remove(at);
            self.counted(&table);
            ended
        };
        drop(ended);
        self.close_unused();
        Ok(())
    }

    pub(super) fn release(&self, id: GraphPoolId) -> Result<(), GraphPoolError> {
        {
            let mut table = self.write();
            let mut held = table.pools.iter_mut().filter(|entry| entry.id == id && entry.holders > 0);
            held.next().ok_or(GraphPoolError::NotHeld { id })?.holders -= 1;
            self.counted(&table);
        }
        self.close_unused();
        Ok(())
    }

    fn close_unused(&self) -> usize {
        // Waiting for the work of the pool's streams would end a capture.
        if self.device.has_captures() {
            return 0;
        }
        {
            let Table { pools, routes } = &*self.read();
            if !pools.iter().any(|entry| entry.is_unused(routes)) {
                return 0;
            }
        }
        // Launches of a graph may still run, on whichever streams.
        if self.device.synchronize().is_err() {
            return 0;
        }
        let unused: Vec<Entry> = {
            let mut table = self.write();
            let Table { pools, routes } = &mut *table;
            let unused = pools.extract_if(.., |entry| entry.is_unused(routes)).collect();
            self.counted(&table);
            unused
        };
        unused.iter().map(|entry| entry.pool.stats().reserved).sum()
    }

    /// Stores what is read without the lock.
    fn counted(&self, table: &Table) {
        self.has_pools.fetch_or(!table.pools.is_empty(), Ordering::AcqRel);
        self.captures.store(table.routes.len(), Ordering::Release);
        self.released.store(table.pools.iter().filter(|entry| entry.holders == 0).count(), Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_unused(&self, routes: &[Route]) -> bool {
        self.holders == 0 && routes.iter().all(|route| route.id != self.id) && self.pool.stats().blocks == 0
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.read();
        let pools: Vec<_> = table.pools.iter().map(|entry| (entry.id, entry.holders)).collect();
        f.debug_struct("GraphPools").field("pools", &pools).field("captures", &table.routes.len()).finish()
    }
}
