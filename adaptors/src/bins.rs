//! [`Bins`]: freed blocks of a few sizes, kept for the streams that freed them. [`FixedSize`](crate::FixedSize) and
//! [`Binning`](crate::Binning) are made of it.
//!
//! # Structure
//!
//! Each stream has a list of free blocks for each size. The lists are in 64 cells, by the number of the stream, each
//! behind a lock. A hit takes one lock and the last block of one list: nothing is cut, joined or searched. A block of the
//! upstream is kept in an *entry* of a cell, also while it is handed out. The tag of the handed out block names the entry,
//! so a free finds the upstream's block.
//!
//! # Invariants
//!
//! 1. Each block of the upstream that was not returned to it is in one entry.
//! 2. An entry is live, or it is in one list of one stream of the same cell.
//! 3. All uses of the memory of a free entry were enqueued before the present point of the stream in whose list it is.
//!    The caller of `deallocate` promises that for a new entry of the list.
//!
//! No stream takes a block from another stream's list. A stream without a block asks the upstream. If the upstream is out
//! of memory, all lists go back to it, each on its own stream, and the upstream is asked again. A pool beneath then moves
//! memory between streams. Neither the upstream nor the driver is called under a lock.

mod cell;
mod error;
mod flush;
mod kept;
mod tag;

pub use error::BinError;
pub(crate) use error::powers_of_two;

use crate::lock::BiasedLock;
use cell::{Cell, Entry};
use cumem::device::StreamId;
use cumem::error::unreported;
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::resource::MakerId;
use cumem::sim::{DetectorListener, declare_handed_out, declare_kept, watch_race_detector};
use cumem::{AllocError, Block, DeallocError, Device, LayerExt, Stream, Upstream, layout};
use kept::Kept;
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use tag::Tag;

const CELLS: usize = 64;
/// Free blocks of one size that a stream keeps if no other number was chosen: RMM's fixed-size resource starts with as
/// many.
pub(crate) const KEEP: usize = 128;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Bins {
    /// The adaptor, for errors.
    layer: &'static str,
    device: Device,
    maker: MakerId,
    /// In ascending order, multiples of 256.
    sizes: Box<[usize]>,
    pub(crate) keep: usize,
    cells: Box<[BiasedLock<Cell>]>,
    detector: Arc<Detector>,
}

/// Whether the race detector of a simulated device is on. It must then know which memory is kept.
#[derive(Debug, Default)]
struct Detector(AtomicBool);

impl DetectorListener for Detector {
    fn switched(&self, on: bool) {
        self.0.store(on, Relaxed);
    }
}

impl Bins {
    pub(crate) fn new(
        layer: &'static str,
        upstream: &impl Upstream,
        sizes: impl IntoIterator<Item = usize>,
    ) -> Result<Self, BinError> {
        let sizes = error::checked(sizes)?;
        error::check_order(layer, upstream)?;
        let device = upstream.device().clone();
        let detector = Arc::<Detector>::default();
        let listener: Weak<Detector> = Arc::downgrade(&detector);
        if watch_race_detector(&device, listener) {
            detector.switched(true);
        }
        let cells = (0..CELLS).map(|_| BiasedLock::new(Cell::default())).collect();
        Ok(Self { layer, device, maker: MakerId::unique(), sizes, keep: KEEP, cells, detector })
    }

    pub(crate) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Returns the bin for a request, or `None` if the request is for no bytes, too large, or more aligned than the
    /// blocks of the bins.
    #[inline]
    pub(crate) fn bin(&self, layout: Layout) -> Option<usize> {
        if layout.size() == 0 || layout.align() > CUDA_ALLOCATION_ALIGNMENT {
            return None;
        }
        self.sizes.iter().position(|&size| layout.size() <= size)
    }

    #[inline]
    fn cell(stream: StreamId) -> usize {
        stream.as_u64() as usize % CELLS
    }

    /// Allocates from the stream's list, or from the upstream a block of the bin's size.
    #[inline]
    pub(crate) fn allocate(
        &self,
        upstream: &impl Upstream,
        stream: &Stream,
        layout: Layout,
        bin: usize,
    ) -> Result<Block, AllocError> {
        if !stream.is_captured() {
            let index = Self::cell(stream.id());
            let mut cell = self.cells[index].lock();
            if let Some((entry, tag)) = cell.pop(stream.id(), bin) {
                let block = Block::new(self.maker, entry, layout, Tag { cell: index as u8, ..tag }.pack());
                drop(cell);
                if self.detects_races() {
                    declare_handed_out(&block, stream);
                }
                return Ok(block);
            }
        }
        self.allocate_from(upstream, stream, layout, bin)
    }

    #[cold]
    fn allocate_from(
        &self,
        upstream: &impl Upstream,
        stream: &Stream,
        layout: Layout,
        bin: usize,
    ) -> Result<Block, AllocError> {
        let whole = layout::bytes(self.sizes[bin])?;
        let block = match unreported(|| upstream.allocate(stream, whole)) {
            Err(error) if error.is_out_of_memory() => {
                self.flush(upstream);
                upstream.allocate(stream, whole)?
            }
            allocated => allocated?,
        };
        let (index, start) = (Self::cell(stream.id()), block.as_non_null());
        let tag = self.cells[index].lock().insert(Entry::live(block, bin));
        let block = Block::new(self.maker, start, layout, Tag { cell: index as u8, ..tag }.pack());
        if self.detects_races() {
            declare_handed_out(&block, stream);
        }
        Ok(block)
    }

