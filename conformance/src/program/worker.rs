//! Runs operations on a resource, and counts them.

use super::counts::ExpectedCounts;
use super::op::Op;
use crate::broken::{Broken, Outcome, ensure};
use crate::contents::Contents;
use crate::live::{BlockId, LiveBlocks};
use cumem::{AllocError, Block, MemoryResource, Stream, layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state that the programs of several threads share.
pub(super) struct Shared<'a, R: MemoryResource> {
    pub(super) resource: &'a R,
    pub(super) contents: &'a Contents<R::Kind>,
    pub(super) live: Mutex<LiveBlocks>,
    /// Blocks that move from one thread to another; `None` if there is only one thread.
    pub(super) exchange: Option<Mutex<Vec<Live>>>,
}

/// Blocks that stay in the exchange, so that a thread rarely takes back the block that it just gave.
const IN_TRANSIT: usize = 16;

/// A live block.
#[derive(Debug)]
pub(super) struct Live {
    block: Block,
    /// Index of the stream that the block's last use was enqueued on. Workers that exchange blocks have the same
    /// streams.
    stream: usize,
    /// The serial of the pattern in the block.
    serial: u64,
}

impl<R: MemoryResource> Shared<'_, R> {
    /// Checks that no block is live, and returns the results of the pending verifications.
    /// Called after everything was freed and all streams are idle.
    pub(super) fn finish(&self) -> Outcome {
        let left = lock(&self.live).len();
        ensure!(left == 0, "{left} blocks were left after all were freed");
        self.contents.settle()
    }
}

/// Runs the program of one thread.
pub(super) struct Worker<'a, R: MemoryResource> {
    shared: &'a Shared<'a, R>,
    streams: &'a [Stream],
    live: Vec<Live>,
    counts: ExpectedCounts,
    next_serial: u64,
}

impl<'a, R: MemoryResource> Worker<'a, R> {
    /// Creates the worker. `number` is different for each worker of a run, so that their serials differ.
    pub(super) fn new(shared: &'a Shared<'a, R>, streams: &'a [Stream], number: u64) -> Self {
        Self { shared, streams, live: Vec::new(), counts: ExpectedCounts::default(), next_serial: (number << 40) + 1 }
    }

    /// Runs `ops`, frees the blocks that this worker holds and those in the exchange, and waits for its streams.
    pub(super) fn run(
        mut self,
        ops: impl Iterator<Item = Op>,
        mut observe: impl FnMut(&ExpectedCounts),
    ) -> Result<ExpectedCounts, Broken> {
        for (i, op) in ops.enumerate() {
            self.step(op).map_err(|broken| broken.at(format_args!("operation {i}, {op:?}")))?;
            observe(&self.counts);
        }
        if let Some(exchange) = &self.shared.exchange {
            for live in std::mem::take(&mut *lock(exchange)) {
                self.hold(live);
            }
        }
        while let Some(live) = self.live.pop() {
            let stream = live.stream;
            self.free(live, stream).map_err(|broken| broken.at("freeing what was left"))?;
            observe(&self.counts);
        }
        for stream in self.streams {
            stream.synchronize()?;
        }
        Ok(self.counts)
    }

    fn step(&mut self, op: Op) -> Outcome {
        match op {
            Op::Allocate { size, align, stream } => self.allocate(size, align, stream),
            Op::Deallocate { victim, stream } => match self.take(victim) {
                Some(live) => self.free(live, stream),
                None => Ok(()),
            },
            Op::Exchange { victim } => {
                self.exchange(victim);
                Ok(())
            }
            Op::Synchronize { stream } => Ok(self.streams[stream].synchronize()?),
        }
    }

    fn allocate(&mut self, size: usize, align: usize, stream: usize) -> Outcome {
        let on = &self.streams[stream];
        let layout =
            layout::aligned(size, align).map_err(|error| Broken::new("the request is not valid").because(error))?;
        let block = match self.shared.resource.allocate(on, layout) {
            Ok(block) => block,
            Err(error) if may_refuse(&error) => {
                self.counts.failures += 1;
                return Ok(());
            }
            Err(error) => {
                return Err(Broken::new(format!("{size} bytes aligned to {align} were refused")).because(error));
            }
        };
        ensure!(block.layout() == layout, "asked for {layout:?}, got a block of {:?}", block.layout());
        lock(&self.shared.live).enter(BlockId::of(&block))?;
        self.counts.allocated(size);
        let serial = self.next_serial;
        self.next_serial += 1;
        // SAFETY: `contents` is of the resource's kind; the block was just allocated on `on` and overlaps no other.
        unsafe { self.shared.contents.write(on, &block, serial) }?;
        self.live.push(Live { block, stream, serial });
        Ok(())
    }

    /// Verifies a block's contents and frees it on stream `on`.
    fn free(&mut self, Live { block, stream, serial }: Live, on: usize) -> Outcome {
        let (size, id, to) = (block.size(), BlockId::of(&block), &self.streams[on]);
        to.wait_for(&self.streams[stream])?;
        // SAFETY: `contents` is of the resource's kind; the block is live, `to` waits for its stream, and only this
        // worker uses it.
        unsafe { self.shared.contents.verify(to, &block, serial) }?;
        // Removed before the resource is called, because another thread may get the same address right after.
        lock(&self.shared.live).strike(id)?;
        // SAFETY: the block's uses were on `stream`, which `to` waits for, and on `to`; nothing else refers to it.
        unsafe { self.shared.resource.deallocate(to, block) }?;
        self.counts.freed(size);
        Ok(())
    }

    fn exchange(&mut self, victim: usize) {
        let Some(exchange) = &self.shared.exchange else { return };
        let Some(given) = self.take(victim) else { return };
        self.counts.freed(given.block.size());
        let mut exchange = lock(exchange);
        exchange.push(given);
        if exchange.len() > IN_TRANSIT {
            let taken = exchange.swap_remove(victim % IN_TRANSIT);
            self.hold(taken);
        }
    }

    /// Takes over a block that another worker may have allocated.
    fn hold(&mut self, live: Live) {
        self.counts.moved_in(live.block.size());
        self.live.push(live);
    }

    fn take(&mut self, victim: usize) -> Option<Live> {
        let index = victim.checked_rem(self.live.len())?;
        Some(self.live.swap_remove(index))
    }
}

/// Reports whether a program accepts this error: it may run out of memory, or request a larger alignment than is
/// supported.
fn may_refuse(error: &AllocError) -> bool {
    error.is_out_of_memory() || matches!(error, AllocError::UnsupportedAlignment { .. })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
