//! [`Machine`]: the devices of one simulator, and the state behind one lock.

use super::bytes;
use super::events::EventState;
use super::handles::{Handles, Key};
use super::injection::{FaultCall, Injection};
use super::journal::Journal;
use super::memory::Memory;
use super::pools::Pool;
use super::profile::Profile;
use super::races::Races;
use super::schedule::{Agenda, Engine, Turn};
use super::snapshots::Snapshots;
use super::statistics::DeviceStatistics;
use super::streams::{Mark, StreamState};
use super::uvm::{GpuConfig, Rules, Space};
use super::watchers::Watchers;
use cumem_driver::{AccessMode, CudaErrorCode, DeviceId, DriverError, Extension};
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A simulated machine.
#[derive(Debug)]
pub(super) struct Machine {
    id: u32,
    pub(super) profiles: Arc<[Profile]>,
    state: Mutex<State>,
    /// Notified when a kernel has ended, which other threads may wait for.
    progress: Condvar,
    pub(super) extension: Extension,
}

/// The mutable state of a machine.
#[derive(Debug)]
pub(super) struct State {
    /// The profiles of the machine's devices.
    pub(super) profiles: Arc<[Profile]>,
    /// The host's clock, in nanoseconds.
    pub(super) now: u64,
    /// Virtual time up to which the work of devices is done, in nanoseconds. It is never later than `now`, except while
    /// the host waits.
    pub(super) time: u64,
    pub(super) devices: Vec<SimDevice>,
    pub(super) streams: Handles<StreamState>,
    pub(super) events: Handles<EventState>,
    pub(super) pools: Handles<Pool>,
    pub(super) agenda: Agenda,
    pub(super) memory: Memory,
    pub(super) space: Space,
    pub(super) injection: Injection,
    pub(super) journal: Journal,
    pub(super) watchers: Watchers,
    /// The snapshots, while they are taken.
    pub(super) snapshots: Option<Snapshots>,
    /// The race detector, while it is on.
    pub(super) races: Option<Box<Races>>,
    /// Bytes of pinned memory that are allocated.
    pub(super) pinned: u64,
    /// Bytes of unified memory that are allocated.
    pub(super) managed: u64,
    /// The thread that runs the Rust code of a kernel, which it does without the lock.
    executor: Option<ThreadId>,
}

/// The state of one device.
#[derive(Debug)]
pub(super) struct SimDevice {
    pub(super) id: DeviceId,
    pub(super) engines: [Engine; 4],
    pub(super) legacy: Key,
    pub(super) per_thread: Vec<(ThreadId, Key)>,
    pub(super) default_pool: Key,
    pub(super) statistics: DeviceStatistics,
    /// The first error of the device's work since the last synchronization.
    pub(super) error: Option<DriverError>,
    /// Number of operations that are not done yet.
    pub(super) outstanding: u64,
}

/// The condition that the host waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// The work that is due by the host's clock. The host does not wait.
    Due,
    /// A point in a stream's work.
    Mark(Mark),
    /// All work of a device.
    Device(u32),
    /// All work of the machine.
    All,
}

pub(super) type Guard<'m> = MutexGuard<'m, State>;

impl Machine {
    pub(super) fn new(profiles: Arc<[Profile]>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let state = Mutex::new(State::new(id, Arc::clone(&profiles)));
        Self { id, profiles, state, progress: Condvar::new(), extension: Extension::new() }
    }

    pub(super) fn device_id(&self, d: u32) -> DeviceId {
        DeviceId::simulated(self.id, d)
    }

    /// Locks the state without making a driver call.
    pub(super) fn look(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the first steps of every driver call. It advances the clock by the cost of the call, returns an injected
    /// failure if one is planned, and executes the work that is due by then.
    pub(super) fn enter(
        &self,
        d: u32,
        kind: FaultCall,
        call: &'static str,
        cost: impl Fn(&Profile) -> u64,
    ) -> Result<Guard<'_>, DriverError> {
        let count = self.profiles.len() as u32;
        let profile = self.profiles.get(d as usize).ok_or(DriverError::NoSuchDevice { ordinal: d, count })?;
        let mut state = self.look();
        state.now += cost(profile);
        if let Some(code) = state.injection.count(kind) {
            // A real synchronization returns the error of earlier work after it has waited for that work.
            let _waited = if kind == FaultCall::Synchronize { self.run(state, d, Until::Device(d))? } else { state };
            return Err(DriverError::Call { call, device: self.device_id(d), code });
        }
        self.run(state, d, Until::Due)
    }

