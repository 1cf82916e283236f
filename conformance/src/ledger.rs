//! [`Ledger`]: an adaptor that writes down every block and refuses what was not handed out.

use crate::live::{BlockId, LiveBlocks, Violation};
use cumem::layer::fmt_stack;
use cumem::{AllocError, Beneath, Block, DeallocError, Layer, MemoryResource, Stream, TrimError, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Writes down every block that passes, under an adaptor to see what the adaptor does, or over a
/// resource to see what the resource does.
///
/// It finds blocks that overlap, are misaligned, come back changed, come back twice, were never handed
/// out, or never come back. It never panics: what it found is in its [book](Self::book), which outlives
/// it, so that leaks show after the stack is gone.
#[derive(Debug)]
pub struct Ledger<U> {
    book: LedgerBook,
    upstream: U,
}

/// What a [`Ledger`] wrote down. Clones are the same book.
#[derive(Debug, Clone, Default)]
pub struct LedgerBook(Arc<Mutex<Page>>);

#[derive(Debug, Default)]
struct Page {
    live: LiveBlocks,
    violations: Vec<Violation>,
}

impl<U: Upstream> Ledger<U> {
    /// A ledger with an empty book over `upstream`.
    pub fn new(upstream: U) -> Self {
        Self { book: LedgerBook::default(), upstream }
    }

    /// Its book. `find::<LedgerBook>()` reaches it through a stack.
    pub fn book(&self) -> LedgerBook {
        self.book.clone()
    }

    /// What it draws from.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }
}

impl LedgerBook {
    /// Blocks that are out.
    pub fn outstanding(&self) -> Vec<BlockId> {
        self.page().live.iter().collect()
    }

    /// Bytes that were asked for in the blocks that are out.
    pub fn outstanding_bytes(&self) -> usize {
        self.page().live.bytes()
    }

    /// Everything that was wrong so far, in order.
    pub fn violations(&self) -> Vec<Violation> {
        self.page().violations.clone()
    }

    /// Closes the accounts.
    ///
    /// # Errors
    ///
    /// If a block is still out, or anything was wrong; with all of it.
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

/// Accounts that could not be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsettled {
    /// Blocks that never came back.
    pub outstanding: Vec<BlockId>,
    /// What was wrong.
    pub violations: Vec<Violation>,
}

impl std::error::Error for Unsettled {}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let (leaked, wrong) = (self.outstanding.len(), self.violations.len());
        write!(f, "the ledger does not balance: {leaked} blocks never came back, {wrong} violations")?;
        self.violations.iter().take(SHOWN).try_for_each(|violation| write!(f, "; {violation}"))?;
        self.outstanding.iter().take(SHOWN).try_for_each(|block| write!(f, "; leaked {block}"))
    }
}

impl<U: Upstream> Layer for Ledger<U> {
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

// SAFETY: every block is the upstream's, handed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Ledger<U> {
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
            // Before the upstream has it: another thread may be handed the same address right after.
            let mut page = self.book.page();
            if let Err(violation) = page.live.strike(id) {
                page.violations.push(violation);
                return Err(DeallocError::foreign("ledger", block));
            }
        }
        // SAFETY: the block is the upstream's, so this method's contract is the upstream's.
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

impl<U: Upstream> Upstream for Ledger<U> {}

impl<U: Upstream> fmt::Display for Ledger<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_stack(self, f)
    }
}
