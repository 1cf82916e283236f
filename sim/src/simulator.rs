//! [`Simulator`]: creates and inspects a simulated machine.

use super::error::ProfileError;
use super::injection::FaultCall;
use super::journal::Record;
use super::live::{LiveAllocations, LiveBlock};
use super::machine::Machine;
use super::memory::AllocationKind;
use super::profile::Profile;
use super::races::Race;
use super::snapshots::Snapshot;
use super::statistics::DeviceStatistics;
use super::uvm::pages_of;
use cumem_driver::{AccessMode, CudaErrorCode, DeviceId, DriverError, Location, Residency};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A shared handle to a simulated machine. Clones refer to the same machine. The machine lives as long as one of its
/// handles or devices.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// let stream = sim.create_stream(0, false)?;
/// let memory = sim.allocate_device(0, 4096)?;
/// // SAFETY: the stream and the memory are live, and nothing else uses them.
/// unsafe { sim.fill_async(0, memory.as_ptr(), 7, 4096, stream) }?;
/// // SAFETY: the stream is live.
/// unsafe { sim.synchronize_stream(0, stream) }?;
///
/// // The call took simulated time, the same in every run.
/// assert!(sim.clock().as_micros() > 0);
/// let statistics = sim.statistics(sim.device_id(0)).expect("a device of this simulator");
/// assert_eq!(statistics.filled, 4096);
/// # // SAFETY: all work is done, and nothing uses the memory or the stream any more.
/// # unsafe { sim.free(0, memory) }?;
/// # // SAFETY: as above.
/// # unsafe { sim.destroy_stream(0, stream) }?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Simulator {
    machine: Arc<Machine>,
}

