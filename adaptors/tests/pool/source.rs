//! An upstream that keeps a ledger, and refuses requests on demand.

use cumem::kind;
use cumem::{
    AllocError, AnyUpstream, Block, CudaResource, CudaVirtualResource, DeallocError, Device, DeviceError,
    ManagedResource, MemoryResource, Stream, Upstream,
};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Returns a leaf whose chunks cannot be joined.
pub(crate) fn islands(device: &Device) -> AnyUpstream<kind::Device> {
    AnyUpstream::new(CudaResource::new(device))
}

/// Returns a leaf whose adjacent chunks can be used as one.
pub(crate) fn joined(device: &Device) -> AnyUpstream<kind::Device> {
    AnyUpstream::new(CudaVirtualResource::new(device).unwrap())
}

/// Returns a leaf whose chunks occupy memory only where they have been used.
pub(crate) fn unified(device: &Device) -> AnyUpstream<kind::Managed> {
    AnyUpstream::new(ManagedResource::new(device).unwrap())
}

/// What an upstream shall do, and what it has done.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Live blocks: sizes by address.
    pub(crate) out: BTreeMap<u64, usize>,
    /// The most bytes that were live at once.
    pub(crate) peak: usize,
    /// The sizes of all requests so far, including refused ones.
    pub(crate) requests: Vec<usize>,
    /// For each of these requests, whether its refusal would be reported.
    pub(crate) reported: Vec<bool>,
    /// The upstream refuses requests that are larger than this, as out of memory.
    pub(crate) largest: Option<usize>,
    /// The upstream refuses one request with this error, after this many others.
    pub(crate) fail_after: Option<(usize, AllocError)>,
    /// The upstream refuses the next block that is freed with this error.
    pub(crate) keep: Option<DeviceError>,
}

impl Ledger {
    pub(crate) fn bytes(&self) -> usize {
        self.out.values().sum()
    }
}

/// Passes requests on to `inner`, and records them.
#[derive(Debug)]
pub(crate) struct Source<U> {
    inner: U,
    pub(crate) ledger: Mutex<Ledger>,
}

impl<U: Upstream> Source<U> {
    pub(crate) fn new(inner: U) -> Self {
        Self { inner, ledger: Mutex::default() }
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Source<U> {
        upstream: U = inner;
        describe = "source";
    }
}

// SAFETY: every block is the inner resource's, passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Source<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.requests.push(layout.size());
        ledger.reported.push(cumem::error::is_reported());
        match ledger.fail_after.take() {
            Some((0, error)) => return Err(error),
            Some((n, error)) => ledger.fail_after = Some((n - 1, error)),
            None => {}
        }
        if let Some(largest) = ledger.largest
            && layout.size() > largest
        {
            let (requested, allocated) = (layout.size(), ledger.bytes());
            return Err(AllocError::LimitExceeded { layer: "source".into(), requested, allocated, limit: largest });
        }
        let block = self.inner.allocate(stream, layout)?;
        ledger.out.insert(block.addr(), block.size());
        ledger.peak = ledger.peak.max(ledger.bytes());
        Ok(block)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let mut ledger = self.ledger.lock().unwrap();
        if let Some(error) = ledger.keep.take() {
            return Err(DeallocError::new(block, error));
        }
        assert_eq!(ledger.out.remove(&block.addr()), Some(block.size()), "given back what was not out");
        // SAFETY: this method's contract is the inner resource's.
        unsafe { self.inner.deallocate(stream, block) }
    }
}
