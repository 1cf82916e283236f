//! [`Simulator`]: creates and inspects a simulated machine.

use super::error::ProfileError;
use super::injection::FaultCall;
use super::journal::Record;
use super::live::LiveAllocations;
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
    pub fn profiles(&self) -> &[Profile] {
        &self.machine.profiles
    }

    /// Makes the `n`-th call of a kind from now fail before it does anything; the next call is number 1. Each planned
    /// failure happens once, and several can be planned.
    pub fn fail_nth(&self, kind: FaultCall, n: u64, code: CudaErrorCode) {
        self.machine.lock().injection.plan(kind, n, code);
    }

    /// Cancels the planned failures that have not happened yet.
    pub fn clear_faults(&self) {
        self.machine.lock().injection.clear();
    }

    /// Returns the number of planned failures that have not happened yet.
    pub fn pending_faults(&self) -> usize {
        self.machine.lock().injection.pending()
    }

    /// Returns the number of calls of a kind so far, failed calls included.
    pub fn calls(&self, kind: FaultCall) -> u64 {
        self.machine.lock().injection.calls(kind)
    }

    /// Returns the host's virtual time since the machine was created.
    pub fn clock(&self) -> Duration {
        Duration::from_nanos(self.machine.lock().now)
    }

    /// Advances the host's virtual clock by `time`, as if the host did other work. Devices work on meanwhile.
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
    pub fn discard(&self, ptr: *const u8, bytes: usize) -> Result<(), DriverError> {
        self.machine.discard(0, ptr as u64, bytes as u64)
    }

    /// Returns the locations of the pages of a range, after the work that is done so far. Returns `None` if the range
    /// is not within one allocation of the simulator.
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

    /// Returns the addresses at which the bytes of a range were mapped first. For
    /// aliases (`CudaVirtualResource::map_alias` of cumem), these are the original addresses, part by part. For any other
    /// range, the result is the range itself.
    pub fn first_addresses(&self, addr: u64, bytes: usize) -> Vec<Range<u64>> {
        let range = addr..addr.saturating_add(bytes as u64);
        let first_addresses = self.machine.lock().memory.first_addresses(&range);
        if first_addresses.is_empty() { vec![range] } else { first_addresses.into_vec() }
    }

    /// Returns the statistics of a device, or `None` if the device belongs to another machine.
    pub fn statistics(&self, device: DeviceId) -> Option<DeviceStatistics> {
        let state = self.machine.lock();
        state.devices.iter().find(|d| d.id == device).map(|d| d.statistics)
    }

    /// Returns the objects that were allocated or created and not yet freed or destroyed.
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

    /// Returns the largest number of bytes that were allocated at one time, over all kinds of memory. It counts bytes
    /// as requested. The period starts at the creation of the machine or at the last
    /// [`restart_peak`](Self::restart_peak).
    pub fn peak_bytes(&self) -> u64 {
        self.machine.lock().memory.live.peak()
    }

    /// Resets the peak to the bytes that are allocated now.
    pub fn restart_peak(&self) {
        self.machine.lock().memory.live.restart_peak();
    }

    /// Starts or stops taking snapshots of where all memory is. At most a few hundred are kept, spread over the time
    /// from now on.
    pub fn keep_snapshots(&self, on: bool) {
        self.machine.lock().keep_snapshots(on);
    }

    /// Returns the snapshots taken since the last call of this method, in order. The last one shows the present state.
    pub fn take_snapshots(&self) -> Vec<Snapshot> {
        self.machine.lock().take_snapshots()
    }

    /// Starts or stops the race detector. A race is two uses of the same bytes that nothing orders. For example, a
    /// block is reused on another stream without a wait. The detector does not know work that was enqueued before it
    /// started.
    ///
    /// The detector sees the ranges that kernels declare, copies, fills, host guards, and allocations and frees of the
    /// driver and of buffers. Its result does not depend on the order in which virtual time runs the work. It treats
    /// the host as one thread, whose calls are ordered as they arrive. It reports a use once for each stream that does
    /// not wait for it.
    pub fn detect_races(&self, on: bool) {
        self.machine.lock().detect_races(on);
    }

    /// Returns the races found since the last call of this method, in order; at most 1000.
    pub fn take_races(&self) -> Vec<Race> {
        self.machine.lock().take_races()
    }

    /// Returns a hash of everything that happened so far: allocations, operations, faults, transfers and their times.
    /// The same program on the same profiles produces the same hash.
    pub fn digest(&self) -> u64 {
        self.machine.lock().journal.digest()
    }

    /// Starts or stops recording what happens.
    pub fn record(&self, on: bool) {
        self.machine.lock().journal.record(on);
    }

    /// Returns the records since the last call of this method, in order.
    pub fn take_records(&self) -> Vec<Record> {
        self.machine.lock().journal.take()
    }
}
