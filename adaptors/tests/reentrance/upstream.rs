//! An upstream that uses the pool above it.

use crate::common::{free, sim_with};
use crate::harness::{MIB, within_limit};
use cumem::sim::Profile;
use cumem::{
    AllocError, Block, CudaResource, DeallocError, DeviceError, LayerExt, MemoryResource, Stream, kind, layout,
};
use cumem_adaptors::{Pool, PoolOptions, ResourceExt};
use std::alloc::Layout;
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Weak, because the pool owns its upstream.
type Above = Arc<OnceLock<Weak<Pool<Reentrant>>>>;

/// Passes everything on, and uses the pool above it in each call.
#[derive(Debug)]
struct Reentrant {
    above: Above,
    /// A block of the pool that the next call frees there.
    kept: Arc<Mutex<Option<Block>>>,
    refused: Arc<Mutex<Vec<AllocError>>>,
    upstream: CudaResource,
}

impl Reentrant {
    fn use_the_pool(&self, stream: &Stream) {
        let Some(pool) = self.above.get().and_then(Weak::upgrade) else { return };
        assert!(pool.stats().reserved >= pool.snapshot().stats.allocated);
        let kept = self.kept.lock().unwrap().take();
        if let Some(block) = kept {
            free(&*pool, &Stream::new(pool.device()).unwrap(), block).unwrap();
        }
        match pool.allocate(stream, layout::bytes(30 * MIB).unwrap()) {
            Ok(block) => free(&*pool, stream, block).unwrap(),
            Err(error) => self.refused.lock().unwrap().push(error),
        }
        assert!(pool.trim().is_err(), "the mutex is held by the caller");
    }
}

cumem::adaptor_layer! {
    impl[] Layer, Upstream for Reentrant {
        upstream: CudaResource = upstream;
        describe = "reentrant";
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl MemoryResource for Reentrant {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.use_the_pool(stream);
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        self.use_the_pool(stream);
        // SAFETY: the caller upholds the same contract.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

/// A request inside the upstream that needs the mutex is refused with an error that names the reason. A free waits until
/// the mutex is released, and nothing is lost.
#[test]
fn an_upstream_uses_the_pool_above_it() {
    within_limit("an upstream that uses its pool", || {
        let (device, stream) = sim_with(Profile::tiny(256 << 20));
        let (above, kept, refused) = (Above::default(), Arc::default(), Arc::default());
        let upstream = Reentrant {
            above: Arc::clone(&above),
            kept: Arc::clone(&kept),
            refused: Arc::clone(&refused),
            upstream: CudaResource::new(&device),
        };
        let pool = Arc::new(upstream.pool(PoolOptions::new().step(2 * MIB)).unwrap());
        above.set(Arc::downgrade(&pool)).unwrap();
        let first = pool.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
        *kept.lock().unwrap() = Some(first);
        let second = pool.allocate(&stream, layout::bytes(8 * MIB).unwrap()).unwrap();
        assert!(kept.lock().unwrap().is_none());
        assert_eq!(pool.stats().blocks, 1, "the block that the upstream freed is free");
        let refusals = refused.lock().unwrap().clone();
        assert!(!refusals.is_empty());
        let is_reentered = |error: &AllocError| matches!(error, AllocError::Device(DeviceError::Reentered { .. }));
        assert!(refusals.iter().all(is_reentered), "{refusals:?}");
        free(&*pool, &stream, second).unwrap();
        assert_eq!(pool.trim().unwrap(), pool.stats().peak_reserved);
        assert_eq!(pool.stats().reserved, 0);
    });
}
