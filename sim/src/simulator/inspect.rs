//! The present state of a machine: the location of memory, live allocations, and counters.

use super::Simulator;
use crate::live::{LiveAllocations, LiveBlock};
use crate::memory::AllocationKind;
use crate::statistics::DeviceStatistics;
use crate::uvm::pages_of;
use cumem_driver::{DeviceId, Location, Residency};
use std::ops::Range;

impl Simulator {
    /// Returns the locations of the pages of a range, after the work that is done so far. Returns `None` if the range
    /// is not within one allocation of the simulator.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{Driver, Location};
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let stream = sim.create_stream(0, false)?;
    /// let memory = sim.allocate_managed(0, 4 << 20)?;
    /// // SAFETY: the stream and the memory are live.
    /// unsafe { sim.prefetch(0, memory.as_ptr(), 2 << 20, sim.device_id(0).into(), stream) }?;
    /// sim.synchronize_device(0)?;
    ///
    /// let residency = sim.residency(memory.as_ptr(), 4 << 20).expect("memory of this simulator");
    /// assert_eq!(residency.on(sim.device_id(0)), 2 << 20);
    /// assert_eq!(residency.on(Location::Host), 0);
    /// assert_eq!(residency.nowhere(), 2 << 20, "no processor has accessed the second half");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn residency(&self, ptr: *const u8, bytes: usize) -> Option<Residency> {
        let state = self.machine.lock();
        let memory = state.memory.find(ptr as u64, bytes as u64).ok()?;
        let mut at: Vec<_> = vec![(Location::Host, 0)];
        at.extend(state.devices.iter().map(|device| (Location::Device(device.id), 0)));
        let nowhere = match memory.kind {
            AllocationKind::Managed(range) => {
                let (by_processor, nowhere) = state.space.resident_bytes(range, pages_of(memory.offset, bytes as u64));
                at.iter_mut().zip(by_processor).for_each(|(at, bytes)| at.1 = bytes);
                nowhere
            }
            kind => {
                let index = if kind == AllocationKind::Pinned { 0 } else { memory.device as usize + 1 };
                at[index].1 = bytes as u64;
                0
            }
        };
        Some(Residency::new(at, nowhere))
    }

    /// Returns the addresses at which the bytes of a range were mapped first. For aliases
    /// (`CudaVirtualResource::map_alias` of cumem), these are the original addresses, part by part. For any other
    /// range, the result is the range itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let granule = sim.mapping_granularity(0)?;
    /// let addresses = sim.reserve_addresses(0, 2 * granule)?;
    /// let second = addresses.map_addr(|addr| addr.saturating_add(granule));
    /// // SAFETY: the range is reserved, and nothing is mapped in it.
    /// unsafe { sim.map(0, addresses, granule) }?;
    /// // SAFETY: the piece is what `map` mapped, and nothing is mapped at `second`.
    /// unsafe { sim.map_again(0, second, &[(addresses, granule)]) }?;
    ///
    /// let (first, alias) = (addresses.as_ptr() as u64, second.as_ptr() as u64);
    /// assert_eq!(sim.first_addresses(alias, 100), [first..first + 100]);
    /// assert_eq!(sim.first_addresses(first, 100), [first..first + 100]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn first_addresses(&self, addr: u64, bytes: usize) -> Vec<Range<u64>> {
        let range = addr..addr.saturating_add(bytes as u64);
        let first_addresses = self.machine.lock().memory.first_addresses(&range);
        if first_addresses.is_empty() { vec![range] } else { first_addresses.into_vec() }
    }

    /// Returns the statistics of a device, or `None` if the device belongs to another machine.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{AccessMode, Driver};
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let memory = sim.allocate_managed(0, 1 << 20)?;
    /// sim.access_from_host(memory.as_ptr(), 1 << 20, AccessMode::Write)?;
    /// let statistics = sim.statistics(sim.device_id(0)).expect("a device of this simulator");
    /// assert!(statistics.host_faults > 0);
    ///
    /// let other = Simulator::new([Profile::h100_pcie5()])?;
    /// assert_eq!(sim.statistics(other.device_id(0)), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics(&self, device: DeviceId) -> Option<DeviceStatistics> {
        let state = self.machine.lock();
        state.devices.iter().find(|d| d.id == device).map(|d| d.statistics)
    }

    /// Returns the blocks of memory that were allocated and not yet freed, in ascending order of their addresses.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let memory = sim.allocate_pinned(0, 4096)?;
    /// assert_eq!(sim.live_blocks()[0].memory, "pinned memory");
    /// // SAFETY: no work uses the memory.
    /// unsafe { sim.free_pinned(0, memory) }?;
    /// assert!(sim.live_blocks().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn live_blocks(&self) -> Vec<LiveBlock> {
        let state = self.machine.lock();
        let pools = state.pools.iter().flat_map(|(_, pool)| pool.live_blocks());
        let mut blocks: Vec<_> = state.memory.live_blocks().chain(pools).collect();
        blocks.sort_unstable();
        blocks
    }

    /// Returns the objects that were allocated or created and not yet freed or destroyed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let memory = sim.allocate_device(0, 4096)?;
    /// let _stream = sim.create_stream(0, false)?;
    /// assert_eq!(sim.live_allocations().device.bytes, 4096);
    /// // SAFETY: no work uses the memory.
    /// unsafe { sim.free(0, memory) }?;
    /// assert!(sim.live_allocations().no_memory());
    /// assert_eq!(sim.live_allocations().to_string(), "1 stream");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn live_allocations(&self) -> LiveAllocations {
        let state = self.machine.lock();
        let own: usize = state.devices.iter().map(|device| 1 + device.per_thread.len()).sum();
        let closing = state.streams.iter().filter(|(_, stream)| stream.closing || stream.internal).count();
        // No program created the default pools of a device.
        let open_pools = state.pools.iter().filter(|(_, pool)| !pool.closing && !pool.is_default).count();
        LiveAllocations {
            streams: (state.streams.len() - own - closing) as u64,
            events: state.events.len() as u64,
            pools: open_pools as u64,
            graphs: (state.graphs.len() + state.graph_execs.len()) as u64,
            ..state.memory.live.now()
        }
    }

    /// Returns the largest number of bytes that were allocated at one time, over all kinds of memory. The peak counts
    /// bytes as requested. The period starts at the creation of the machine or at the last
    /// [`restart_peak`](Self::restart_peak).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let memory = sim.allocate_device(0, 1 << 20)?;
    /// // SAFETY: no work uses the memory.
    /// unsafe { sim.free(0, memory) }?;
    /// let _memory = sim.allocate_pinned(0, 4096)?;
    /// assert_eq!(sim.peak_bytes(), 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peak_bytes(&self) -> u64 {
        self.machine.lock().memory.live.peak()
    }

    /// Resets the peak to the bytes that are allocated now.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let memory = sim.allocate_device(0, 1 << 20)?;
    /// // SAFETY: no work uses the memory.
    /// unsafe { sim.free(0, memory) }?;
    /// sim.restart_peak();
    /// assert_eq!(sim.peak_bytes(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restart_peak(&self) {
        self.machine.lock().memory.live.restart_peak();
    }
}
