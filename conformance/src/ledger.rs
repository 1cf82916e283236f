//! [`BlockLedger`]: an adaptor that records every block, and refuses foreign blocks.

use crate::live::{BlockId, LiveBlocks, Violation};
use cumem::error::{Plural, TrimError};
use cumem::layer::Beneath;
use cumem::layer::fmt_stack;
use cumem::{AllocError, Block, DeallocError, Layer, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An adaptor that records every block. Under an adaptor, the ledger checks that adaptor. Over a resource, the ledger
/// checks that resource.
///
/// The ledger finds blocks that overlap, are misaligned, return changed, return twice, were never allocated, or never
/// return. The ledger never panics, and records violations in its [book](Self::book). The book outlives the ledger, and
/// therefore also shows the leaks of a stack that has been dropped.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, CudaResource, Device, MemoryResource, Stream};
/// use cumem_conformance::BlockLedger;
///
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let ledger = BlockLedger::new(CudaResource::new(&device));
/// let block = ledger.allocate(&stream, layout::bytes(1024)?)?;
/// assert_eq!(ledger.book().outstanding_bytes(), 1024);
/// // SAFETY: no work uses the block, and nothing refers to its memory.
/// unsafe { ledger.deallocate(&stream, block) }?;
/// ledger.book().settle()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BlockLedger<U> {
    book: LedgerBook,
    upstream: U,
}

/// The record of a [`BlockLedger`]. Clones share their state.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, CudaResource, Device, MemoryResource, Stream};
/// use cumem_conformance::BlockLedger;
///
/// let device = Device::simulated(Profile::default())?;
/// let ledger = BlockLedger::new(CudaResource::new(&device));
/// let book = ledger.book();
/// let block = ledger.allocate(&Stream::new(&device)?, layout::bytes(64)?)?;
/// std::mem::forget((block, ledger)); // a leak
/// let unsettled = book.settle().unwrap_err();
/// assert_eq!(unsettled.outstanding[0].size, 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LedgerBook(Arc<Mutex<Page>>);

#[derive(Debug, Default)]
struct Page {
    live: LiveBlocks,
    violations: Vec<Violation>,
}

impl<U: Upstream> BlockLedger<U> {
    /// Creates a ledger with an empty book over `upstream`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let ledger = BlockLedger::new(CudaResource::new(&device));
    /// assert!(ledger.book().settle().is_ok(), "no block was allocated");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U) -> Self {
        Self { book: LedgerBook::default(), upstream }
    }

    /// Returns the book. `find::<LedgerBook>()` returns it from any stack.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let ledger = BlockLedger::new(CudaResource::new(&device));
    /// let block = ledger.allocate(&stream, layout::bytes(1024)?)?;
    /// let book = ledger.find::<LedgerBook>().expect("the stack has this layer"); // the same book
    /// assert_eq!(book.outstanding(), ledger.book().outstanding());
    /// # // SAFETY: no work uses the block.
    /// # unsafe { ledger.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn book(&self) -> LedgerBook {
        self.book.clone()
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let ledger = BlockLedger::new(CudaResource::new(&device));
    /// assert_eq!(ledger.upstream().device(), &device);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }
}

