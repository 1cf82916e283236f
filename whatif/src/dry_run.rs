//! [`dry_run`] and [`replay`]: run a program, or replay a trace, on one setting.

use crate::setting::{Setting, WhatIfError};
use crate::timeline::{LocationBytes, Moment};
use crate::watch::{Seen, Watch, look, without_machine};
use cumem::layer::Beneath;
use cumem::layer::Described;
use cumem::sim::{LiveAllocations, Profile, Provenance, Simulator};
use cumem::{AnyResource, Device, Layer, MemoryResource};
use cumem_adaptors::{AnyStack, LimiterState, StatisticsState};
use cumem_replay::{Player, ReplayError, Trace};
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The result of a program on one setting. All of it is simulated.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DryRun {
    /// The simulated device: the name of its profile.
    pub device: String,
    /// Bytes of memory of the device.
    pub capacity: u64,
    /// The stack, as it was given.
    pub stack: String,
    /// The limit of the setting, in bytes.
    pub limit: Option<u64>,
    /// The numbers of the device's profile, counted by their origin.
    pub provenance: Provenances,
    /// The error that the program returned, if it did.
    pub error: Option<String>,
    /// Allocations that the program requested.
    pub requests: u64,
    /// Allocations that ran out of memory.
    pub out_of_memory_count: u64,
    /// The first allocations that ran out of memory, at most 100.
    pub out_of_memory: Vec<Shortage>,
    /// The figures of each layer, the outermost first.
    pub layers: Vec<LayerFigures>,
    /// The most bytes that the program had allocated at once.
    pub peak_requested: u64,
    /// The most bytes that the stack had allocated from the driver at once.
    pub peak_reserved: u64,
    /// The most bytes of the device's memory that were in use at once. Managed memory counts while it is resident
    /// there.
    pub peak_device: u64,
    /// Bytes of pages that migrated from the host to the device.
    pub migrated_to_device: u64,
    /// Bytes of pages that migrated from the device to the host, including evictions.
    pub migrated_to_host: u64,
    /// Page faults of the device.
    pub faults: u64,
    /// Page faults of the host.
    pub host_faults: u64,
    /// 2 MiB chunks of device memory that were evicted from managed memory for another use.
    pub evictions: u64,
    /// Virtual time from the first call to the end of the last work, in nanoseconds.
    pub virtual_ns: u64,
    /// The allocations that were still live after everything was dropped, in words.
    pub left_behind: Option<String>,
    /// Memory over time.
    pub timeline: Vec<Moment>,
    /// Where the memory was over time.
    pub residency: LocationBytes,
}

/// The numbers of a profile, counted by their origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Provenances {
    /// Numbers measured on such a device.
    pub measured: usize,
    /// Numbers stated by NVIDIA or by the driver's source.
    pub from_source: usize,
    /// Numbers computed from those of another device.
    pub scaled: usize,
    /// Guessed numbers.
    pub uncalibrated: usize,
}

/// An allocation that ran out of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Shortage {
    /// The number of the program's allocation, counted from 1.
    pub request: u64,
    /// The line of the trace; `None` for a program.
    pub line: Option<u64>,
    /// Requested bytes.
    pub bytes: u64,
    /// Virtual time since the run began.
    #[serde(rename = "at_ns", serialize_with = "as_nanos")]
    pub at: Duration,
    /// The error of the layer that refused the allocation.
    pub error: String,
}

/// Counts of what one layer handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LayerFigures {
    /// The layer's description of itself.
    pub layer: String,
    /// The most bytes that were live at once.
    pub peak_bytes: u64,
    /// The most blocks that were live at once.
    pub peak_blocks: u64,
    /// All blocks that were allocated.
    pub total_blocks: u64,
    /// Requests that the layer, or a layer beneath it, refused.
    pub failures: u64,
    /// The layer's limit in bytes, if it has one.
    pub limit: Option<u64>,
}

fn as_nanos<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_nanos() as u64)
}

