//! [`Slots`]: a table with the heap of each stream. A lookup takes no lock, and reads no cache line that is often
//! written.
//!
//! The table has a fixed number of slots, in sets of four. A stream's number selects its set, and the stream may be
//! bound to any slot of that set. Numbers are assigned in sequence, so streams that are created together fall into
//! different sets. If all four slots are taken, one of them is given to the new stream: its free memory enters the
//! arena, and its live blocks stay, because a live block is bound to no stream. Ten thousand streams therefore need no
//! more than this table.

use super::heap::Heap;
use super::patience::Patience;
use super::released::Released;
use super::rounding::Rounding;
use super::sync::{AtomicBool, AtomicU64, BiasedLock, Guard, OnceLock};
use super::tag::Tag;
use super::units::{Region, UNIT};
use super::uses::Uses;
use cumem::device::{KeptStream, StreamId};
use cumem::sim::{DetectorListener, watch_race_detector};
use cumem::{Block, Device};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

// Under loom there are so few slots that they are given to other streams.
const WAYS: usize = if cfg!(all(loom, test)) { 2 } else { 4 };
const SETS: usize = if cfg!(all(loom, test)) { 1 } else { 64 };
const UNBOUND: u64 = 0;

/// The memory of one stream.
#[derive(Debug)]
pub(super) struct StreamHeap {
    /// The stream that may use all free memory of `heap`.
    stream: Option<KeptStream>,
    /// The stream's number, which can be compared without following the handle.
    owner: u64,
    pub(super) heap: Heap,
    pub(super) patience: Patience,
    /// The most units that were ever live at once.
    pub(super) peak_units: u64,
    /// The most bytes that were ever requested for the blocks that were live at once.
    pub(super) peak_requested: u64,
    /// The blocks whose node is in `heap`, and that were released to their addresses.
    pub(super) released: Released,
    /// The streams with recorded uses of live blocks, by node.
    pub(super) uses: Uses,
}

impl StreamHeap {
    fn unbound(whole_shift: u32) -> Self {
        let (heap, patience) = (Heap::new(whole_shift), Patience::NEW);
        let (released, uses) = (Released::new(), Uses::new());
        Self { stream: None, owner: UNBOUND, heap, patience, peak_units: 0, peak_requested: 0, released, uses }
    }

    #[inline]
    pub(super) fn serves(&self, stream: StreamId) -> bool {
        self.owner == stream.as_u64()
    }

    pub(super) fn stream(&self) -> Option<&KeptStream> {
        self.stream.as_ref()
    }

    /// Reports whether the heap agrees with every fact in the block: its address, size and tag.
    #[inline]
    pub(super) fn has_live(&self, block: &Block, rounding: &Rounding) -> bool {
        self.agrees(self.heap.live(Tag::unpack(block.tag()).node), block, rounding)
    }

    /// Does the same for a block with a recorded use.
    pub(super) fn has_used(&self, block: &Block, rounding: &Rounding) -> bool {
        self.agrees(self.heap.used(Tag::unpack(block.tag()).node), block, rounding)
    }

    #[inline]
    fn agrees(&self, node: Option<(u64, u32, u16)>, block: &Block, rounding: &Rounding) -> bool {
        let tag = Tag::unpack(block.tag());
        node.is_some_and(|(addr, units, generation)| {
            generation == tag.generation
                && addr * UNIT as u64 == block.addr()
                && rounding.allows(units, block.size() as u64 + u64::from(tag.slack))
        })
    }

    /// Raises the peaks to the live units of the heap and `requested` bytes. The branches are seldom taken, and a store
    /// that is skipped costs nothing.
    #[inline]
    fn raise_peaks(&mut self, requested: u64) {
        if requested > self.peak_requested {
            self.peak_requested = requested;
        }
        let units = self.heap.live_units();
        if units > self.peak_units {
            self.peak_units = units;
        }
    }

    /// Adds free memory.
    pub(super) fn attach_all(&mut self, regions: Vec<Region>) {
        for region in regions {
            self.heap.attach(region);
        }
    }

    /// Gives the heap to another stream, or to none. Returns the previous stream.
    pub(super) fn set_stream(&mut self, stream: Option<KeptStream>) -> Option<KeptStream> {
        let owner = stream.as_ref().map_or(UNBOUND, |stream| stream.id().as_u64());
        if std::mem::replace(&mut self.owner, owner) != owner {
            self.patience = Patience::NEW;
        }
        std::mem::replace(&mut self.stream, stream)
    }
}

/// Aligned to two cache lines, because some processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Slot {
    stream_heap: BiasedLock<StreamHeap>,
    counts: Counts,
    /// Blocks that are released to their addresses. Counted as the others, but not on the path of a hit.
    released: AtomicCount,
}

