//! Random pairs among 10,000 live blocks of up to 1 MiB: blocks held in Rust, blocks by address, and blocks through the C
//! functions. The time is that of one thread for a pair; with 16 threads, each has its stream and 10,000 blocks.
//!
//! ```console
//! $ cargo bench -p cumem-c
//! ```

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use cumem::sim::Profile;
use cumem::{AnyResource, Block, CudaResource, Device, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, ByAddress, PoolOptions, ResourceExt};
use cumem_c::{CumemStack, CumemStatus, cumem_allocate, cumem_free, open_any};
use std::ffi::c_void;
use std::hint::black_box;
use std::ptr::{NonNull, null_mut, without_provenance_mut};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const LIVE: usize = 10_000;
const LARGEST: u64 = 1 << 20;

/// A way to hold blocks.
trait Holder: Sync {
    type Held: Send;
    fn allocate(&self, stream: &Stream, bytes: usize) -> Self::Held;
    fn free(&self, stream: &Stream, held: Self::Held);
}

struct InRust<R>(R);

impl<R: MemoryResource + Sync> Holder for InRust<R> {
    type Held = Block;

    fn allocate(&self, stream: &Stream, bytes: usize) -> Block {
        self.0.allocate(stream, layout::bytes(bytes).expect("a size")).expect("enough memory")
    }
    fn free(&self, stream: &Stream, held: Block) {
        // SAFETY: nothing uses the memory.
        unsafe { self.0.deallocate(stream, held) }.expect("a live block");
    }
}

struct ByAddresses<R>(ByAddress<R>);

impl<R: MemoryResource + Send + Sync> Holder for ByAddresses<R> {
    type Held = usize;

    fn allocate(&self, stream: &Stream, bytes: usize) -> usize {
        let layout = layout::bytes(bytes).expect("a size");
        self.0.allocate_address(stream, layout).expect("enough memory").as_ptr().expose_provenance()
    }
    fn free(&self, stream: &Stream, held: usize) {
        let address = NonNull::new(std::ptr::with_exposed_provenance_mut(held)).expect("not null");
        // SAFETY: nothing uses the memory.
        unsafe { self.0.deallocate_address(stream, address, None) }.expect("a live block");
    }
}

struct ThroughC(*mut CumemStack);

// SAFETY: the functions may be called by all threads.
unsafe impl Sync for ThroughC {}

fn handle(stream: &Stream) -> *mut c_void {
    without_provenance_mut(stream.as_raw() as usize)
}

impl Holder for ThroughC {
    type Held = usize;

    fn allocate(&self, stream: &Stream, bytes: usize) -> usize {
        let mut memory = null_mut();
        // SAFETY: the stream exists, and the stack is never closed.
        let status = unsafe { cumem_allocate(self.0, bytes, 0, handle(stream), &raw mut memory, null_mut()) };
        assert_eq!(status, CumemStatus::Success);
        memory.expose_provenance()
    }
    fn free(&self, stream: &Stream, held: usize) {
        let memory = std::ptr::with_exposed_provenance_mut(held);
        // SAFETY: as above, and nothing uses the memory.
        let status = unsafe { cumem_free(self.0, memory, 0, handle(stream), null_mut()) };
        assert_eq!(status, CumemStatus::Success);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Returns the mean of the threads' times for `pairs` pairs each.
fn run<H: Holder>(holder: &H, device: &Device, threads: usize, pairs: u64) -> Duration {
    let barrier = Barrier::new(threads);
    let work = |number: usize| {
        let stream = Stream::new(device).expect("a stream");
        let mut random = Random(number as u64);
        let mut size = move || random.below(LARGEST) as usize + 1;
        let mut live: Vec<_> = (0..LIVE).map(|_| Some(holder.allocate(&stream, size()))).collect();
        let mut place = Random(!(number as u64));
        barrier.wait();
        let start = Instant::now();
        for _ in 0..pairs {
            let slot = &mut live[place.below(LIVE as u64) as usize];
            let new = black_box(holder.allocate(&stream, size()));
            holder.free(&stream, slot.replace(new).expect("every place has a block"));
        }
        let elapsed = start.elapsed();
        live.into_iter().flatten().for_each(|held| holder.free(&stream, held));
        elapsed
    };
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || work(number))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum::<Duration>() / threads as u32
    })
}

fn live_blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("live_blocks");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for threads in [1, 16] {
        // Room for the blocks of all threads; no page of a simulated device's memory is touched.
        let profile = Profile::default().with_capacity(1 << 40);
        let device = Device::simulated(profile).expect("a device");
        let pool = || CudaResource::new(&device).pool(PoolOptions::new()).expect("a pool");
        let held = InRust(pool());
        let by_address = ByAddresses(pool().by_address());
        let c = ThroughC(open_any(AnyStack::OverDevice(AnyResource::new(pool()))));
        group.bench_function(BenchmarkId::new("held", threads), |b| {
            b.iter_custom(|pairs| run(&held, &device, threads, pairs))
        });
        group.bench_function(BenchmarkId::new("by_address", threads), |b| {
            b.iter_custom(|pairs| run(&by_address, &device, threads, pairs))
        });
        group.bench_function(BenchmarkId::new("c", threads), |b| {
            b.iter_custom(|pairs| run(&c, &device, threads, pairs))
        });
    }
    group.finish();
}

criterion_group!(benches, live_blocks);
criterion_main!(benches);
