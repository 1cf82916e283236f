//! [`Player`]: runs one pass after another.

use crate::error::ReplayError;
use crate::figures::Pass;
use crate::trace::Trace;
use cumem::error::record_drop_error;
use cumem::{AllocError, Block, DeallocError, LayerExt, MemoryResource, Stream, layout};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Operations between two readings of the clock.
const CHUNK: usize = 4096;

/// The replay of a trace on a resource, with its streams and with slots for its live blocks.
///
/// A pass allocates no host memory itself. Dropping a player frees the blocks that are still live.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_replay::{Player, Trace};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,0\n1,1,free,0x100,1024,0\n";
/// let trace = Trace::parse(log.as_bytes(), "two lines")?;
/// let resource = CudaResource::new(&Device::simulated(Profile::default())?);
/// let mut player = Player::new(&trace, &resource)?;
/// for _ in 0..3 {
///     println!("{:.0} ns per operation", player.pass(|_| ())?.ns_per_operation());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Player<'a, R: MemoryResource + ?Sized> {
    trace: &'a Trace,
    resource: &'a R,
    streams: Vec<Stream>,
    /// The live blocks, by slot. A slot is `None` if no block is live, or if the allocation ran out of memory.
    slots: Vec<Option<Block>>,
}

impl<'a, R: MemoryResource + ?Sized> Player<'a, R> {
    /// Creates the player and its streams, on the device of `resource`.
    ///
    /// # Errors
    ///
    /// Returns [`ReplayError::Device`] if a stream cannot be created.
    pub fn new(trace: &'a Trace, resource: &'a R) -> Result<Self, ReplayError> {
        let device = resource.device();
        let streams = trace.streams().iter().map(|_| Stream::new(device)).collect::<Result<_, _>>()?;
        let slots = (0..trace.slots).map(|_| None).collect();
        Ok(Self { trace, resource, streams, slots })
    }

    /// Makes every operation of the trace once, then frees the blocks that the trace never frees and waits for the
    /// streams. The reported time is that of the operations alone.
    ///
    /// `progress` is called from time to time, outside of the measured time, with the number of operations made so far.
    ///
    /// # Errors
    ///
    /// - Returns [`ReplayError::Allocate`] if an allocation fails for another reason than running out of memory.
    /// - Returns [`ReplayError::Deallocate`] if the resource does not take a block back.
    /// - Returns [`ReplayError::Device`] if a stream reports an error.
    ///
    /// The first two name the line. Blocks that are live then are freed when the player is dropped.
    pub fn pass(&mut self, mut progress: impl FnMut(usize)) -> Result<Pass, ReplayError> {
        let trace = self.trace;
        let mut pass = Pass { operations: 0, elapsed: Duration::ZERO, out_of_memory: 0 };
        let mut crossings = trace.crossings.iter().peekable();
        let mut done = 0;
        while done < trace.ops.len() {
            if let Some(crossing) = crossings.next_if(|crossing| crossing.at == done) {
                // The block was allocated on another stream. The logged program made this stream wait for that one, so
                // the wait is not part of the resource's time.
                let stream = trace.ops[done].stream as usize;
                self.streams[stream].wait_for(&self.streams[crossing.from as usize])?;
            }
            let next_crossing = crossings.peek().map_or(usize::MAX, |crossing| crossing.at);
            let end = (done + CHUNK).min(trace.ops.len()).min(next_crossing);
            let start = Instant::now();
            self.run(done..end, &mut pass)?;
            pass.elapsed += start.elapsed();
            done = end;
            progress(done);
        }
        self.free_leftover()?;
        for stream in &self.streams {
            stream.synchronize()?;
        }
        Ok(pass)
    }

    fn run(&mut self, operations: Range<usize>, pass: &mut Pass) -> Result<(), ReplayError> {
        let first = operations.start;
        for (index, op) in self.trace.ops[operations].iter().enumerate() {
            let stream = &self.streams[op.stream as usize];
            let slot = &mut self.slots[op.slot as usize];
            if let Some(size) = op.allocates() {
                match layout::bytes(size).map_err(AllocError::from).and_then(|it| self.resource.allocate(stream, it)) {
                    Ok(block) => *slot = Some(block),
                    Err(error) if error.is_out_of_memory() => pass.out_of_memory += 1,
                    Err(source) => {
                        let (trace, line) = self.place(first + index);
                        return Err(ReplayError::Allocate { trace, line, size, source });
                    }
                }
            } else {
                // If the allocation ran out of memory, there is no block to free.
                let Some(block) = slot.take() else { continue };
                // SAFETY: no work ever used the block; it was allocated on this stream, or this stream waits for that
                // one.
                if let Err(DeallocError { block, reason, .. }) = unsafe { self.resource.deallocate(stream, block) } {
                    *slot = Some(block);
                    let (trace, line) = self.place(first + index);
                    return Err(ReplayError::Deallocate { trace, line, source: reason });
                }
            }
            pass.operations += 1;
        }
        Ok(())
    }

    #[cold]
    fn place(&self, operation: usize) -> (String, u64) {
        (self.trace.name().into(), self.trace.line(operation))
    }

    fn free_leftover(&mut self) -> Result<(), ReplayError> {
        for live in &self.trace.leftover {
            let slot = &mut self.slots[live.slot as usize];
            let Some(block) = slot.take() else { continue };
            // SAFETY: no work ever used the block, and it was allocated on this stream.
            let freed = unsafe { self.resource.deallocate(&self.streams[live.stream as usize], block) };
            if let Err(DeallocError { block, reason, .. }) = freed {
                *slot = Some(block);
                let trace = self.trace.name().into();
                return Err(ReplayError::Deallocate { trace, line: live.line, source: reason });
            }
        }
        Ok(())
    }
}

impl<R: MemoryResource + ?Sized> Drop for Player<'_, R> {
    fn drop(&mut self) {
        if self.slots.iter().all(Option::is_none) {
            return;
        }
        // A pass failed. All streams are synchronized, so that the blocks can be freed on any of them.
        for stream in &self.streams {
            record_drop_error("a replayed stream", stream.synchronize());
        }
        for block in self.slots.iter_mut().filter_map(Option::take) {
            // SAFETY: no work ever used the block, and the work of all streams has ended.
            let freed = unsafe { self.resource.deallocate(&self.streams[0], block) };
            record_drop_error("a replayed block", freed);
        }
    }
}
