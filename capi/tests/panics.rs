//! A panic in any layer becomes an error of the function, and the stack can be used further.

mod common;

use common::Opened;
use cumem::error::TrimError;
use cumem::layer::Beneath;
use cumem::sim::Profile;
use cumem::{
    AllocError, AnyResource, Block, CudaResource, DeallocError, Device, Layer, MemoryResource, Stream, Upstream,
};
use cumem_adaptors::{AnyStack, PoolOptions, ResourceExt};
use cumem_c::*;
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Panics in each second call of each method.
struct Panicking<U> {
    calls: AtomicUsize,
    upstream: U,
}

impl<U> Panicking<U> {
    fn turn(&self) {
        assert!(self.calls.fetch_add(1, Relaxed) % 2 == 1, "it is a panic's turn");
    }
}

impl<U: Layer> Layer for Panicking<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.turn();
        f.write_str("panicking")
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }
    fn state(&self) -> &dyn Any {
        &()
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        self.turn();
        Ok(0)
    }
}

// SAFETY: both methods forward to the upstream and pass blocks on unchanged.
unsafe impl<U: Upstream> MemoryResource for Panicking<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.turn();
        self.upstream.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of the upstream, which is the same.
        unsafe { self.upstream.deallocate(stream, block) }?;
        self.turn();
        Ok(())
    }
}

impl<U: Upstream> Upstream for Panicking<U> {}

#[test]
fn every_panic_is_an_error() {
    let effort: usize = std::env::var("CUMEM_EFFORT").ok().and_then(|effort| effort.parse().ok()).unwrap_or(1);
    let rounds = 2_000 * effort;
    std::panic::set_hook(Box::new(|_| ()));
    let device = Device::simulated(Profile::default()).unwrap();
    let pool = CudaResource::new(&device).pool(PoolOptions::new()).unwrap();
    let inner = Panicking { calls: AtomicUsize::new(0), upstream: pool };
    let stack = Opened(open_any(AnyStack::OverDevice(AnyResource::new(inner.statistics()))));
    let mut panics = 0;
    let mut error = CumemError::NONE;
    for _ in 0..rounds {
        let refused = stack.allocate(1000, null_mut()).unwrap_err();
        assert_eq!(
            (refused.status, &*refused.text()),
            (CumemStatus::Panic, "the library panicked: it is a panic's turn")
        );
        let memory = stack.allocate(1000, null_mut()).unwrap();
        // The block is freed before the panic.
        assert_eq!(stack.free(memory, 1000, null_mut()).unwrap_err().status, CumemStatus::Panic);
        let memory = {
            stack.trim(0).unwrap();
            stack.allocate(1000, null_mut()).unwrap_err();
            stack.allocate(1000, null_mut()).unwrap()
        };
        assert_eq!(stack.trim(0).unwrap_err().status, CumemStatus::Panic);
        assert_eq!(stack.free(memory, 1000, null_mut()), Ok(()));
        let mut text = null_mut();
        // SAFETY: the pointers are valid.
        assert_eq!(unsafe { cumem_stack_text(stack.0, &raw mut text, &raw mut error) }, CumemStatus::Panic);
        assert!(text.is_null());
        stack.trim(0).unwrap();
        panics += 5;
    }
    drop(std::panic::take_hook());
    assert_eq!((panics, stack.counters().live_blocks), (5 * rounds, 0));
}