impl LedgerBook {
    /// Returns the live blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let ledger = BlockLedger::new(CudaResource::new(&device));
    /// let block = ledger.allocate(&stream, layout::bytes(1024)?)?;
    /// assert_eq!(ledger.book().outstanding()[0].addr, block.addr());
    /// # // SAFETY: no work uses the block.
    /// # unsafe { ledger.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn outstanding(&self) -> Vec<BlockId> {
        self.page().live.iter().collect()
    }

    /// Returns the requested bytes of the live blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let ledger = BlockLedger::new(CudaResource::new(&device));
    /// let block = ledger.allocate(&stream, layout::bytes(1024)?)?;
    /// assert_eq!(ledger.book().outstanding_bytes(), 1024);
    /// // SAFETY: no work uses the block.
    /// unsafe { ledger.deallocate(&stream, block) }?;
    /// assert_eq!(ledger.book().outstanding_bytes(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn outstanding_bytes(&self) -> usize {
        self.page().live.bytes()
    }

    /// Returns all violations so far, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let ledger = BlockLedger::new(CudaResource::new(&device));
    /// let foreign = CudaResource::new(&device).allocate(&stream, layout::bytes(64)?)?;
    /// // SAFETY: no work uses the block. The ledger refuses blocks that it does not list.
    /// let refused = unsafe { ledger.deallocate(&stream, foreign) };
    /// assert!(refused.is_err());
    /// assert!(matches!(ledger.book().violations()[..], [Violation::Unknown { .. }]));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn violations(&self) -> Vec<Violation> {
        self.page().violations.clone()
    }

    /// Checks that no block is live and that no violation was found.
    ///
    /// # Errors
    ///
    /// Returns [`Unsettled`] with all live blocks and all violations otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
    /// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let ledger = BlockLedger::new(CudaResource::new(&device));
    /// let block = ledger.allocate(&stream, layout::bytes(1024)?)?;
    /// let unsettled = ledger.book().settle().unwrap_err();
    /// assert!(unsettled.to_string().starts_with("the ledger does not balance: 1 block not freed, 0 violations"));
    /// // SAFETY: no work uses the block.
    /// unsafe { ledger.deallocate(&stream, block) }?;
    /// ledger.book().settle()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn settle(&self) -> Result<(), Unsettled> {
        let page = self.page();
        if page.live.is_empty() && page.violations.is_empty() {
            return Ok(());
        }
        Err(Unsettled { outstanding: page.live.iter().collect(), violations: page.violations.clone() })
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a ledger that does not balance.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
/// # use cumem_conformance::{BlockLedger, LedgerBook, Violation};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let ledger = BlockLedger::new(CudaResource::new(&device));
/// let foreign = CudaResource::new(&device).allocate(&stream, layout::bytes(64)?)?;
/// // SAFETY: no work uses the block. The ledger refuses blocks that it does not list.
/// let _refused = unsafe { ledger.deallocate(&stream, foreign) };
/// let unsettled = ledger.book().settle().unwrap_err();
/// assert_eq!((unsettled.outstanding.len(), unsettled.violations.len()), (0, 1));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsettled {
    /// Blocks that were never freed.
    pub outstanding: Vec<BlockId>,
    /// Violations that were found.
    pub violations: Vec<Violation>,
}

impl std::error::Error for Unsettled {}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let leaked = Plural(self.outstanding.len(), "block");
        let wrong = Plural(self.violations.len(), "violation");
        write!(f, "the ledger does not balance: {leaked} not freed, {wrong}")?;
        self.violations.iter().take(SHOWN).try_for_each(|violation| write!(f, "; {violation}"))?;
        self.outstanding.iter().take(SHOWN).try_for_each(|block| write!(f, "; leaked {block}"))
    }
}

impl<U: Upstream> Layer for BlockLedger<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ledger")
    }

    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }

    fn state(&self) -> &dyn Any {
        &self.book
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for BlockLedger<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let block = self.upstream.allocate(stream, layout)?;
        let mut page = self.book.page();
        if let Err(violation) = page.live.enter(BlockId::of(&block)) {
            page.violations.push(violation);
        }
        Ok(block)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let id = BlockId::of(&block);
        {
            // Removed before the upstream is called, because another thread may get the same address right after.
            let mut page = self.book.page();
            if let Err(violation) = page.live.strike(id) {
                page.violations.push(violation);
                return Err(DeallocError::foreign("ledger", block));
            }
        }
        // SAFETY: the block is the upstream's, and the caller upholds the contract of this method, which is the
        // upstream's.
        let result = unsafe { self.upstream.deallocate(stream, block) };
        if result.is_err() {
            let mut page = self.book.page();
            if let Err(violation) = page.live.enter(id) {
                page.violations.push(violation);
            }
        }
        result
    }
}

impl<U: Upstream> Upstream for BlockLedger<U> {}

impl<U: Upstream> fmt::Display for BlockLedger<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_stack(self, f)
    }
}