    /// Frees a block to the list of the stream. Blocks of other makers are the upstream's.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`deallocate`](cumem::MemoryResource::deallocate).
    #[inline]
    pub(crate) unsafe fn deallocate(
        &self,
        upstream: &impl Upstream,
        stream: &Stream,
        block: Block,
    ) -> Result<(), DeallocError> {
        if block.maker() != self.maker {
            // SAFETY: the caller upholds the same contract.
            return unsafe { upstream.deallocate(stream, block) };
        }
        let (tag, bin) = (Tag::unpack(block.tag()), self.bin(block.layout()));
        let home = usize::from(tag.cell);
        if home == Self::cell(stream.id()) && !self.detects_races() && !stream.is_captured() {
            let mut cell = self.cells[home].lock();
            if cell.is_live(tag, &block, bin)
                && let Some(free) = cell.push(tag, stream.id())
            {
                if free <= self.keep {
                    return Ok(());
                }
                let surplus = cell.take_oldest(stream.id(), bin, free - self.keep / 2);
                drop(cell);
                self.free_on(upstream, stream, surplus);
                return Ok(());
            }
        }
        // SAFETY: the caller upholds the same contract.
        unsafe { self.deallocate_slow(upstream, stream, block, tag, bin) }
    }

    /// Frees a block whose entry is in another cell than the stream, or whose stream has no list yet or is captured.
    ///
    /// # Safety
    ///
    /// As for [`deallocate`](Self::deallocate).
    #[cold]
    unsafe fn deallocate_slow(
        &self,
        upstream: &impl Upstream,
        stream: &Stream,
        block: Block,
        tag: Tag,
        bin: Option<usize>,
    ) -> Result<(), DeallocError> {
        if let Err(error) = self.device.check_device("the stream", stream.device_id()) {
            return Err(DeallocError::new(block, error));
        }
        let taken = self.cells.get(usize::from(tag.cell)).and_then(|cell| cell.lock().take_live(tag, &block, bin));
        let Some(Entry { block: whole, bin, .. }) = taken else { return Err(DeallocError::foreign(self.layer, block)) };
        if self.detects_races() {
            declare_kept(&block, stream);
        }
        if stream.is_captured() {
            // SAFETY: the upstream made this block, and the caller gave up the only block in it.
            return unsafe { upstream.deallocate(stream, whole) }.map_err(
                |DeallocError { block: whole, reason, .. }| {
                    let block = self.hand_out_again(whole, bin, &block, stream);
                    if self.detects_races() {
                        declare_handed_out(&block, stream);
                    }
                    DeallocError::new(block, reason)
                },
            );
        }
        let kept = Kept { block: whole, bin, stream: stream.keep() };
        let surplus = self.insert_free(kept, self.keep);
        self.free_on(upstream, stream, surplus);
        Ok(())
    }

    /// Adds a block to the list of its stream. If there are more than `most`, returns those that are too many.
    fn insert_free(&self, kept: Kept, most: usize) -> Vec<Kept> {
        let Kept { block, bin, stream } = kept;
        let id = stream.id();
        let mut cell = self.cells[Self::cell(id)].lock();
        // Dropped after the lock is released, because the last handle of a stream destroys the stream.
        let _unused = cell.open_list(stream, self.sizes.len());
        let tag = cell.insert(Entry::live(block, bin));
        match cell.push(tag, id) {
            Some(free) if free > most => cell.take_oldest(id, Some(bin), free - most / 2),
            _ => Vec::new(),
        }
    }

    /// Returns `block` as it was handed out, after its upstream refused the block `whole` that holds it.
    fn hand_out_again(&self, whole: Block, bin: usize, block: &Block, stream: &Stream) -> Block {
        let index = Self::cell(stream.id());
        let tag = self.cells[index].lock().insert(Entry::live(whole, bin));
        Block::new(self.maker, block.as_non_null(), block.layout(), Tag { cell: index as u8, ..tag }.pack())
    }

    /// Allocates blocks of the first bin from the upstream for the list of `stream`.
    pub(crate) fn preallocate(
        &self,
        upstream: &impl Upstream,
        stream: &Stream,
        blocks: usize,
    ) -> Result<(), AllocError> {
        let whole = layout::bytes(self.sizes[0])?;
        for _ in 0..blocks {
            let block = upstream.allocate(stream, whole)?;
            self.insert_free(Kept { block, bin: 0, stream: stream.keep() }, usize::MAX);
        }
        Ok(())
    }

    /// Returns the free blocks of each bin.
    pub(crate) fn cached(&self) -> Vec<usize> {
        let mut blocks = vec![0; self.sizes.len()];
        self.cells.iter().for_each(|cell| cell.lock().count_free(&mut blocks));
        blocks
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached().iter().zip(&self.sizes).map(|(blocks, size)| blocks * size).sum()
    }

    /// Returns the blocks that are handed out, and their bytes in the upstream.
    pub(crate) fn live(&self) -> (usize, usize) {
        let lives = self.cells.iter().map(|cell| cell.lock().live());
        lives.fold((0, 0), |(blocks, bytes), live| (blocks + live.0, bytes + live.1))
    }

    /// Returns the most bytes of a block, if the upstream has room for a block of `room` bytes.
    pub(crate) fn largest_block(&self, room: usize, forwards: bool) -> usize {
        let largest = self.sizes[self.sizes.len() - 1];
        if forwards && room > largest {
            return room;
        }
        let cached = self.cached();
        let fits = |&(size, free): &(usize, usize)| size <= room || free > 0;
        self.sizes.iter().copied().zip(cached).filter(fits).map(|(size, _)| size).max().unwrap_or(0)
    }

    fn detects_races(&self) -> bool {
        self.detector.0.load(Relaxed)
    }
}
