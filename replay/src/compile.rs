//! Compiles rows to operations: pointers become slots, so that a replay needs no lookups.

use crate::error::Malformed;
use crate::format::{Action, Row};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// One call to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op {
    /// Bytes to allocate, or [`Op::FREE`].
    size: usize,
    /// Index of the slot that holds the block while it is live. Slots are reused, so that the few in use stay in cache.
    pub(crate) slot: u32,
    pub(crate) stream: u32,
}

impl Op {
    /// Marks a free. No layout can have this size.
    const FREE: usize = usize::MAX;

    /// Returns the bytes to allocate, or `None` if the operation frees.
    #[inline]
    pub(crate) fn allocates(self) -> Option<usize> {
        (self.size != Self::FREE).then_some(self.size)
    }
}

/// The line and thread that an operation was logged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) line: u64,
    /// Index of the logged thread.
    pub(crate) thread: u32,
}

/// A free on another stream than the block's. The logged program must have made that stream wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crossing {
    /// Index of the operation that frees.
    pub(crate) at: usize,
    /// The stream of the block's allocation.
    pub(crate) from: u32,
}

/// A block that is live at some point of the trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    pub(crate) size: usize,
    pub(crate) slot: u32,
    pub(crate) stream: u32,
    /// The line of the allocation.
    pub(crate) line: u64,
}

/// The result of compiling the rows so far.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    pub(crate) ops: Vec<Op>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) crossings: Vec<Crossing>,
    pub(crate) streams: Index<u64>,
    pub(crate) threads: Index<u64>,
    pub(crate) slots: u32,
    free_slots: Vec<u32>,
    live: HashMap<u64, Live>,
    /// Blocks of zero bytes. Several may share a pointer.
    empty: HashMap<u64, Vec<Live>>,
    live_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) failures: u64,
    /// Pointers that any row has allocated.
    known: HashSet<u64>,
    /// Frees of blocks that were allocated before the log began.
    pub(crate) frees_of_earlier: u64,
    /// Such a free is malformed.
    strict: bool,
}

impl Compiler {
    pub(crate) fn new(strict: bool) -> Self {
        Self { strict, ..Self::default() }
    }

    pub(crate) fn push(&mut self, line: u64, row: Row) -> Result<(), Malformed> {
        let thread = self.threads.of(row.thread).ok_or(Malformed::TooMany { what: "threads" })?;
        let size = match row.action {
            Action::Allocate => self.allocate(line, row)?,
            Action::Free if row.pointer == 0 && row.size == 0 && !self.empty.contains_key(&0) => return Ok(()),
            Action::Free if !self.strict && !self.known.contains(&row.pointer) => {
                self.frees_of_earlier += 1;
                return Ok(());
            }
            Action::Free => self.free(row)?,
            Action::Failure => {
                self.failures += 1;
                return Ok(());
            }
        };
        self.ops.push(size);
        self.origins.push(Origin { line, thread });
        Ok(())
    }

    fn allocate(&mut self, line: u64, row: Row) -> Result<Op, Malformed> {
        let size = size(row)?;
        if row.pointer == 0 && size != 0 {
            return Err(Malformed::NullPointer { size });
        }
        let stream = self.stream(row)?;
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None => {
                let next = self.slots.checked_add(1).ok_or(Malformed::TooMany { what: "live blocks" })?;
                std::mem::replace(&mut self.slots, next)
            }
        };
        self.known.insert(row.pointer);
        let live = Live { size, slot, stream, line };
        if size == 0 {
            self.empty.entry(row.pointer).or_default().push(live);
        } else {
            match self.live.entry(row.pointer) {
                Entry::Vacant(entry) => entry.insert(live),
                Entry::Occupied(entry) => {
                    let allocated_in = entry.get().line;
                    return Err(Malformed::AllocatedTwice { pointer: row.pointer, allocated_in });
                }
            };
        }
        self.live_bytes =
            self.live_bytes.checked_add(row.size).ok_or(Malformed::TooMany { what: "bytes live at once" })?;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        Ok(Op { size, slot, stream })
    }

    fn free(&mut self, row: Row) -> Result<Op, Malformed> {
        let (size, stream) = (size(row)?, self.stream(row)?);
        let live = match size {
            0 => self.take_empty(row.pointer),
            _ => None,
        };
        let live = live.or_else(|| self.live.remove(&row.pointer));
        let live = live.ok_or(Malformed::NotAllocated { pointer: row.pointer })?;
        if live.size != size {
            return Err(Malformed::SizeMismatch {
                pointer: row.pointer,
                allocated: live.size,
                freed: size,
                allocated_in: live.line,
            });
        }
        self.live_bytes -= row.size;
        self.free_slots.push(live.slot);
        if live.stream != stream {
            self.crossings.push(Crossing { at: self.ops.len(), from: live.stream });
        }
        Ok(Op { size: Op::FREE, slot: live.slot, stream })
    }

    fn take_empty(&mut self, pointer: u64) -> Option<Live> {
        let blocks = self.empty.get_mut(&pointer)?;
        let taken = blocks.pop();
        if blocks.is_empty() {
            self.empty.remove(&pointer);
        }
        taken
    }

    fn stream(&mut self, row: Row) -> Result<u32, Malformed> {
        self.streams.of(row.stream).ok_or(Malformed::TooMany { what: "streams" })
    }

    /// Returns the blocks that the trace never frees, in the order of their allocation.
    pub(crate) fn leftover(&self) -> Vec<Live> {
        let mut leftover = Vec::from_iter(self.live.values().chain(self.empty.values().flatten()).copied());
        leftover.sort_unstable_by_key(|live| live.line);
        leftover
    }
}

/// Returns the size of a row, if a layout can have it.
fn size(row: Row) -> Result<usize, Malformed> {
    usize::try_from(row.size).ok().filter(|&size| cumem::layout::bytes(size).is_ok()).ok_or_else(|| Malformed::Field {
        column: "Size",
        expected: "a size that memory can have",
        found: row.size.to_string(),
    })
}

/// Assigns numbers to values in the order in which they first appear.
#[derive(Debug)]
pub(crate) struct Index<T> {
    numbers: HashMap<T, u32>,
    pub(crate) things: Vec<T>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), things: Vec::new() }
    }
}

impl<T: Hash + Eq + Copy> Index<T> {
    /// Returns the number of `thing`, or `None` if there are too many values.
    fn of(&mut self, thing: T) -> Option<u32> {
        if let Some(&number) = self.numbers.get(&thing) {
            return Some(number);
        }
        let number = u32::try_from(self.things.len()).ok()?;
        self.numbers.insert(thing, number);
        self.things.push(thing);
        Some(number)
    }
}
