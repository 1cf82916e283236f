//! The macros [`assert_peak!`](crate::assert_peak!), [`assert_no_leak!`](crate::assert_no_leak!) and
//! [`assert_migrated!`](crate::assert_migrated!), and the functions that they call. All figures are the simulator's:
//! exact, and the same in every run.

use crate::device::Device;
use cumem_sim::{DeviceStatistics, LiveAllocations, Simulator};
use std::fmt;
use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

/// The value that a figure is expected to have: a number, or a range of numbers.
///
/// # Examples
///
/// ```
/// use cumem::sim::assertions::Expected;
///
/// assert!(7_u64.allows(7));
/// assert!((..=10_u64).allows(7));
/// assert!(!(8_u64..).allows(7));
/// ```
pub trait Expected: fmt::Debug {
    /// Reports whether `found` is an expected value.
    fn allows(&self, found: u64) -> bool;
}

impl Expected for u64 {
    fn allows(&self, found: u64) -> bool {
        *self == found
    }
}

macro_rules! expected_range {
    ($($range:ty),+) => {
        $(impl Expected for $range {
            fn allows(&self, found: u64) -> bool {
                self.contains(&found)
            }
        })+
    };
}

expected_range!(RangeInclusive<u64>, RangeToInclusive<u64>, RangeFrom<u64>);

/// Asserts the peak of the bytes that are allocated from the driver of a simulated device.
///
/// The peak counts all kinds of memory on all devices of the simulated machine, in bytes as requested. It starts at the
/// creation of the machine or at the last [`restart_peak`](crate::sim::Simulator::restart_peak). The expected figure is
/// a `u64`, or one of the ranges `a..=b`, `..=b` and `a..`.
///
/// With a block, the macro asserts the peak during the block, and its value is the block's value. Memory that was
/// allocated before the block counts too.
///
/// The memory that this library itself allocates for copies counts too. From 1 MiB on, copies from and to memory of the
/// process take up to 64 MiB of pinned and 48 MiB of device memory.
/// [`Device::trim_staging`](crate::Device::trim_staging) frees it.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{assert_peak, Buffer, CudaResource, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let kept = Buffer::<u8, _>::zeroed(1000, &stream, CudaResource::new(&device))?;
/// drop(Buffer::<u8, _>::zeroed(24, &stream, CudaResource::new(&device))?);
/// assert_peak!(device, 1024);
/// assert_peak!(device, ..=1000, { drop(kept) });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Panics with the peak and the expected figure if they differ. Panics if the device is not simulated.
#[macro_export]
macro_rules! assert_peak {
    ($device:expr, $expected:expr $(,)?) => {
        $crate::sim::assertions::peak(&$device, &$expected)
    };
    ($device:expr, $expected:expr, $body:block $(,)?) => {{
        $crate::sim::assertions::restart_peak(&$device);
        let value = $body;
        $crate::sim::assertions::peak(&$device, &$expected);
        value
    }};
}

/// Asserts that no memory of a simulated device is allocated or, with a block, that the block leaves nothing behind.
///
/// The macro first frees the memory that this library itself keeps for copies. Without a block, it ignores streams,
/// events and reserved addresses, because a test usually still holds its own. With a block, they count, but objects
/// that existed before the block do not. The value of the macro is then the block's value.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{assert_no_leak, Buffer, CudaResource, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let sum: u32 = assert_no_leak!(device, {
///     let stream = Stream::new(&device)?;
///     Buffer::from_slice(&[1_u32, 2, 3], &stream, CudaResource::new(&device))?.to_vec()?.iter().sum()
/// });
/// assert_eq!(sum, 6);
/// assert_no_leak!(device);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Panics with a list of the blocks that are still allocated. Panics if the device is not simulated.
#[macro_export]
macro_rules! assert_no_leak {
    ($device:expr $(,)?) => {
        $crate::sim::assertions::no_memory(&$device)
    };
    ($device:expr, $body:block $(,)?) => {{
        let before = $crate::sim::assertions::live(&$device);
        let value = $body;
        $crate::sim::assertions::nothing_more(&$device, &before);
        value
    }};
}

