//! How often kernels on four streams wait for each other: each stream in turn allocates a block, launches a kernel that
//! uses the block, and frees the block. Counted in the first 80 kernels of a pool, and in 80 kernels after 80 others.
//!
//! Waits of streams and of the host are calls of the driver that the simulated device counts. A GPU does not count them:
//! there, the columns are the milliseconds of the 80 kernels. A kernel takes about 100 us, and four of them run side by
//! side.

mod common;

use cumem::kernel::{Function, HostKernel, KernelArg, LaunchConfig, Module};
use cumem::sim::FaultCall;
use cumem::{Device, DriverError, Stream};
use cumem_adaptors::{AnyStack, StackSpec};
use std::time::Instant;

const KIB: usize = 1 << 10;
const ROUNDS: usize = 20;
const SIZES: [usize; 6] = [64 * KIB, 256 * KIB, 1024 * KIB, 3072 * KIB, 16_384 * KIB, 65_536 * KIB];
const SPIN: &str = include_str!("../tests/devices/cuda_driver/kernels.ptx");
const KERNEL_NANOSECONDS: u64 = 100_000;

/// Enqueues the kernels of both kinds of device.
struct Kernels {
    device: Device,
    streams: [Stream; 4],
    /// The module is kept because the function is part of it.
    spin: Option<(Function, Module)>,
}

impl Kernels {
    fn new(device: &Device) -> Result<Self, DriverError> {
        let streams = [Stream::new(device)?, Stream::new(device)?, Stream::new(device)?, Stream::new(device)?];
        let spin = match device.is_simulated() {
            true => None,
            false => {
                let module = Module::from_ptx(device, SPIN)?;
                Some((module.function("spin")?, module))
            }
        };
        Ok(Self { device: device.clone(), streams, spin })
    }

    fn launch(&self, stream: &Stream, address: u64) {
        let launched = match &self.spin {
            // SAFETY: this is the kernel's parameter; the kernel touches no memory.
            Some((spin, _)) => unsafe {
                stream.launch_kernel(spin, LaunchConfig::for_elements(1, 1), &[KernelArg::new(KERNEL_NANOSECONDS)])
            },
            None => {
                let kernel = HostKernel::new("spin", |_| ()).operations(6_700_000_000).writes(address, 8);
                // SAFETY: the block is live and ready on the stream, which frees it after the kernel.
                unsafe { stream.launch_host(kernel) }
            }
        };
        launched.unwrap_or_else(|error| common::give_up(error));
    }

    /// Enqueues 80 kernels. Returns the waits on a simulated device, or the milliseconds on a GPU.
    fn run(&self, stack: &AnyStack, bytes: usize) -> f64 {
        let layout = common::layout(bytes);
        let waits = || {
            let simulator = self.device.simulator();
            simulator
                .map_or(0, |simulator| simulator.calls(FaultCall::WaitEvent) + simulator.calls(FaultCall::Synchronize))
        };
        let (before, start) = (waits(), Instant::now());
        for stream in (0..ROUNDS).flat_map(|_| &self.streams) {
            let block = common::allocate(stack, stream, layout);
            self.launch(stream, block.addr());
            common::free(stack, stream, block);
        }
        let waited = waits() - before;
        self.streams.iter().for_each(|stream| stream.synchronize().unwrap_or_else(|error| common::give_up(error)));
        if self.device.is_simulated() { waited as f64 } else { start.elapsed().as_secs_f64() * 1e3 }
    }
}

fn measure(spec: &StackSpec, device: &Device) {
    let kernels = Kernels::new(device).unwrap_or_else(|error| common::give_up(error));
    let unit = if device.is_simulated() { "waits" } else { "ms" };
    for bytes in SIZES {
        let stack = common::build(spec, device);
        let cold = kernels.run(&stack, bytes);
        let warm = kernels.run(&stack, bytes);
        let name = format!("stream_waits/{}/{spec}/{} KiB", device.id(), bytes / KIB);
        println!("{name:<60} cold {cold:>7.1} {unit}  warm {warm:>7.1} {unit} in 80 kernels");
    }
}

fn main() {
    let device = common::named_device();
    let counts =
        if device.is_simulated() { "waits counted by the simulated device" } else { "milliseconds of 80 kernels" };
    eprintln!("{device}: {counts}");
    for spec in common::stacks("device | pool; async | pool; virtual | pool; managed | pool; pinned | pool") {
        measure(&spec, &device);
    }
}
