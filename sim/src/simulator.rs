//! [`Simulator`]: a simulated machine, to make devices of and to look into.

use super::error::ProfileError;
use super::injection::FaultCall;
use super::journal::Record;
use super::live::LiveAllocations;
use super::machine::Machine;
use super::memory::Kind;
use super::operations::pages;
use super::profile::Profile;
use super::races::Race;
use super::snapshots::Snapshot;
use super::statistics::DeviceStatistics;
use cumem_driver::{AccessMode, CudaErrorCode, DeviceId, DriverError, Location, Residency};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A simulated machine. A shared handle: clones are the same machine, which lives as long as a handle or a
/// device of it.
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
        // The bookkeeping of managed memory has one bit of a word for each device, and one for the host.
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

    /// The profiles that it was made with, by device.
    pub fn profiles(&self) -> &[Profile] {
        &self.machine.profiles
    }

    /// Makes the `n`-th call of a kind from now fail (the next one is 1), before it does anything.
    /// Failures add up; each happens once.
    pub fn fail_nth(&self, kind: FaultCall, n: u64, code: CudaErrorCode) {
        self.machine.look().injection.plan(kind, n, code);
    }

    /// Forgets failures that have not happened yet.
    pub fn clear_faults(&self) {
        self.machine.look().injection.clear();
    }

    /// Failures that were asked for and have not happened yet.
    pub fn faults_to_come(&self) -> usize {
        self.machine.look().injection.to_come()
    }

    /// Calls of a kind so far, failed ones included.
    pub fn calls(&self, kind: FaultCall) -> u64 {
        self.machine.look().injection.calls(kind)
    }

    /// The host's virtual time since the machine was made.
    pub fn clock(&self) -> Duration {
        Duration::from_nanos(self.machine.look().now)
    }

    /// Lets the host do something else for a while, in virtual time.
    pub fn pass_time(&self, time: Duration) {
        let mut state = self.machine.look();
        // At most a century, so that the clock never runs over.
        let most = 100 * 365 * 24 * 3600 * 1_000_000_000_u64;
        state.now = state.now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(most).min(most));
    }

    /// The host reads or writes memory of this machine, in ascending order, as its own loads and stores do: pages that
    /// it cannot reach fault and move. Buffers do this in their guards; this is for programs that use raw pointers.
    ///
    /// # Errors
    ///
    /// [`DriverError::Simulation`] for what a real host would not survive: memory of a device, memory that was freed,
    /// unified memory while a device without concurrent managed access works.
    pub fn access_from_host(&self, ptr: *const u8, bytes: usize, mode: AccessMode) -> Result<(), DriverError> {
        self.machine.host_access(0, ptr as u64, bytes as u64, mode == AccessMode::Write)
    }

    /// Says that nobody needs what is in a range of unified memory any more, as `cuMemDiscardBatchAsync` of CUDA 13
    /// does, once all work enqueued so far is done: what is evicted or moved of it is not copied. The bytes themselves
    /// are kept, since nothing is promised of them. The next access of a page ends this for the page.
    ///
    /// # Errors
    ///
    /// `CUDA_ERROR_INVALID_VALUE` if the range is not within one allocation of unified memory;
    /// `CUDA_ERROR_NOT_SUPPORTED` if a device of the machine has no concurrent managed access.
    pub fn discard(&self, ptr: *const u8, bytes: usize) -> Result<(), DriverError> {
        self.machine.discard(0, ptr as u64, bytes as u64)
    }

    /// Where the pages of a range are, by the work that has been done; `None` if it is not within one
    /// allocation of the simulator.
    pub fn residency(&self, ptr: *const u8, bytes: usize) -> Option<Residency> {
        let state = self.machine.look();
        let place = state.memory.find(ptr as u64, bytes as u64).ok()?;
        let mut at: Vec<_> = vec![(Location::Host, 0)];
        at.extend(state.devices.iter().map(|device| (Location::Device(device.id), 0)));
        let nowhere = match place.kind {
            Kind::Managed(range) => {
                let (by_processor, nowhere) = state.space.resident_bytes(range, pages(place.offset, bytes as u64));
                at.iter_mut().zip(by_processor).for_each(|(at, bytes)| at.1 = bytes);
                nowhere
            }
            kind => {
                let index = if kind == Kind::Pinned { 0 } else { place.device as usize + 1 };
                at[index].1 = bytes as u64;
                0
            }
        };
        Some(Residency::new(at, nowhere))
    }

    /// The first addresses of the bytes of a range: those of [aliases](crate::CudaVirtualResource::map_alias), part by
    /// part, or the range itself where there are none.
    pub fn first_addresses(&self, addr: u64, bytes: usize) -> Vec<Range<u64>> {
        let range = addr..addr.saturating_add(bytes as u64);
        let homes = self.machine.look().memory.homes(&range);
        if homes.is_empty() { vec![range] } else { homes.into_vec() }
    }

    /// What a device has done; `None` for a device of another machine.
    pub fn statistics(&self, device: DeviceId) -> Option<DeviceStatistics> {
        let state = self.machine.look();
        state.devices.iter().find(|d| d.id == device).map(|d| d.statistics)
    }

    /// What was allocated and not given back.
    pub fn live_allocations(&self) -> LiveAllocations {
        let state = self.machine.look();
        let own: usize = state.devices.iter().map(|device| 1 + device.per_thread.len()).sum();
        let closing = state.streams.iter().filter(|(_, stream)| stream.closing).count();
        // Each device has one that was not created.
        let open_pools = state.pools.iter().filter(|(_, pool)| !pool.closing).count() - state.devices.len();
        LiveAllocations {
            streams: (state.streams.len() - own - closing) as u64,
            events: state.events.len() as u64,
            pools: open_pools as u64,
            ..state.memory.live.now()
        }
    }

    /// The most bytes of memory, of all kinds and as they were asked for, that were allocated at once since the machine
    /// was made or [`restart_peak`](Self::restart_peak) was called.
    pub fn peak_bytes(&self) -> u64 {
        self.machine.look().memory.live.peak()
    }

    /// Lets the peak begin anew, at what is allocated now.
    pub fn restart_peak(&self) {
        self.machine.look().memory.live.restart_peak();
    }

    /// Starts or ends keeping snapshots of where all memory is: a few hundred, spread over the time from now on.
    pub fn keep_snapshots(&self, on: bool) {
        self.machine.look().keep_snapshots(on);
    }

    /// The snapshots since the last time, in order; the last is of now.
    pub fn take_snapshots(&self) -> Vec<Snapshot> {
        self.machine.look().take_snapshots()
    }

    /// Starts or ends looking for races: uses of memory whose order nobody ensured, such as a block that goes on to
    /// another stream without a wait. What was enqueued before is not known to it.
    ///
    /// It sees what declared kernels, copies, fills and host guards use, and allocations and frees of the driver and of
    /// buffers, in whatever order virtual time happens to run them. It takes the host for one thread: calls are
    /// ordered as they come in. A use is reported once against each stream that does not wait for it.
    pub fn detect_races(&self, on: bool) {
        self.machine.look().detect_races(on);
    }

    /// The races that were found since the last time, in order; at most 1000.
    pub fn take_races(&self) -> Vec<Race> {
        self.machine.look().take_races()
    }

    /// A hash of all that happened so far: allocations, operations, faults, transfers and their times.
    /// The same program on the same profiles has the same.
    pub fn digest(&self) -> u64 {
        self.machine.look().journal.digest()
    }

    /// Starts or ends writing down what happens.
    pub fn record(&self, on: bool) {
        self.machine.look().journal.record(on);
    }

    /// What was written down since the last time, in order.
    pub fn take_records(&self) -> Vec<Record> {
        self.machine.look().journal.take()
    }
}
