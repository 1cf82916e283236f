//! The parts that all benches share: the choice of device and stacks, and the measurement.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `CUMEM_DEVICE` | `cuda`, `sim`, or `auto`: a GPU if there is one | `auto` |
//! | `CUMEM_STACK` | stacks in the grammar of `StackSpec`, separated by `;` | the bench's own list |

// Each bench is a separate crate and uses only a part of this module.
#![allow(dead_code)]

pub(crate) mod free_leaf;
pub(crate) mod rng;
pub(crate) mod turns;

use criterion::Bencher;
use cumem::{Block, Device, DeviceError, MemoryResource, Stream};
use cumem_adaptors::{AnyStack, StackSpec};
use std::alloc::Layout;
use std::process::exit;
use std::time::Duration;

/// A pool over device memory and over managed memory, alone and in a realistic stack, and the driver's own pool.
pub(crate) const STACKS: &str = "device | pool; managed | pool | limit(80%) | statistics; managed | pool | limit(80%) | statistics | prefetch; async";

/// Returns the device that `CUMEM_DEVICE` names, for a bench that measures host time. Prints the device, and for a
/// simulated one that its model is part of the time.
pub(crate) fn device() -> Device {
    let device = named_device();
    let model = ": times are host time spent in the stack and in the model of the device";
    eprintln!("{device}{}", if device.is_simulated() { model } else { "" });
    device
}

/// Returns the device that `CUMEM_DEVICE` names.
pub(crate) fn named_device() -> Device {
    let name = std::env::var("CUMEM_DEVICE").unwrap_or_else(|_| "auto".into());
    let device = match name.as_str() {
        "auto" => Device::first_or_simulated().map_err(DeviceError::from),
        "cuda" => Device::open(0).map_err(DeviceError::from),
        "sim" => Device::simulated(cumem::sim::Profile::default()).map_err(DeviceError::from),
        other => give_up(format!("CUMEM_DEVICE is cuda, sim or auto, not `{other}`")),
    };
    device.unwrap_or_else(|error| give_up(error))
}

/// Returns the stacks that `CUMEM_STACK` describes, or those of `default`, in the same form.
/// A bench builds the stack anew for each figure, so that no figure is affected by memory that an earlier one left.
pub(crate) fn stacks(default: &str) -> Vec<StackSpec> {
    let text = std::env::var("CUMEM_STACK").unwrap_or_else(|_| default.into());
    let specs = text.split(';').map(str::trim).filter(|text| !text.is_empty());
    specs.map(|text| StackSpec::parse(text).unwrap_or_else(|error| give_up(error))).collect()
}

/// Builds a stack. Ends the bench if the device does not support it, because a missing figure must be noticed.
pub(crate) fn build(spec: &StackSpec, device: &Device) -> AnyStack {
    spec.build(device).unwrap_or_else(|error| give_up(error))
}

/// Prints the reason and ends the bench.
pub(crate) fn give_up(reason: impl std::fmt::Display) -> ! {
    eprintln!("error: {reason}");
    exit(2)
}

/// Allocates a block of `layout`. The bench has chosen the size so that it fits.
#[inline]
pub(crate) fn allocate<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, layout: Layout) -> Block {
    resource.allocate(stream, layout).unwrap_or_else(|error| give_up(error))
}

/// Frees a block that no work used.
#[inline]
pub(crate) fn free<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, block: Block) {
    // SAFETY: benches do not access their blocks, and free each one on the stream that it was allocated on.
    let freed = unsafe { resource.deallocate(stream, block) };
    freed.unwrap_or_else(|error| give_up(error));
}

/// Returns a layout aligned to 256 bytes, as in RMM's benches.
pub(crate) fn layout(bytes: usize) -> Layout {
    cumem::layout::bytes(bytes).unwrap_or_else(|error| give_up(error))
}

/// Measures the time of one operation by runs of many. `run` makes `operations` operations and returns their time.
/// Criterion then prints the time per operation.
pub(crate) fn per_operation(bencher: &mut Bencher<'_>, operations: u64, mut run: impl FnMut() -> Duration) {
    bencher.iter_custom(|iterations| {
        let runs = iterations.div_ceil(operations);
        let elapsed: Duration = (0..runs).map(|_| run()).sum();
        elapsed.mul_f64(iterations as f64 / (runs * operations) as f64)
    });
}