/// Asserts how a simulated device migrated pages. Each `field = figure` names a field of
/// [`DeviceStatistics`](crate::sim::DeviceStatistics).
///
/// A figure is a `u64`, or one of the ranges `a..=b`, `..=b` and `a..`. Without a block, the statistics are those since
/// the creation of the machine. With a block, they are those of the block and of the work that it enqueues, and the
/// value of the macro is the block's value.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{assert_migrated, Device, ManagedResource, Stream, UnifiedBuffer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let mut buffer = UnifiedBuffer::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// assert_migrated!(device, migrated_to_host = 4 << 20, { buffer.host_write()?[0] = 1_u32; });
/// assert_migrated!(device, migrated_to_device = 4 << 20, faults = 0, { let _ = buffer.prefetch(device.id())?; });
/// assert_migrated!(device, migrated_to_host = 4 << 20, migrated_to_device = ..=4 << 20);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Panics with all statistics if a figure is not as expected. Panics if the device is not simulated.
#[macro_export]
macro_rules! assert_migrated {
    ($device:expr, $($field:ident = $expected:expr),+, $body:block $(,)?) => {{
        let before = $crate::sim::assertions::statistics(&$device);
        let value = $body;
        let now = $crate::sim::assertions::statistics(&$device);
        $($crate::sim::assertions::figure(&$device, stringify!($field), [&before, &now], |s| s.$field, &$expected);)+
        value
    }};
    ($device:expr, $($field:ident = $expected:expr),+ $(,)?) => {{
        let (before, now) = (::core::default::Default::default(), $crate::sim::assertions::statistics(&$device));
        $($crate::sim::assertions::figure(&$device, stringify!($field), [&before, &now], |s| s.$field, &$expected);)+
    }};
}

/// Returns the simulator of a device, and panics if the device is not simulated.
#[track_caller]
fn simulator(device: &Device) -> &Simulator {
    match device.simulator() {
        Some(simulator) => simulator,
        None => panic!("only a simulated device can be asked exactly; {device} is none"),
    }
}

#[doc(hidden)] // for the macros
#[track_caller]
pub fn restart_peak(device: &Device) {
    simulator(device).restart_peak();
}

#[doc(hidden)] // for the macros
#[track_caller]
pub fn peak(device: &Device, expected: &impl Expected) {
    let simulator = simulator(device);
    let found = simulator.peak_bytes();
    assert!(
        expected.allows(found),
        "{device}: at most {found} bytes were allocated at once, expected {expected:?}; out now: {}",
        simulator.live_allocations()
    );
}

#[doc(hidden)] // for the macros
#[track_caller]
pub fn live(device: &Device) -> LiveAllocations {
    device.trim_staging();
    simulator(device).live_allocations()
}

#[doc(hidden)] // for the macros
#[track_caller]
pub fn no_memory(device: &Device) {
    let live = live(device);
    assert!(live.no_memory(), "{device}: memory is still out: {live}{}", Blocks(device));
}

#[doc(hidden)] // for the macros
#[track_caller]
pub fn nothing_more(device: &Device, before: &LiveAllocations) {
    let now = live(device);
    assert!(now == *before, "{device}: something was left behind: {now} now, {before} before{}", Blocks(device));
}

/// The live blocks with address and size, and a hint, for the message of an assertion.
struct Blocks<'a>(&'a Device);

/// The number of blocks that a message lists.
const LISTED: usize = 8;

impl fmt::Display for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = simulator(self.0).live_blocks();
        if blocks.is_empty() {
            return Ok(());
        }
        f.write_str("\n  live blocks:")?;
        for block in blocks.iter().take(LISTED) {
            write!(f, "\n    {block}")?;
        }
        if let more @ 1.. = blocks.len().saturating_sub(LISTED) {
            write!(f, "\n    and {more} more")?;
        }
        f.write_str(
            "\n  hint: drop every buffer and free every block before this point; a pool keeps freed memory until it is \
             dropped, or until `trim_stack(0)`",
        )
    }
}

/// Waits for the work of a device, and returns the statistics.
#[doc(hidden)] // for the macros
#[track_caller]
pub fn statistics(device: &Device) -> DeviceStatistics {
    let simulator = simulator(device);
    if let Err(error) = device.synchronize() {
        panic!("{device}: its work failed: {error}");
    }
    simulator.statistics(device.id()).unwrap_or_default()
}

#[doc(hidden)] // for the macros
#[track_caller]
pub fn figure(
    device: &Device,
    name: &str,
    [before, now]: [&DeviceStatistics; 2],
    field: impl Fn(&DeviceStatistics) -> u64,
    expected: &impl Expected,
) {
    let found = field(now) - field(before);
    assert!(expected.allows(found), "{device}: {name} is {found}, expected {expected:?}; all in all: {now:?}");
}
