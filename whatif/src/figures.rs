//! [`DryRun`]: the result of a run.

use crate::timeline::{LocationBytes, Moment};
use cumem::sim::{Profile, Provenance};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The result of a program on one setting. All of it is simulated.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, AllocError, LayerExt, MemoryResource, Stream};
/// use cumem_whatif::{Setting, dry_run};
///
/// let run = dry_run(&Setting::new(Profile::tiny(64 << 20), "device | pool".parse()?), |stack| {
///     let stack = stack.clone().into_device_accessible().expect("device memory is");
///     let stream = Stream::new(stack.device())?;
///     stack.allocate(&stream, layout::bytes(100 << 20)?).map(drop)?;
///     Ok::<_, AllocError>(())
/// })?;
/// assert_eq!((run.fits(), run.out_of_memory_count), (false, 1));
/// assert_eq!(run.out_of_memory[0].bytes, 100 << 20);
/// assert_eq!(run.layers.last().unwrap().layer, "device");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// More managed memory was in use at once than fits on the device: pages were evicted, or the stack allocated more
    /// than the device has. The program [fits](Self::fits), but its pages migrate back and forth.
    pub oversubscribed: bool,
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

/// Counts of the allocations of one layer.
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

impl Provenances {
    pub(crate) fn of(profile: &Profile) -> Self {
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
    /// Reports whether memory sufficed and the program succeeded. This includes managed memory that is larger than the
    /// device, which is slower: see [`oversubscribed`](Self::oversubscribed).
    pub fn fits(&self) -> bool {
        self.out_of_memory_count == 0 && self.error.is_none()
    }

    /// Returns the answer to "will it fit?" for a report.
    pub(crate) fn verdict(&self) -> &'static str {
        match (self.fits(), self.oversubscribed) {
            (false, _) => "no",
            (true, false) => "yes",
            (true, true) => "yes, oversubscribed",
        }
    }
}