    /// Executes the work of the devices in the order of virtual time until `until` holds. The host's clock follows if
    /// the host waits. The Rust code of kernels runs without the lock, on one thread at a time.
    pub(super) fn run<'m>(&'m self, mut state: Guard<'m>, d: u32, until: Until) -> Result<Guard<'m>, DriverError> {
        let waiting = !matches!(until, Until::Due);
        loop {
            if waiting && state.reached(until) {
                state.now = state.now.max(state.time);
                match until {
                    Until::Device(d) => state.race_host_waited_for_device(Some(d)),
                    Until::All => state.race_host_waited_for_device(None),
                    Until::Mark(_) | Until::Due => {}
                }
                return Ok(state);
            }
            if let Some(executor) = state.executor {
                if !waiting {
                    return Ok(state);
                }
                if executor == thread::current().id() {
                    return Err(state.code(d, "waiting within a kernel", CudaErrorCode::NOT_PERMITTED));
                }
                state = self.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let limit = if waiting { u64::MAX } else { state.now };
            match state.turn(limit) {
                Turn::Done => {}
                Turn::NothingDue if waiting => {
                    let message = "waited for work that nothing will bring to its end".into();
                    return Err(DriverError::Simulation { device: self.device_id(d), message });
                }
                Turn::NothingDue => return Ok(state),
                Turn::Discard(kernel) => {
                    drop(state);
                    // Values captured by the kernel may panic when they are dropped. The thread that waits here must
                    // not unwind for that.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(kernel)));
                    state = self.look();
                }
                Turn::Kernel { stream, kernel } => {
                    state.executor = Some(thread::current().id());
                    drop(state);
                    let name = kernel.name;
                    let written = kernel.accesses.iter().filter(|access| access.mode == AccessMode::Write);
                    let written: SmallVec<[_; 4]> = written.map(|access| (access.addr, access.bytes as u64)).collect();
                    // SAFETY: at the launch and again just now, the ranges of the kernel were found to be allocated. At
                    // the launch, no written range overlapped another. The launcher ensures that nothing else uses
                    // them.
                    let result = unsafe { bytes::run(*kernel) };
                    state = self.look();
                    for (addr, bytes) in written {
                        // SAFETY: the launcher ensures that nothing else uses the kernel's ranges. The call touches
                        // only aliases.
                        unsafe { state.memory.bring_home(addr, bytes) };
                    }
                    state.executor = None;
                    state.kernel_ended(stream, name, result);
                    self.progress.notify_all();
                }
            }
        }
    }

    /// [Runs](Self::run) until `until` holds. Then returns the first error of device `d` since the last such call.
    pub(super) fn wait<'m>(&'m self, state: Guard<'m>, d: u32, until: Until) -> Result<Guard<'m>, DriverError> {
        let mut state = self.run(state, d, until)?;
        state.release_pools(d);
        state.report(d)?;
        Ok(state)
    }
}

impl State {
    fn new(machine: u32, profiles: Arc<[Profile]>) -> Self {
        let gpus = profiles.iter().map(|profile| GpuConfig {
            capacity: profile.capacity.value as u64,
            mapped_by_host: profile.direct_managed_mem_access_from_host,
            peers: profile.peer_access,
            second_pass: profile.prefetch_second_pass,
        });
        // One kernel module drives all devices of a machine. It has the parameters of the first device's profile.
        let rules = profiles.first().map_or_else(Rules::default, Profile::rules);
        let space = Space::new(gpus, rules);
        let (mut streams, mut pools) = (Handles::default(), Handles::default());
        let devices = (0..profiles.len() as u32)
            .map(|d| SimDevice {
                id: DeviceId::simulated(machine, d),
                engines: Default::default(),
                legacy: streams.insert(StreamState::new(d, false)),
                per_thread: Vec::new(),
                default_pool: pools.insert(Pool::new(d)),
                statistics: DeviceStatistics::default(),
                error: None,
                outstanding: 0,
            })
            .collect();
        Self {
            memory: Memory::new(profiles.len()),
            profiles,
            now: 0,
            time: 0,
            devices,
            streams,
            events: Handles::default(),
            pools,
            agenda: Agenda::default(),
            space,
            injection: Injection::default(),
            journal: Journal::default(),
            watchers: Watchers::default(),
            snapshots: None,
            races: None,
            pinned: 0,
            managed: 0,
            executor: None,
        }
    }

    pub(super) fn profile(&self, d: u32) -> &Profile {
        &self.profiles[d as usize]
    }

    pub(super) fn device(&mut self, d: u32) -> &mut SimDevice {
        &mut self.devices[d as usize]
    }

    /// Reports whether the calling thread is running a kernel's Rust code. That code cannot wait for devices.
    pub(super) fn within_kernel(&self) -> bool {
        self.executor == Some(thread::current().id())
    }

    fn reached(&self, until: Until) -> bool {
        match until {
            Until::Due => false,
            Until::Mark(mark) => self.done(mark),
            Until::Device(d) => self.devices[d as usize].outstanding == 0,
            Until::All => self.devices.iter().all(|device| device.outstanding == 0),
        }
    }

    /// Reports whether a point of a stream has been passed. A stream that no longer exists had done all its work.
    pub(super) fn done(&self, mark: Mark) -> bool {
        self.streams.get(mark.stream).is_none_or(|stream| stream.completed >= mark.seq)
    }

    /// Returns the first error of the device's work, and clears it.
    pub(super) fn report(&mut self, d: u32) -> Result<(), DriverError> {
        self.device(d).error.take().map_or(Ok(()), Err)
    }

    /// Keeps an error of the device's work until the next synchronization, unless there is an earlier one.
    pub(super) fn fail_work(&mut self, d: u32, error: DriverError) {
        self.device(d).error.get_or_insert(error);
    }

    pub(super) fn simulation(&self, d: u32, message: String) -> DriverError {
        DriverError::Simulation { device: self.devices[d as usize].id, message }
    }

    pub(super) fn code(&self, d: u32, call: &'static str, code: CudaErrorCode) -> DriverError {
        DriverError::Call { call, device: self.devices[d as usize].id, code }
    }
}