/// Counts of a slot's blocks. Only the thread that has the slot's lock changes them. Any thread may read them without
/// the lock, and then gets values that were right at some recent moment. They are no atomics of loom, because the pool
/// is right whatever a thread without the lock reads.
#[derive(Debug, Default)]
struct Counts {
    made: AtomicCount,
    freed: AtomicCount,
    /// Bytes that were requested for the live blocks.
    requested: AtomicCount,
}

/// A number that one thread at a time changes, with a plain load and a plain store.
#[derive(Debug, Default)]
struct AtomicCount(std::sync::atomic::AtomicU64);

impl AtomicCount {
    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }
}

impl Slot {
    fn unbound(whole_shift: u32) -> Self {
        Self {
            stream_heap: BiasedLock::new(StreamHeap::unbound(whole_shift)),
            counts: Counts::default(),
            released: AtomicCount::default(),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, StreamHeap> {
        self.stream_heap.lock()
    }

    /// Counts a new block of `bytes` requested bytes. The guard shows that the calling thread has the slot's lock.
    #[inline]
    pub(super) fn count(&self, locked: &mut StreamHeap, bytes: usize) {
        self.counts.made.add(1);
        self.counts.requested.add(bytes as u64);
        locked.raise_peaks(self.counts.requested.get());
    }

    /// Counts a freed block.
    #[inline]
    pub(super) fn uncount(&self, _locked: &mut StreamHeap, bytes: usize) {
        self.counts.freed.add(1);
        self.counts.requested.add((bytes as u64).wrapping_neg());
    }

    /// Makes the peaks start again from the present values.
    pub(super) fn reset_peaks(&self, locked: &mut StreamHeap) {
        (locked.peak_units, locked.peak_requested) = (locked.heap.live_units(), self.requested());
    }

    /// Returns the number of live blocks.
    pub(super) fn blocks(&self, _locked: &StreamHeap) -> u64 {
        self.counts.made.get() - self.counts.freed.get()
    }

    /// Returns the bytes that were requested for the live blocks.
    pub(super) fn requested(&self) -> u64 {
        self.counts.requested.get()
    }

    /// Adds to the number of blocks that are released to their addresses.
    #[inline]
    pub(super) fn count_released(&self, _locked: &mut StreamHeap, n: u64) {
        self.released.add(n);
    }

    /// Returns the number of blocks that are released to their addresses.
    pub(super) fn released(&self) -> u64 {
        self.released.get()
    }

    /// Returns how many blocks of the slot were ever freed.
    pub(super) fn freed(&self) -> u64 {
        self.counts.freed.get()
    }
}

/// What the fast path sees of the bound streams: nothing while the race detector of a simulated device is on. Each call
/// then takes the slow path, which declares its block.
#[derive(Debug)]
pub(super) struct Shown {
    owners: [AtomicU64; WAYS * SETS],
    hidden: AtomicBool,
}

impl Shown {
    fn show(&self, index: usize, owner: u64) {
        // Not shown for a moment either, because another thread of the stream would then allocate without a declaration.
        if self.hidden.load(Ordering::SeqCst) {
            return;
        }
        self.owners[index].store(owner, Ordering::SeqCst);
        // `switched` sets the flag before it hides the owners, so one of the two sees the other.
        if self.hidden.load(Ordering::SeqCst) {
            self.owners[index].store(UNBOUND, Ordering::Relaxed);
        }
    }
}

impl DetectorListener for Shown {
    fn switched(&self, on: bool) {
        self.hidden.store(on, Ordering::SeqCst);
        if on {
            self.owners.iter().for_each(|owner| owner.store(UNBOUND, Ordering::SeqCst));
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Slots {
    shown: Arc<Shown>,
    /// The bound stream of each slot. Written only when a slot is given to another stream.
    owners: Box<[AtomicU64]>,
    slots: Box<[OnceLock<Box<Slot>>]>,
    /// One bit per slot: whether the slot was ever bound.
    made: [AtomicU64; (SETS * WAYS).div_ceil(64)],
    /// The same slots, in the order in which they were first bound.
    made_in_order: OnceList,
    whole_shift: u32,
}

impl Slots {
    /// Creates an empty table for heaps with this `whole_shift` ([`Heap::new`]).
    pub(super) fn new(whole_shift: u32) -> Self {
        let owners = std::array::from_fn(|_| AtomicU64::new(UNBOUND));
        Self {
            shown: Arc::new(Shown { owners, hidden: AtomicBool::new(false) }),
            owners: (0..WAYS * SETS).map(|_| AtomicU64::new(UNBOUND)).collect(),
            slots: (0..WAYS * SETS).map(|_| OnceLock::new()).collect(),
            made: Default::default(),
            made_in_order: OnceList::new(WAYS * SETS),
            whole_shift,
        }
    }

    /// Hides the slots from the fast path while the race detector of `device` is on.
    pub(super) fn watch_detector(&self, device: &Device) {
        let listener: Weak<Shown> = Arc::downgrade(&self.shown);
        if watch_race_detector(device, listener) {
            self.shown.switched(true);
        }
    }

    /// Reports whether the blocks of each call are declared to the race detector.
    pub(super) fn are_hidden(&self) -> bool {
        self.shown.hidden.load(Ordering::Relaxed)
    }

    /// Like [`find_bound`](Self::find_bound), for the fast path, which finds nothing while the race detector is on.
    #[inline]
    pub(super) fn find(&self, stream: StreamId) -> Option<(usize, &Slot)> {
        self.find_in(&self.shown.owners, stream)
    }

    /// Returns the slot that `stream` was last bound to. The binding is certain only under the slot's lock.
    pub(super) fn find_bound(&self, stream: StreamId) -> Option<(usize, &Slot)> {
        self.find_in(&self.owners, stream)
    }

    #[inline]
    fn find_in(&self, owners: &[AtomicU64], stream: StreamId) -> Option<(usize, &Slot)> {
        let first = Self::set(stream);
        let ways = owners.get(first..first + WAYS)?;
        let way = ways.iter().position(|owner| owner.load(Ordering::Relaxed) == stream.as_u64())?;
        Some((first + way, self.get(first + way)?))
    }

    /// Returns slot `index`, if it was ever bound.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)?.get().map(|slot| &**slot)
    }

    /// Iterates over the slots that a stream may be bound to, those without an owner first.
    pub(super) fn candidates(&self, stream: StreamId) -> impl Iterator<Item = usize> {
        let first = Self::set(stream);
        let free = move |index: &usize| self.owners[*index].load(Ordering::Relaxed) == UNBOUND;
        let set = first..first + WAYS;
        // Among taken slots, the stream's number chooses the first, so that not always the same slot is taken.
        let turn = stream.as_u64() as usize / SETS % WAYS;
        let taken = (0..WAYS).map(move |way| first + (way + turn) % WAYS).filter(move |index| !free(index));
        set.filter(free).chain(taken)
    }

    /// Returns slot `index`, and creates it if necessary.
    pub(super) fn make(&self, index: usize) -> &Slot {
        self.slots[index].get_or_init(|| {
            self.made[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
            self.made_in_order.push(index);
            Box::new(Slot::unbound(self.whole_shift))
        })
    }

    /// Makes `find` return slot `index` for `stream`, or for no stream.
    pub(super) fn set_owner(&self, index: usize, stream: Option<StreamId>) {
        let owner = stream.map_or(UNBOUND, StreamId::as_u64);
        self.owners[index].store(owner, Ordering::Relaxed);
        self.shown.show(index, owner);
    }

    /// Makes `find` return slot `index` again, after the race detector was switched off.
    pub(super) fn show(&self, index: usize) {
        self.shown.show(index, self.owners[index].load(Ordering::Relaxed));
    }

    /// Iterates over the slots that are bound to a stream, in the order in which they were first bound. This order is
    /// the same in every run of a program; slot numbers are not, because they follow from stream numbers. Under the
    /// pool's mutex the list is complete, and all other slots have no free memory.
    pub(super) fn bound(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let bound = |index: &usize| self.owners[*index].load(Ordering::Relaxed) != UNBOUND;
        self.made_in_order.iter().filter(bound).filter_map(|index| Some((index, self.get(index)?)))
    }

    /// Iterates over all slots that were ever bound, by number. This is the order in which several slots may be locked.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.made.iter().enumerate().flat_map(move |(word, made)| {
            let made = made.load(Ordering::Relaxed);
            let bits = std::iter::successors(Some(made), |bits| Some(bits & bits.wrapping_sub(1)));
            bits.take_while(|&bits| bits != 0).filter_map(move |bits| {
                let index = word * 64 + bits.trailing_zeros() as usize;
                Some((index, self.get(index)?))
            })
        })
    }

    /// Locks two different slots, in the order of their numbers.
    pub(super) fn lock_both(&self, a: usize, b: usize) -> Option<(Guard<'_, StreamHeap>, Guard<'_, StreamHeap>)> {
        let (first, second) = (self.get(a.min(b))?.lock(), self.get(a.max(b))?.lock());
        Some(if a < b { (first, second) } else { (second, first) })
    }

    fn set(stream: StreamId) -> usize {
        // Not `%`, because there is only one set under loom.
        (stream.as_u64() as usize).rem_euclid(SETS) * WAYS
    }
}

/// A list of numbers. One thread at a time adds to it, and all threads read it.
#[derive(Debug)]
struct OnceList {
    numbers: Box<[std::sync::OnceLock<usize>]>,
}

impl OnceList {
    fn new(most: usize) -> Self {
        Self { numbers: (0..most).map(|_| std::sync::OnceLock::new()).collect() }
    }

    fn push(&self, number: usize) {
        let free = self.numbers.iter().find(|place| place.set(number).is_ok());
        debug_assert!(free.is_some(), "every slot is made once");
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.numbers.iter().map_while(|place| place.get().copied())
    }
}
