//! [`LiveAllocations`]: the allocated memory at one moment, and [`LiveCount`]: the running counts, with their peak.
#![forbid(unsafe_code)]

use super::memory::{Allocation, AllocationKind, Origin};
use cumem_driver::Plural;
use std::fmt;

/// Blocks and their bytes, as requested.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{Live, Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// let _memory = [sim.allocate_device(0, 1000)?, sim.allocate_device(0, 24)?];
/// assert_eq!(sim.live_allocations().device, Live { blocks: 2, bytes: 1024 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes as requested.
    pub bytes: u64,
}

/// The objects that were allocated from the driver and not freed.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// let _memory = sim.allocate_managed(0, 4096)?;
/// let live = sim.live_allocations();
/// assert_eq!(live.bytes(), 4096);
/// assert_eq!(live.to_string(), "4096 bytes of unified memory in 1 block");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LiveAllocations {
    /// Device memory (`cuMemAlloc`).
    pub device: Live,
    /// Unified (managed) memory (`cuMemAllocManaged`).
    pub managed: Live,
    /// Pinned host memory (`cuMemAllocHost`).
    pub pinned: Live,
    /// Blocks of stream-ordered pools (`cuMemAllocFromPoolAsync`).
    pub stream_ordered: Live,
    /// Memory mapped at reserved addresses (`cuMemMap`).
    pub mapped: Live,
    /// Memory of the system's allocator that devices can access (`calloc`).
    pub system: Live,
    /// Memory of the program that is registered (`cuMemHostRegister`). A registration uses no further memory.
    pub registered: Live,
    /// Further mappings of memory that is mapped already, by piece (`cuMemMap`). Such mappings use addresses, and no
    /// memory.
    pub aliased: Live,
    /// Reserved addresses (`cuMemAddressReserve`), which use no memory.
    pub reserved: Live,
    /// Number of streams that were created and not destroyed.
    pub streams: u64,
    /// Number of events that were created and not destroyed.
    pub events: u64,
    /// Number of memory pools of the driver that were created and not destroyed.
    pub pools: u64,
    /// Number of graphs and executable graphs that were created and not destroyed.
    pub graphs: u64,
}

impl LiveAllocations {
    /// Reports whether no memory is allocated. Streams, events, pools and addresses do not count.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::Driver;
    /// # use cumem_sim::{Profile, Simulator};
    /// let sim = Simulator::new([Profile::default()])?;
    /// let _stream = sim.create_stream(0, false)?;
    /// assert!(sim.live_allocations().no_memory()); // a stream is no memory
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn no_memory(&self) -> bool {
        self.memory().iter().all(|(_, live)| live.blocks == 0)
    }

    /// Returns the allocated bytes over all kinds of memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::Driver;
    /// # use cumem_sim::{Profile, Simulator};
    /// let sim = Simulator::new([Profile::default()])?;
    /// let _memory = (sim.allocate_device(0, 1000)?, sim.allocate_pinned(0, 24)?);
    /// assert_eq!(sim.live_allocations().bytes(), 1024);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> u64 {
        self.memory().iter().map(|(_, live)| live.bytes).sum()
    }

    fn memory(&self) -> [(&'static str, Live); 6] {
        [
            ("device memory", self.device),
            ("unified memory", self.managed),
            ("pinned memory", self.pinned),
            ("stream-ordered memory", self.stream_ordered),
            ("mapped memory", self.mapped),
            ("system memory", self.system),
        ]
    }
}

/// Writes, for example, `4096 bytes of device memory in 1 block, 2 streams`, or `nothing`.
impl fmt::Display for LiveAllocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let addresses = [
            ("registered memory", self.registered),
            ("further addresses of mapped memory", self.aliased),
            ("reserved addresses", self.reserved),
        ];
        for (what, live) in self.memory().into_iter().chain(addresses) {
            if live.blocks > 0 {
                parts.push(format!("{} of {what} in {}", Plural(live.bytes, "byte"), Plural(live.blocks, "block")));
            }
        }
        let objects = [("stream", self.streams), ("event", self.events), ("pool", self.pools), ("graph", self.graphs)];
        for (what, count) in objects {
            if count > 0 {
                parts.push(Plural(count, what).to_string());
            }
        }
        f.write_str(if parts.is_empty() { "nothing".into() } else { parts.join(", ") }.as_str())
    }
}

