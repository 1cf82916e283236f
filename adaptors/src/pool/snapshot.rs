//! [`PoolSnapshot`]: every piece of a pool's memory at one moment, to draw or count.

use super::classes::Classes;
use super::state::PoolState;
use super::stats::{Bytes, PoolStats, of_stream};
use super::units::UNIT;
use cumem::device::StreamId;
use cumem::error::{Plural, SizeClass, StreamStats};
use std::fmt;

/// All of a pool's memory at one moment, piece by piece.
///
/// `Display` writes the sums, a line for each stream and each size class, and a map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolSnapshot {
    /// The sums at the same moment.
    pub stats: PoolStats,
    /// The memory of each stream, in the order of the pool's table.
    pub streams: Vec<StreamStats>,
    /// The pieces by address. A stitched piece is listed at its second address. The pieces do not overlap, and together
    /// they are the reserved memory.
    pub regions: Vec<PoolRegion>,
}

/// A piece of a pool's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolRegion {
    /// The address of its first byte.
    pub addr: u64,
    /// The size in bytes.
    pub bytes: usize,
    /// Its state.
    pub state: RegionState,
    /// The stream under which the piece is counted ([`StreamStats`]), if it is live or cached.
    pub stream: Option<StreamId>,
}

/// The state of a piece of a pool's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegionState {
    /// A live block.
    Live,
    /// Free, and kept for one stream.
    Cached,
    /// Free for every stream at once.
    Free,
    /// Free, and not given to any stream yet: unified (managed) memory without pages.
    Untouched,
    /// Free, but work on it is not done: a stream has to wait for that work.
    Pending,
}

impl PoolSnapshot {
    /// Returns the live blocks by size, from the smallest. Sizes that no block has are left out.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{PoolOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &pool)?;
    /// let classes = pool.snapshot().classes();
    /// assert_eq!((classes.len(), classes[0].at_most, classes[0].blocks), (1, 1024, 1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn classes(&self) -> Vec<SizeClass> {
        let mut classes = Classes::default();
        let live = self.regions.iter().filter(|region| region.state == RegionState::Live);
        live.for_each(|region| classes.count((region.bytes / UNIT) as u32));
        classes.counted()
    }
}

impl PoolState {
    /// Returns all of the pool's memory, piece by piece. Other calls of the pool may block meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, LayerExt, Stream};
    /// # use cumem_adaptors::pool::RegionState;
    /// # use cumem_adaptors::{PoolOptions, PoolState, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.statistics();
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
    /// let snapshot = stack.find::<PoolState>().unwrap().snapshot();
    /// let live = snapshot.regions.iter().filter(|region| region.state == RegionState::Live);
    /// assert_eq!(live.map(|region| region.bytes).sum::<usize>(), 1024); // rounded up
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> PoolSnapshot {
        // Memory enters and leaves the arena only under the pool's mutex. The slots therefore need not be locked while
        // the arena is read, whose fences query the driver.
        let shared = self.lock();
        let (mut streams, mut regions) = (Vec::new(), Vec::new());
        let stats = self.stats_while_locked(&shared, |slot, stream_heap| {
            let Some(own) = of_stream(slot, stream_heap) else { return };
            streams.push(own);
            regions.extend(stream_heap.heap.pieces().map(|(addr, units, live)| {
                let state = if live { RegionState::Live } else { RegionState::Cached };
                PoolRegion::new(addr, u64::from(units), state, own.stream)
            }));
        });
        regions.extend(shared.arena.pieces().map(|(addr, units, ready)| {
            let state = if ready { RegionState::Free } else { RegionState::Pending };
            PoolRegion::new(addr, units, state, None)
        }));
        let untouched = shared.chunks.untouched.iter();
        regions.extend(
            untouched.map(|(part, _)| PoolRegion::new(part.start, part.end - part.start, RegionState::Untouched, None)),
        );
        drop(shared);
        regions.sort_unstable_by_key(|region| region.addr);
        PoolSnapshot { stats, streams, regions }
    }
}

impl PoolRegion {
    fn new(addr: u64, units: u64, state: RegionState, stream: Option<StreamId>) -> Self {
        Self { addr: addr * UNIT as u64, bytes: units as usize * UNIT, state, stream }
    }

    fn end(&self) -> u64 {
        self.addr + self.bytes as u64
    }
}

impl fmt::Display for PoolSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stats)?;
        for own in &self.streams {
            match own.stream {
                Some(stream) => write!(f, "\nstream {}", stream.as_u64())?,
                None => write!(f, "\na stream that was dropped")?,
            }
            let (allocated, cached) = (Bytes(own.allocated), Bytes(own.cached));
            write!(f, ": {allocated} in {}, {cached} cached", Plural(own.blocks, "block"))?;
        }
        for class in self.classes() {
            let blocks = Plural(class.blocks, "block");
            write!(f, "\nup to {}: {blocks}, {}", Bytes(class.at_most), Bytes(class.bytes))?;
        }
        self.regions.chunk_by(|a, b| a.end() == b.addr).try_for_each(|run| write_map(f, run))
    }
}

/// Writes one line for adjacent pieces: `#` where all memory is live, `.` where none is, `+` for both.
fn write_map(f: &mut fmt::Formatter<'_>, run: &[PoolRegion]) -> fmt::Result {
    const CELLS: u64 = 64;
    let (start, end) = (run[0].addr, run[run.len() - 1].end());
    let cell = (end - start).div_ceil(CELLS).next_multiple_of(UNIT as u64);
    write!(f, "\n{start:#x}, {} a mark: ", Bytes(cell as usize))?;
    let mut from = 0;
    for at in (start..end).step_by(cell as usize) {
        let to = (at + cell).min(end);
        from += run[from..].iter().take_while(|region| region.end() <= at).count();
        let mut within = run[from..].iter().take_while(|region| region.addr < to);
        let first = within.next().is_some_and(|region| region.state == RegionState::Live);
        let same = within.all(|region| (region.state == RegionState::Live) == first);
        f.write_str(if !same {
            "+"
        } else if first {
            "#"
        } else {
            "."
        })?;
    }
    Ok(())
}
