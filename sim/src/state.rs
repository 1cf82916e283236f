//! [`MachineState`]: everything about a machine that changes, behind one lock.
#![forbid(unsafe_code)]

use super::agenda::{Agenda, Engine};
use super::capture::{Capture, Graph, GraphExec};
use super::events::EventState;
use super::handles::{Handles, Key};
use super::injection::Injection;
use super::journal::Journal;
use super::memory::SimulatedMemory;
use super::operation::StreamPoint;
use super::outbox::Outbox;
use super::pools::DriverPool;
use super::profile::Profile;
use super::races::Races;
use super::snapshots::Snapshots;
use super::statistics::DeviceStatistics;
use super::streams::StreamState;
use super::uvm::{GpuConfig, RangeId, Rules, Space};
use super::watchers::{DetectorListeners, Watchers};
use cumem_driver::{CudaErrorCode, DeviceId, DriverError, PoolMemory, deferral};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// The mutable state of a machine.
#[derive(Debug)]
pub(super) struct MachineState {
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
    pub(super) pools: Handles<DriverPool>,
    pub(super) captures: Handles<Capture>,
    pub(super) graphs: Handles<Graph>,
    pub(super) graph_execs: Handles<GraphExec>,
    pub(super) agenda: Agenda,
    pub(super) memory: SimulatedMemory,
    pub(super) space: Space,
    pub(super) injection: Injection,
    pub(super) journal: Journal,
    pub(super) watchers: Watchers,
    pub(super) detector_listeners: DetectorListeners,
    /// Calls of user code, made when the lock is released.
    pub(super) outbox: Arc<Outbox>,
    /// The snapshots, while they are taken.
    pub(super) snapshots: Option<Snapshots>,
    /// The race detector, while it is on.
    pub(super) races: Option<Box<Races>>,
    /// Frees that wait for work.
    pub(super) frees: Vec<LateFree>,
    /// Bytes of pinned memory that are allocated.
    pub(super) pinned: u64,
    /// The attachment of each range of unified memory that is not attached globally.
    pub(super) attached: BTreeMap<RangeId, Attached>,
    /// Bytes of unified memory that are allocated.
    pub(super) managed: u64,
    /// The thread that runs the Rust code of a kernel, which it does without the lock.
    pub(super) executor: Option<ThreadId>,
}

/// The state of one device.
#[derive(Debug)]
pub(super) struct SimDevice {
    pub(super) id: DeviceId,
    pub(super) engines: [Engine; 4],
    pub(super) legacy: Key,
    pub(super) per_thread: Vec<(ThreadId, Key)>,
    pub(super) default_pool: Key,
    /// The default pools of other memory that a program has asked for.
    pub(super) other_pools: Vec<(PoolMemory, Key)>,
    pub(super) statistics: DeviceStatistics,
    /// The first error of the device's work since the last synchronization.
    pub(super) error: Option<DriverError>,
    /// Number of operations that are not done yet.
    pub(super) outstanding: u64,
}

/// The processors that may access a range of unified memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attached {
    Host,
    Stream(Key),
}

/// A free by the closure of a kernel, which cannot wait.
#[derive(Debug)]
pub(super) struct LateFree {
    pub(super) addr: u64,
    pub(super) freed: Freed,
    /// The work that may use the memory.
    pub(super) until: Until,
}

/// What a closure freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freed {
    /// The allocation with this number.
    Memory(u64),
    /// So many reserved addresses of a device.
    Addresses(u32, u64),
}

/// The condition that the host waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// The work that is due by the host's clock. The host does not wait.
    Due,
    /// A point in a stream's work.
    Point(StreamPoint),
    /// All work of a device.
    Device(u32),
    /// All work of the machine.
    All,
    /// All work of the machine. The program does not wait for it, so it orders nothing for the race detector.
    Quiet,
}

impl MachineState {
    pub(super) fn new(machine: u32, profiles: Arc<[Profile]>, outbox: &Arc<Outbox>) -> Self {
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
                default_pool: pools.insert(DriverPool::of_device(d, PoolMemory::Device)),
                other_pools: Vec::new(),
                statistics: DeviceStatistics::default(),
                error: None,
                outstanding: 0,
            })
            .collect();
        Self {
            memory: SimulatedMemory::new(profiles.len()),
            profiles,
            now: 0,
            time: 0,
            devices,
            streams,
            events: Handles::default(),
            pools,
            captures: Handles::default(),
            graphs: Handles::default(),
            graph_execs: Handles::default(),
            agenda: Agenda::default(),
            space,
            injection: Injection::default(),
            journal: Journal::default(),
            watchers: Watchers::new(Arc::clone(outbox)),
            detector_listeners: DetectorListeners::new(Arc::clone(outbox)),
            outbox: Arc::clone(outbox),
            snapshots: None,
            races: None,
            frees: Vec::new(),
            pinned: 0,
            managed: 0,
            attached: BTreeMap::new(),
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

    pub(super) fn reached(&self, until: Until) -> bool {
        match until {
            Until::Due => false,
            Until::Point(point) => self.streams.passed(point),
            Until::Device(d) => self.devices[d as usize].outstanding == 0,
            Until::All | Until::Quiet => self.devices.iter().all(|device| device.outstanding == 0),
        }
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

    /// Refuses a wait for the closure of a kernel, if the calling thread holds a lock of the library.
    pub(super) fn may_wait_for_kernel(&self, d: u32) -> Result<(), DriverError> {
        match deferral::refuses_wait() {
            true => Err(self.code(d, "waiting for a kernel", CudaErrorCode::NOT_READY)),
            false => Ok(()),
        }
    }

    pub(super) fn code(&self, d: u32, call: &'static str, code: CudaErrorCode) -> DriverError {
        DriverError::Call { call, device: self.devices[d as usize].id, code }
    }
}