/// One block that was allocated from the driver and not freed.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// let memory = sim.allocate_device(0, 1000)?;
/// let [block] = sim.live_blocks()[..] else { panic!("one block is live") };
/// assert_eq!((block.addr, block.bytes), (memory.as_ptr() as u64, 1000));
/// assert_eq!(block.to_string(), format!("1000 bytes of device memory at {:#x}", block.addr));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct LiveBlock {
    /// The address of the first byte.
    pub addr: u64,
    /// Bytes as requested.
    pub bytes: u64,
    /// The ordinal of the device that the block was allocated on.
    pub device: u32,
    /// The kind of the memory, for example `device memory`.
    pub memory: &'static str,
}

impl fmt::Display for LiveBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} at {:#x}", Plural(self.bytes, "byte"), self.memory, self.addr)
    }
}

impl LiveBlock {
    /// Returns the block of an allocation, or `None` if the allocation is no memory of its own: a segment belongs to a
    /// pool, whose blocks count instead, and an alias takes only addresses.
    pub(super) fn of(addr: u64, of: &Allocation) -> Option<Self> {
        let memory = match (of.kind, of.origin) {
            (AllocationKind::Alias(_) | AllocationKind::Segment(_), _) | (_, Origin::Pool(_)) => return None,
            (_, Origin::System) => "system memory",
            (_, Origin::Registered) => "registered memory",
            (AllocationKind::Device, _) => "device memory",
            (AllocationKind::Managed(_), _) => "unified memory",
            (AllocationKind::Pinned, _) => "pinned memory",
            (AllocationKind::Mapped(_), _) => "mapped memory",
        };
        Some(Self { addr, bytes: of.bytes, device: of.device, memory })
    }

    pub(super) fn stream_ordered(addr: u64, device: u32, bytes: u64) -> Self {
        Self { addr, bytes, device, memory: "stream-ordered memory" }
    }
}

/// Running counts of memory. Streams, events and pools are counted in their own tables.
#[derive(Debug, Default)]
pub(super) struct LiveCount {
    now: LiveAllocations,
    peak: u64,
}

impl LiveCount {
    pub(super) fn now(&self) -> LiveAllocations {
        self.now
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    pub(super) fn restart_peak(&mut self) {
        self.peak = self.now.bytes();
    }

    /// Counts an allocation of the driver (`blocks` is 1) or its end (`blocks` is -1).
    pub(super) fn count(&mut self, of: &Allocation, blocks: i64) {
        let live = match (of.kind, of.origin) {
            // A segment belongs to a pool, whose blocks are counted instead.
            (AllocationKind::Segment(_), _) | (_, Origin::Pool(_)) => return,
            (_, Origin::System) => &mut self.now.system,
            (_, Origin::Registered) => &mut self.now.registered,
            (AllocationKind::Device, _) => &mut self.now.device,
            (AllocationKind::Managed(_), _) => &mut self.now.managed,
            (AllocationKind::Pinned, _) => &mut self.now.pinned,
            (AllocationKind::Mapped(_), _) => &mut self.now.mapped,
            (AllocationKind::Alias(_), _) => &mut self.now.aliased,
        };
        change(live, blocks, of.bytes);
        self.peak = self.peak.max(self.now.bytes());
    }

    /// Does the same for a block of a stream-ordered pool.
    pub(super) fn count_stream_ordered(&mut self, blocks: i64, bytes: u64) {
        change(&mut self.now.stream_ordered, blocks, bytes);
        self.peak = self.peak.max(self.now.bytes());
    }

    /// Does the same for reserved addresses.
    pub(super) fn count_reserved(&mut self, blocks: i64, bytes: u64) {
        change(&mut self.now.reserved, blocks, bytes);
    }
}

fn change(live: &mut Live, blocks: i64, bytes: u64) {
    live.blocks = live.blocks.wrapping_add_signed(blocks);
    live.bytes = live.bytes.wrapping_add_signed(blocks * bytes as i64);
}
