//! What [`assert_peak!`](crate::assert_peak!), [`assert_no_leak!`](crate::assert_no_leak!) and
//! [`assert_migrated!`](crate::assert_migrated!) call. All figures are the simulator's, exact, and the same in every
//! run.

use crate::device::Device;
use cumem_sim::{DeviceStatistics, LiveAllocations, Simulator};
use std::fmt;
use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

/// What a figure should be: a number, or a range of them.
pub trait Expected: fmt::Debug {
    /// Whether `found` is what was expected.
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

/// Asserts how many bytes of memory were allocated from the driver of a simulated device at most.
///
/// The bytes are of all kinds of memory and all devices of the simulated machine, as they were asked for, since it was
/// made or its [peak was restarted](crate::sim::Simulator::restart_peak). The figure is a `u64` or a range with a last
/// or a first number. With a block, the peak is that of the block, what was allocated before included; its value is the
/// block's.
///
/// What this library itself takes for copies counts too: from 1 MiB on, those from and to memory of the process take up
/// to 64 MiB of page-locked and 48 MiB of device memory, until [`Device::trim_staging`](crate::Device::trim_staging).
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream, assert_peak};
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
/// Unless the figure is as expected, with both; on a device that is not simulated.
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

/// Asserts that no memory of a simulated device is out; with a block, that the block left nothing behind. What this
/// library itself keeps for copies is given back before.
///
/// Without a block, streams, events and reserved addresses are left alone, since a test usually still has its own. With
/// one, they count, and what was out before does not. The value is the block's.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream, assert_no_leak};
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
/// If something is out, with what it is; on a device that is not simulated.
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

/// Asserts what a simulated device did with pages: `field = figure` for each field of interest of its
/// [`DeviceStatistics`](crate::sim::DeviceStatistics).
///
/// A figure is a `u64` or a range with a last or a first number. The statistics are those since the machine was made
/// or, with a block, of the block, whose work is waited for; the value is the block's.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, Stream, UnifiedBuffer, assert_migrated};
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
/// Unless the figures are as expected, with all statistics; on a device that is not simulated.
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

/// The simulator of a device.
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
    assert!(live.no_memory(), "{device}: memory is still out: {live}");
}

#[doc(hidden)] // for the macros
#[track_caller]
pub fn nothing_more(device: &Device, before: &LiveAllocations) {
    let now = live(device);
    assert!(now == *before, "{device}: something was left behind: {now} are out now, {before} were before");
}

/// The statistics of a device, when its work is done.
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
