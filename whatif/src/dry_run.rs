//! [`dry_run`] and [`replay`]: run a program, or replay a trace, on one setting.

use crate::figures::{DryRun, LayerFigures, Provenances};
use crate::setting::{Setting, WhatIfError};
use crate::timeline::LocationBytes;
use crate::watch::{Record, Watch, lock, without_device_id};
use cumem::error::ErrorReport;
use cumem::layer::{Beneath, Described};
use cumem::sim::{LiveAllocations, Simulator};
use cumem::{AnyResource, Device, Layer, MemoryResource};
use cumem_adaptors::statistics::leaf_statistics;
use cumem_adaptors::{AnyStack, LimiterState, StatisticsState};
use cumem_replay::{Player, ReplayError, Trace};
use std::error::Error;
use std::sync::{Arc, Mutex};

/// Runs `program` on the stack of the setting, on a new simulated device, and returns the needs of the run.
///
/// If memory runs out or the program fails, the result contains the error with its causes; neither is an error of this
/// function.
/// The program must drop everything that it creates before it returns.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, LayerExt, MemoryResource, Stream};
/// use cumem_whatif::{Setting, dry_run};
///
/// let setting = Setting::new(Profile::tiny(64 << 20), "managed".parse()?); // 64 MiB of device memory
/// let run = dry_run(&setting, |stack| {
///     let stack = stack.clone().into_device_accessible().expect("managed memory is");
///     let stream = Stream::new(stack.device())?;
///     let block = stack.allocate(&stream, layout::bytes(100 << 20)?)?; // more than the device has
///     // SAFETY: no work uses the block, and nothing refers to its memory.
///     unsafe { stack.deallocate(&stream, block) }?;
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// assert!(run.fits());
/// assert_eq!(run.peak_requested, 100 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Returns [`WhatIfError`] if the profile is not valid, or if the stack cannot be created on the device.
pub fn dry_run<E: Into<Box<dyn Error>>>(
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
    let record = Arc::new(Mutex::new(Record::default()));
    let managed = matches!(stack, AnyStack::OverManaged(_));
    let stack = watched(stack, &record, setting.touched);

    let ended =
        program(&stack).map_err(|error| without_device_id(&ErrorReport::of(&*error.into()).to_string(), &device));
    let idle = device.synchronize().map_err(|error| without_device_id(&error.to_string(), &device));

    let snapshots = simulator.take_snapshots();
    let statistics = simulator.statistics(device.id()).unwrap_or_default();
    let virtual_ns = simulator.clock().as_nanos() as u64;
    let layers = layers(&stack);
    let peak_reserved = leaf_statistics(&stack).iter().map(|leaf| leaf.counts().peak_bytes.max(0) as u64).sum();
    let total = device.attributes().total_memory;
    drop(stack);
    device.trim_staging();
    let live = simulator.live_allocations();
    let mut record = lock(&record);
    Ok(DryRun {
        device: setting.profile.name.clone(),
        capacity: total as u64,
        stack: setting.stack.to_string(),
        limit: setting.limit.map(|limit| limit.bytes_of(total) as u64),
        provenance: Provenances::of(&setting.profile),
        error: ended.and(idle).err(),
        requests: record.requests,
        out_of_memory_count: record.out_of_memory_count,
        out_of_memory: std::mem::take(&mut record.out_of_memory),
        peak_requested: layers.first().map_or(0, |layer| layer.peak_bytes),
        peak_reserved,
        oversubscribed: statistics.evictions > 0 || (managed && peak_reserved > total as u64),
        layers,
        peak_device: statistics.peak_used,
        migrated_to_device: statistics.migrated_to_device,
        migrated_to_host: statistics.migrated_to_host,
        faults: statistics.faults,
        host_faults: statistics.host_faults,
        evictions: statistics.evictions,
        virtual_ns,
        left_behind: (live != LiveAllocations::default()).then(|| live.to_string()),
        timeline: record.timeline.take(),
        residency: LocationBytes::of(&snapshots),
    })
}

/// Replays a trace once on a setting. Streams and the waits between them are those of [`cumem_replay`].
///
/// ```
/// use cumem::sim::Profile;
/// use cumem_replay::Trace;
/// use cumem_whatif::{Setting, replay};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,6291456,0\n1,1,free,0x100,6291456,0\n";
/// let trace = Trace::parse(log.as_bytes(), "one block of 6 MiB")?;
/// let run = replay(&trace, &Setting::new(Profile::tiny(4 << 20), "device".parse()?))?;
/// assert_eq!(run.out_of_memory[0].line, Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

fn watched(stack: AnyStack, record: &Arc<Mutex<Record>>, touches: bool) -> AnyStack {
    fn over<R: MemoryResource + Send + Sync + 'static>(
        resource: R,
        record: &Arc<Mutex<Record>>,
        touches: bool,
    ) -> AnyResource<R::Kind> {
        AnyResource::new(Watch { record: Arc::clone(record), touches, resource })
    }
    match stack {
        AnyStack::OverDevice(stack) => AnyStack::OverDevice(over(stack, record, touches)),
        AnyStack::OverManaged(stack) => AnyStack::OverManaged(over(stack, record, touches)),
        AnyStack::OverPinned(stack) => AnyStack::OverPinned(over(stack, record, touches)),
        AnyStack::OverEither(stack) => AnyStack::OverEither(over(stack, record, touches)),
        // No device can access host memory.
        AnyStack::OverHost(stack) => AnyStack::OverHost(over(stack, record, false)),
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