/// Runs `program` on the stack of the setting, on a new simulated device, and returns what the run needed.
///
/// If memory runs out or the program fails, the result contains it; neither is an error of this function.
/// The program must drop everything that it creates before it returns.
///
/// # Errors
///
/// Returns [`WhatIfError`] if the profile is not valid, or if the stack cannot be created on the device.
pub fn dry_run<E: fmt::Display>(
    setting: &Setting,
    program: impl FnOnce(&AnyStack) -> Result<(), E>,
) -> Result<DryRun, WhatIfError> {
    let simulator = Simulator::new([setting.profile.clone()])?;
    let device = Device::of_simulator(&simulator, 0)?;
    simulator.keep_snapshots(true);
    let spec = match setting.limit {
        Some(limit) => setting.stack.clone().with_leaf_limit(limit),
        None => setting.stack.clone(),
    };
    let stack = spec.with_statistics_between().build(&device)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stack = watched(stack, &seen, setting.touched);

    let ended = program(&stack).map_err(|error| without_machine(&error.to_string(), &device));
    let idle = device.synchronize().map_err(|error| without_machine(&error.to_string(), &device));

    let snapshots = simulator.take_snapshots();
    let statistics = simulator.statistics(device.id()).unwrap_or_default();
    let virtual_ns = simulator.clock().as_nanos() as u64;
    let layers = layers(&stack);
    let total = device.attributes().total_memory;
    drop(stack);
    device.trim_staging();
    let live = simulator.live_allocations();
    let mut seen = look(&seen);
    Ok(DryRun {
        device: setting.profile.name.clone(),
        capacity: total as u64,
        stack: setting.stack.to_string(),
        limit: setting.limit.map(|limit| limit.bytes_of(total) as u64),
        provenance: Provenances::of(&setting.profile),
        error: ended.and(idle).err(),
        requests: seen.requests,
        out_of_memory_count: seen.out_of_memory_count,
        out_of_memory: std::mem::take(&mut seen.out_of_memory),
        peak_requested: layers.first().map_or(0, |layer| layer.peak_bytes),
        peak_reserved: layers.last().map_or(0, |layer| layer.peak_bytes),
        layers,
        peak_device: statistics.peak_used,
        migrated_to_device: statistics.migrated_to_device,
        migrated_to_host: statistics.migrated_to_host,
        faults: statistics.faults,
        host_faults: statistics.host_faults,
        evictions: statistics.evictions,
        virtual_ns,
        left_behind: (live != LiveAllocations::default()).then(|| live.to_string()),
        timeline: seen.timeline.take(),
        residency: LocationBytes::of(&snapshots),
    })
}

/// Replays a trace once on a setting. Streams and the waits between them are those of [`cumem_replay`].
///
/// # Errors
///
/// Returns [`WhatIfError`] if the profile is not valid, or if the stack cannot be created on the device.
pub fn replay(trace: &Trace, setting: &Setting) -> Result<DryRun, WhatIfError> {
    let mut run = dry_run(setting, |stack| {
        Player::new(trace, stack)?.pass(|_| ())?;
        Ok::<_, ReplayError>(())
    })?;
    for point in &mut run.out_of_memory {
        point.line = trace.line_of_allocation(point.request);
    }
    Ok(run)
}

fn watched(stack: AnyStack, seen: &Arc<Mutex<Seen>>, touches: bool) -> AnyStack {
    fn over<R: MemoryResource + Send + Sync + 'static>(
        resource: R,
        seen: &Arc<Mutex<Seen>>,
        touches: bool,
    ) -> AnyResource<R::Kind> {
        AnyResource::new(Watch { seen: Arc::clone(seen), touches, resource })
    }
    match stack {
        AnyStack::OverDevice(stack) => AnyStack::OverDevice(over(stack, seen, touches)),
        AnyStack::OverManaged(stack) => AnyStack::OverManaged(over(stack, seen, touches)),
        AnyStack::OverPinned(stack) => AnyStack::OverPinned(over(stack, seen, touches)),
        AnyStack::OverEither(stack) => AnyStack::OverEither(over(stack, seen, touches)),
        // No device can access host memory.
        AnyStack::OverHost(stack) => AnyStack::OverHost(over(stack, seen, false)),
    }
}

/// Returns the figures of each layer that has statistics over it.
fn layers(stack: &AnyStack) -> Vec<LayerFigures> {
    let mut found = Vec::new();
    let mut layer: &dyn Layer = stack;
    let mut counters: Option<&StatisticsState> = None;
    loop {
        if let Some(counts) = counters.take().map(StatisticsState::counts) {
            found.push(LayerFigures {
                layer: Described(layer).to_string(),
                peak_bytes: counts.peak_bytes.max(0) as u64,
                peak_blocks: counts.peak_blocks.max(0) as u64,
                total_blocks: counts.total_blocks,
                failures: counts.failures,
                limit: layer.state().downcast_ref().map(|limit: &LimiterState| limit.bytes() as u64),
            });
        }
        counters = layer.state().downcast_ref();
        match layer.beneath() {
            Beneath::Layer(beneath) | Beneath::Two(beneath, _) => layer = beneath,
            Beneath::Device(_) => return found,
        }
    }
}

impl Provenances {
    fn of(profile: &Profile) -> Self {
        let mut all = Self::default();
        for (_, _, figure) in profile.figures() {
            match figure.provenance {
                Provenance::Measured => all.measured += 1,
                Provenance::FromSource => all.from_source += 1,
                Provenance::Scaled => all.scaled += 1,
                Provenance::Uncalibrated => all.uncalibrated += 1,
            }
        }
        all
    }
}

/// Prints `20 measured, 8 from source, 3 scaled, 11 uncalibrated`.
impl fmt::Display for Provenances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measured, from_source, scaled, uncalibrated } = self;
        write!(f, "{measured} measured, {from_source} from source, {scaled} scaled, {uncalibrated} uncalibrated")
    }
}

impl DryRun {
    /// Reports whether memory sufficed and the program succeeded.
    pub fn fits(&self) -> bool {
        self.out_of_memory_count == 0 && self.error.is_none()
    }
}
