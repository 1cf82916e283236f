//! A resource that wraps a correct one and breaks one promise.

use cumem::{AllocError, Block, DeallocError, ManagedResource, MemoryResource, Stream, Upstream};
use cumem_conformance::SuiteReport;
use std::alloc::Layout;

type Allocate<U> = Box<dyn Fn(&U, &Stream, Layout) -> Result<Block, AllocError> + Send + Sync>;
type Deallocate<U> = Box<dyn Fn(&U, &Stream, Block) -> Result<(), DeallocError> + Send + Sync>;

/// An adaptor whose calls go through closures that do something wrong.
pub(crate) struct Crooked<U = ManagedResource> {
    upstream: U,
    allocate: Allocate<U>,
    deallocate: Deallocate<U>,
}

impl<U: Upstream> Crooked<U> {
    /// Forwards all calls to the upstream until `allocating` or `deallocating` replaces one.
    pub(crate) fn over(upstream: U) -> Self {
        Self {
            upstream,
            allocate: Box::new(|upstream, stream, layout| upstream.allocate(stream, layout)),
            deallocate: Box::new(|upstream, stream, block| free(upstream, stream, block)),
        }
    }

    /// Replaces `allocate`.
    pub(crate) fn allocating(
        mut self,
        allocate: impl Fn(&U, &Stream, Layout) -> Result<Block, AllocError> + Send + Sync + 'static,
    ) -> Self {
        self.allocate = Box::new(allocate);
        self
    }

    /// Replaces `deallocate`.
    pub(crate) fn deallocating(
        mut self,
        deallocate: impl Fn(&U, &Stream, Block) -> Result<(), DeallocError> + Send + Sync + 'static,
    ) -> Self {
        self.deallocate = Box::new(deallocate);
        self
    }
}

/// Deallocates a block through `upstream`.
pub(crate) fn free<U: MemoryResource>(upstream: &U, stream: &Stream, block: Block) -> Result<(), DeallocError> {
    // SAFETY: the suite frees blocks that no work uses. If a crooked resource does anything else, the simulated device
    // and the suite must report it.
    unsafe { upstream.deallocate(stream, block) }
}

cumem::adaptor_layer! {
    impl[U] Layer for Crooked<U> {
        upstream: U = upstream;
        describe = "crooked";
    }
}

// SAFETY: the promise is broken on purpose. Only the suite uses this type, on simulated devices, where the memory
// around a block belongs to this process.
unsafe impl<U: Upstream> MemoryResource for Crooked<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        (self.allocate)(&self.upstream, stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        (self.deallocate)(&self.upstream, stream, block)
    }
}

/// Asserts that each of these checks has failed.
#[track_caller]
pub(crate) fn caught(report: &SuiteReport, checks: &[&str]) {
    println!("{report}");
    for check in checks {
        let found = report.failed().iter().any(|(name, _)| name == check);
        assert!(found, "`{check}` found nothing wrong: {report}");
    }
}
