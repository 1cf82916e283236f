//! What all benches share: which device, which stacks, and how figures are taken.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `CUMEM_DEVICE` | `cuda`, `sim`, or `auto`: a GPU if there is one | `auto` |
//! | `CUMEM_STACK` | stacks, in the words of `StackSpec`, separated by `;` | the bench's own list |

// Each bench is a crate of its own and takes from here what it needs.
#![allow(dead_code)]

pub(crate) mod free_leaf;
pub(crate) mod rng;
pub(crate) mod turns;

use criterion::Bencher;
use cumem::{Block, Device, MemoryResource, Stream};
use cumem_adaptors::{AnyStack, StackSpec};
use std::alloc::Layout;
use std::process::exit;
use std::time::Duration;

/// A pool over either kind of memory, alone and as in a real stack, and the driver's own pool.
pub(crate) const STACKS: &str = "device | pool; managed | pool | limit(80%) | statistics; managed | pool | limit(80%) | statistics | prefetch; async";

/// The device that `CUMEM_DEVICE` names, for a bench that takes the host's time.
pub(crate) fn device() -> Device {
    let device = named_device();
    let model = ": times are host time spent in the stack and in the model of the device";
    eprintln!("{device}{}", if device.is_simulated() { model } else { "" });
    device
}

/// The device that `CUMEM_DEVICE` names.
pub(crate) fn named_device() -> Device {
    let name = std::env::var("CUMEM_DEVICE").unwrap_or_else(|_| "auto".into());
    let device = match name.as_str() {
        "auto" => Device::first(),
        "cuda" => Device::open(0),
        "sim" => Device::simulated(cumem::sim::Profile::default()),
        other => give_up(format!("CUMEM_DEVICE is cuda, sim or auto, not `{other}`")),
    };
    device.unwrap_or_else(|error| give_up(error))
}

/// The stacks that `CUMEM_STACK` describes, else those of `default`, in the same form. A benched stack is built
/// anew for each figure, so that none inherits another's memory.
pub(crate) fn stacks(default: &str) -> Vec<StackSpec> {
    let text = std::env::var("CUMEM_STACK").unwrap_or_else(|_| default.into());
    let specs = text.split(';').map(str::trim).filter(|text| !text.is_empty());
    specs.map(|text| StackSpec::parse(text).unwrap_or_else(|error| give_up(error))).collect()
}

/// Builds a stack. Those that the device cannot have end the bench: a figure that is missing should be noticed.
pub(crate) fn build(spec: &StackSpec, device: &Device) -> AnyStack {
    spec.build(device).unwrap_or_else(|error| give_up(error))
}

/// A bench that was asked for what cannot be.
pub(crate) fn give_up(reason: impl std::fmt::Display) -> ! {
    eprintln!("error: {reason}");
    exit(2)
}

/// Allocates `bytes` bytes, which a bench has sized to fit.
#[inline]
pub(crate) fn allocate<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, layout: Layout) -> Block {
    resource.allocate(stream, layout).unwrap_or_else(|error| give_up(error))
}

/// Frees a block that nobody has used.
#[inline]
pub(crate) fn free<R: MemoryResource + ?Sized>(resource: &R, stream: &Stream, block: Block) {
    // SAFETY: benches use no memory, and free each block on the stream that they allocated it on.
    let freed = unsafe { resource.deallocate(stream, block) };
    freed.unwrap_or_else(|error| give_up(error));
}

/// A layout as RMM's benches ask for it, aligned to 256 bytes.
pub(crate) fn layout(bytes: usize) -> Layout {
    cumem::layout::bytes(bytes).unwrap_or_else(|error| give_up(error))
}

/// Takes the time of one operation out of runs of many: `run` makes `operations` operations and says how long
/// they took. Criterion then prints time per operation.
pub(crate) fn per_operation(bencher: &mut Bencher<'_>, operations: u64, mut run: impl FnMut() -> Duration) {
    bencher.iter_custom(|iterations| {
        let runs = iterations.div_ceil(operations);
        let elapsed: Duration = (0..runs).map(|_| run()).sum();
        elapsed.mul_f64(iterations as f64 / (runs * operations) as f64)
    });
}