impl Simulator {
    /// Creates a machine with one device for each profile, numbered in their order.
    ///
    /// # Errors
    ///
    /// Returns a [`ProfileError`] if there is no profile, if there are more than 63, or if a profile contradicts
    /// itself; the error then names the field.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_sim::{Profile, ProfileError, Simulator};
    ///
    /// let two_gpus = Simulator::new([Profile::h100_pcie5(), Profile::a100()])?;
    /// assert_eq!(two_gpus.profiles().len(), 2);
    ///
    /// let error = Simulator::new([]).unwrap_err();
    /// assert_eq!(error, ProfileError::NoDevice);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Result<Self, ProfileError> {
        let profiles: Vec<_> = profiles.into_iter().collect();
        if profiles.is_empty() {
            return Err(ProfileError::NoDevice);
        }
        // Sets of processors, which include the host, are bits of one 64-bit word.
        const MOST: usize = 63;
        if profiles.len() > MOST {
            return Err(ProfileError::TooManyDevices { devices: profiles.len(), most: MOST });
        }
        for (ordinal, profile) in (0..).zip(&profiles) {
            profile.check().map_err(|reason| ProfileError::Unsound { ordinal, reason })?;
        }
        Ok(Self { machine: Arc::new(Machine::new(profiles.into())) })
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the profiles of the devices, by ordinal.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::titanv()])?;
    /// assert_eq!(sim.profiles()[0].name, "titanv-pcie3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn profiles(&self) -> &[Profile] {
        &self.machine.profiles
    }

    /// Makes the `n`-th call of a kind from now fail before it does anything; the next call is number 1. Each planned
    /// failure happens once, and several can be planned.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{CudaErrorCode, Driver};
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.fail_nth(FaultCall::AllocateDevice, 2, CudaErrorCode::OUT_OF_MEMORY);
    ///
    /// assert!(sim.allocate_device(0, 4096).is_ok());
    /// let error = sim.allocate_device(0, 4096).unwrap_err();
    /// assert_eq!(error.code(), Some(CudaErrorCode::OUT_OF_MEMORY));
    /// assert!(sim.allocate_device(0, 4096).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_nth(&self, kind: FaultCall, n: u64, code: CudaErrorCode) {
        self.machine.lock().injection.plan(kind, n, code);
    }

    /// Cancels the planned failures that have not happened yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::CudaErrorCode;
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.fail_nth(FaultCall::Copy, 1, CudaErrorCode::UNKNOWN);
    /// sim.clear_faults();
    /// assert_eq!(sim.pending_faults(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear_faults(&self) {
        self.machine.lock().injection.clear();
    }

    /// Returns the number of planned failures that have not happened yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{CudaErrorCode, Driver};
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.fail_nth(FaultCall::AllocateDevice, 1, CudaErrorCode::UNKNOWN);
    /// assert_eq!(sim.pending_faults(), 1);
    /// assert!(sim.allocate_device(0, 4096).is_err());
    /// assert_eq!(sim.pending_faults(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pending_faults(&self) -> usize {
        self.machine.lock().injection.pending()
    }

    /// Returns the number of calls of a kind so far, failed calls included.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// assert_eq!(sim.calls(FaultCall::AllocateDevice), 1);
    /// assert_eq!(sim.calls(FaultCall::Copy), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn calls(&self, kind: FaultCall) -> u64 {
        self.machine.lock().injection.calls(kind)
    }

    /// Returns the host's virtual time since the machine was created.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// assert!(sim.clock().is_zero());
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// // `cuMemAlloc` takes 55.5 us by this profile.
    /// assert_eq!(sim.clock().as_nanos(), 55_500);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(&self) -> Duration {
        Duration::from_nanos(self.machine.lock().now)
    }

    /// Advances the host's virtual clock by `time`, as if the host did other work. Devices work on meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_sim::{Profile, Simulator};
    /// use std::time::Duration;
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.pass_time(Duration::from_millis(3));
    /// assert_eq!(sim.clock(), Duration::from_millis(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pass_time(&self, time: Duration) {
        let mut state = self.machine.lock();
        // At most a century, so that the clock never overflows.
        let most = 100 * 365 * 24 * 3600 * 1_000_000_000_u64;
        state.now = state.now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(most).min(most));
    }

    /// Simulates an access of the host to memory of this machine, in ascending order. Pages that the host cannot reach
    /// fault and migrate. Host guards of buffers do this themselves; programs that use raw pointers call this method.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::Simulation`] if the access would crash a real process. Examples are device memory, freed
    /// memory, and unified memory while a device without concurrent managed access has unfinished work.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{AccessMode, Driver, Location};
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let memory = sim.allocate_managed(0, 1 << 20)?;
    /// sim.access_from_host(memory.as_ptr(), 1 << 20, AccessMode::Write)?;
    /// let residency = sim.residency(memory.as_ptr(), 1 << 20).expect("memory of this simulator");
    /// assert_eq!(residency.on(Location::Host), 1 << 20);
    ///
    /// // A host access to device memory would crash a real process.
    /// let device_memory = sim.allocate_device(0, 4096)?;
    /// assert!(sim.access_from_host(device_memory.as_ptr(), 4096, AccessMode::Read).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn access_from_host(&self, ptr: *const u8, bytes: usize, mode: AccessMode) -> Result<(), DriverError> {
        self.machine.host_access(0, ptr as u64, bytes as u64, mode == AccessMode::Write)
    }

    /// Discards the contents of a range of unified memory, as `cuMemDiscardBatchAsync` of CUDA 13 does. The call first
    /// waits for all enqueued work.
    ///
    /// Pages of the range that are evicted or migrated later are not copied. A page is discarded until its next access.
    /// The model keeps the bytes, because CUDA promises nothing about their values.
    ///
    /// # Errors
    ///
    /// Returns `CUDA_ERROR_INVALID_VALUE` if the range is not within one allocation of unified memory, and
    /// `CUDA_ERROR_NOT_SUPPORTED` if a device of the machine has no concurrent managed access.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{AccessMode, Driver};
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let stream = sim.create_stream(0, false)?;
    /// let memory = sim.allocate_managed(0, 2 << 20)?;
    /// sim.access_from_host(memory.as_ptr(), 2 << 20, AccessMode::Write)?;
    /// sim.discard(memory.as_ptr(), 2 << 20)?;
    /// // SAFETY: the stream and the memory are live.
    /// unsafe { sim.prefetch(0, memory.as_ptr(), 2 << 20, sim.device_id(0).into(), stream) }?;
    /// sim.synchronize_device(0)?;
    ///
    /// let statistics = sim.statistics(sim.device_id(0)).expect("a device of this simulator");
    /// assert_eq!(statistics.migrated_to_device, 0, "discarded pages are not copied");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self, ptr: *const u8, bytes: usize) -> Result<(), DriverError> {
        self.machine.discard(0, ptr as u64, bytes as u64)
    }

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
        let closing = state.streams.iter().filter(|(_, stream)| stream.closing).count();
        // Each device has a default pool, which no program created.
        let open_pools = state.pools.iter().filter(|(_, pool)| !pool.closing).count() - state.devices.len();
        LiveAllocations {
            streams: (state.streams.len() - own - closing) as u64,
            events: state.events.len() as u64,
            pools: open_pools as u64,
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

    /// Starts or stops taking snapshots of where all memory is. At most a few hundred are kept, spread over the time
    /// from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.keep_snapshots(true);
    /// let _memory = sim.allocate_device(0, 1 << 20)?;
    /// assert!(!sim.take_snapshots().is_empty());
    ///
    /// sim.keep_snapshots(false);
    /// assert!(sim.take_snapshots().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_snapshots(&self, on: bool) {
        self.machine.lock().keep_snapshots(on);
    }

    /// Returns the snapshots taken since the last call of this method, in order. The last one shows the present state.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.keep_snapshots(true);
    /// let _memory = sim.allocate_device(0, 1 << 20)?;
    /// let snapshots = sim.take_snapshots();
    /// let last = snapshots.last().expect("the present state");
    /// assert_eq!((last.allocations[0].kind, last.allocations[0].bytes), ("device", 1 << 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_snapshots(&self) -> Vec<Snapshot> {
        self.machine.lock().take_snapshots()
    }

    /// Starts or stops the race detector. A race is two uses of the same bytes that nothing orders. For example, a
    /// block is reused on another stream without a wait. The detector does not know work that was enqueued before it
    /// started.
    ///
    /// The detector sees the ranges that kernels declare, copies, fills, host guards, and allocations and frees of the
    /// driver, of buffers and of pools. Its result does not depend on the order in which virtual time runs the work. It
    /// treats the host as one thread, whose calls are ordered as they arrive, because it cannot see how threads
    /// synchronize; but two host guards that exist at the same time are not ordered. It reports a use once for each
    /// stream that does not wait for it.
    ///
    /// A pool keeps the memory of its freed blocks, so the driver does not know that they are free. While the detector is
    /// on, pools therefore declare each block that they hand out and get back. A use of a freed block is reported even on
    /// the stream of the free, and so is a use that leaves its block. Blocks that were allocated before the detector
    /// started are not declared.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, RaceKind, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.detect_races(true);
    /// let [a, b] = [sim.create_stream(0, false)?, sim.create_stream(0, false)?];
    /// let memory = sim.allocate_device(0, 4096)?;
    /// // SAFETY: the streams and the memory are live. The two fills conflict, which affects only the bytes.
    /// unsafe { sim.fill_async(0, memory.as_ptr(), 1, 4096, a) }?;
    /// // SAFETY: as above.
    /// unsafe { sim.fill_async(0, memory.as_ptr(), 2, 4096, b) }?;
    ///
    /// let races = sim.take_races();
    /// assert_eq!(races.len(), 1, "stream `b` does not wait for stream `a`");
    /// assert_eq!(races[0].kind, RaceKind::Unordered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detect_races(&self, on: bool) {
        self.machine.lock().detect_races(on);
    }

    /// Returns the races found since the last call of this method, in order; at most 1000.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{AccessMode, Driver};
    /// use cumem_sim::{Profile, RaceKind, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.detect_races(true);
    /// let stream = sim.create_stream(0, false)?;
    /// let memory = sim.allocate_managed(0, 4096)?;
    /// // SAFETY: the stream and the memory are live.
    /// unsafe { sim.fill_async(0, memory.as_ptr(), 1, 4096, stream) }?;
    /// sim.access_from_host(memory.as_ptr(), 4096, AccessMode::Read)?;
    ///
    /// let races = sim.take_races();
    /// assert_eq!(races[0].kind, RaceKind::HostAccess, "the host did not wait for the stream");
    /// assert!(sim.take_races().is_empty(), "a race is returned once");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_races(&self) -> Vec<Race> {
        self.machine.lock().take_races()
    }

    /// Returns a hash of everything that happened so far: allocations, operations, faults, transfers and their times.
    /// The same program on the same profiles produces the same hash.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let run = |bytes| -> Result<u64, Box<dyn std::error::Error>> {
    ///     let sim = Simulator::new([Profile::h100_pcie5()])?;
    ///     let _memory = sim.allocate_device(0, bytes)?;
    ///     Ok(sim.digest())
    /// };
    /// assert_eq!(run(4096)?, run(4096)?);
    /// assert_ne!(run(4096)?, run(8192)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn digest(&self) -> u64 {
        self.machine.lock().journal.digest()
    }

    /// Starts or stops recording what happens.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.record(true);
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// assert_eq!(sim.take_records().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record(&self, on: bool) {
        self.machine.lock().journal.record(on);
    }

    /// Returns the records since the last call of this method, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{JournalEvent, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.record(true);
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// let records = sim.take_records();
    /// assert_eq!(records[0].event, JournalEvent::Allocated { allocation: 1, bytes: 4096 });
    /// assert_eq!(records[0].at, sim.clock());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_records(&self) -> Vec<Record> {
        self.machine.lock().journal.take()
    }
}
