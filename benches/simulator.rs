//! The speed of the simulated driver for managed memory, on one core of the host.
//!
//! An element is one operation on a block of pages: a fault that is served, a migration (the copy of one contiguous run
//! of pages), or the eviction of a 2 MiB chunk, as `DeviceStatistics` counts them. The kernels do nothing and no byte
//! moves, because the location of simulated pages is bookkeeping only.

mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cumem::kernel::{AccessMode, HostKernel, Pattern};
use cumem::sim::{FaultPrefetch, Profile};
use cumem::{Buffer, Device, Location, ManagedResource, Stream};

const MIB: usize = 1 << 20;

/// A simulated device with one buffer of managed memory.
struct Bench {
    device: Device,
    stream: Stream,
    buffer: Buffer<u8, ManagedResource>,
    bytes: usize,
}

impl Bench {
    fn new(profile: Profile, bytes: usize) -> Self {
        let give_up = |error: &dyn std::fmt::Display| -> ! { common::give_up(error) };
        let device = Device::simulated(profile).unwrap_or_else(|error| give_up(&error));
        let stream = Stream::new(&device).unwrap_or_else(|error| give_up(&error));
        let resource = ManagedResource::new(&device).unwrap_or_else(|error| give_up(&error));
        let buffer = Buffer::with_capacity(bytes, &stream, resource).unwrap_or_else(|error| give_up(&error));
        Self { device, stream, buffer, bytes }
    }

    fn host_reads(&self) {
        let simulator = self.device.simulator().expect("the device is simulated");
        let read = simulator.access_from_host(self.buffer.as_ptr(), self.bytes, AccessMode::Read);
        read.unwrap_or_else(|error| common::give_up(error));
    }

    fn kernel_writes(&self, pattern: Pattern, in_flight: usize) {
        let kernel = HostKernel::new("touch", |_| ()).writes(self.buffer.device_address(), self.bytes);
        // SAFETY: the buffer outlives the kernel, and the kernel accesses no byte.
        let launched = unsafe { self.stream.launch_host(kernel.in_order(pattern).in_flight(in_flight)) };
        launched.and_then(|()| self.stream.synchronize()).unwrap_or_else(|error| common::give_up(error));
    }

    fn prefetch(&self, offset: usize, bytes: usize) {
        let to = Location::Device(self.device.id());
        let applied = cumem::unified::hints::prefetch(self.buffer.block(), offset..offset + bytes, to, &self.stream);
        let _ = applied.unwrap_or_else(|error| common::give_up(error));
        self.stream.synchronize().unwrap_or_else(|error| common::give_up(error));
    }

    fn operations(&self) -> u64 {
        let simulator = self.device.simulator().expect("the device is simulated");
        let all = simulator.statistics(self.device.id()).expect("it is the simulator's");
        all.faults + all.host_faults + all.migrations + all.evictions
    }

    /// Runs `iteration` once to warm up and once to count its operations, then measures it.
    fn run(&self, criterion: &mut Criterion, name: &str, mut iteration: impl FnMut(&Self)) {
        iteration(self);
        let before = self.operations();
        iteration(self);
        // The name of the group leaves out the machine, because each bench has its own and its number has no meaning.
        let mut group = criterion.benchmark_group(format!("simulator/sim:{}", self.device.id().ordinal()));
        group.throughput(Throughput::Elements(self.operations() - before));
        group.bench_function(name, |bencher| bencher.iter(|| iteration(self)));
        group.finish();
    }
}

fn simulator(criterion: &mut Criterion) {
    let sized = |bytes: usize| Profile::tiny(bytes as u64);
    Bench::new(sized(1024 * MIB), 512 * MIB).run(criterion, "back and forth, 512 MiB ascending", |bench| {
        bench.kernel_writes(Pattern::Sequential, 1);
        bench.host_reads();
    });
    Bench::new(sized(1024 * MIB), 512 * MIB).run(criterion, "back and forth, 50,000 random touches", |bench| {
        bench.kernel_writes(Pattern::Random { seed: 1, touches: 50_000 }, 64);
        bench.host_reads();
    });
    let mut small = sized(256 * MIB);
    small.fault_prefetch = FaultPrefetch::Off;
    Bench::new(small, 64 * MIB).run(criterion, "back and forth, 64 MiB without the driver's prefetcher", |bench| {
        bench.kernel_writes(Pattern::Sequential, 256);
        bench.host_reads();
    });
    Bench::new(sized(256 * MIB), 512 * MIB).run(criterion, "oversubscribed twice, 512 MiB ascending", |bench| {
        bench.kernel_writes(Pattern::Sequential, 1);
    });
    Bench::new(sized(256 * MIB), 512 * MIB).run(
        criterion,
        "oversubscribed twice, prefetched 32 MiB at a time",
        |bench| {
            for offset in (0..512 * MIB).step_by(32 * MIB) {
                bench.prefetch(offset, 32 * MIB);
            }
        },
    );
}

criterion_group!(benches, simulator);
criterion_main!(benches);
