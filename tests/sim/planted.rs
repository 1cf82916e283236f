//! Seventeen planted bugs, and what the race detector reports for each. Each bug has a neighbour that is no bug, for
//! which the detector reports nothing.

use crate::common::{free, simulated};
use cumem::error::TrimError;
use cumem::kernel::HostKernel;
use cumem::kind::Managed;
use cumem::layer::Beneath;
use cumem::resource::MakerId;
use cumem::sim::{AccessKind, Race, RaceKind};
use cumem::{
    AllocError, Block, Buffer, CudaAsyncResource, CudaResource, DeallocError, Device, Event, Layer, ManagedResource,
    MemoryResource, Stream, UnifiedBuffer, layout,
};
use cumem_adaptors::{Pool, PoolOptions, ResourceExt};
use cumem_driver::{AccessMode, Driver, RawStream};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Barrier;
use std::thread;

/// A device with race detection, two streams, and a pool with memory for many blocks.
struct Rig {
    device: Device,
    first: Stream,
    second: Stream,
    pool: Pool<CudaResource>,
}

impl Rig {
    fn new() -> Self {
        let device = simulated();
        device.simulator().unwrap().detect_races(true);
        let [first, second] = [(); 2].map(|()| Stream::new(&device).unwrap());
        let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(4 << 20)).unwrap();
        Self { device, first, second, pool }
    }

    fn races(&self) -> Vec<Race> {
        self.device.simulator().unwrap().take_races()
    }

    #[track_caller]
    fn only(&self) -> Race {
        let races = self.races();
        assert_eq!(races.len(), 1, "{races:#?}");
        races[0].clone()
    }

    #[track_caller]
    fn none(&self) {
        assert_eq!(self.races(), []);
    }

    /// Checks the kind of the only race, and what made its two uses.
    #[track_caller]
    fn verdict(&self, kind: RaceKind, first: &str, second: &str) -> Race {
        let race = self.only();
        assert_eq!((race.kind, race.first.by, race.second.by), (kind, first, second), "{race}");
        race
    }

    fn buffer(&self, bytes: usize) -> Buffer<u8, &Pool<CudaResource>> {
        Buffer::with_capacity(bytes, &self.first, &self.pool).unwrap()
    }
}

#[track_caller]
fn launch(stream: &Stream, kernel: HostKernel) {
    // SAFETY: the closures of these tests touch no memory, so the bugs that they declare do not happen.
    unsafe { stream.launch_host(kernel) }.unwrap();
}

#[track_caller]
fn write(name: &'static str, addr: u64, bytes: usize, stream: &Stream) {
    launch(stream, HostKernel::new(name, |_| ()).writes(addr, bytes));
}

#[track_caller]
fn read(name: &'static str, addr: u64, bytes: usize, stream: &Stream) {
    launch(stream, HostKernel::new(name, |_| ()).reads(addr, bytes));
}

#[test]
fn bug_1_a_dropped_buffer_of_a_pool_is_used_on_its_own_stream() {
    let rig = Rig::new();
    let buffer = rig.buffer(1000);
    let (addr, allocated) = (buffer.device_address(), line!() - 1);
    write("in time", addr, 1000, &rig.first);
    drop(buffer);
    rig.none();
    write("late", addr, 1000, &rig.first);
    let used = line!() - 1;
    let race = rig.verdict(RaceKind::UseAfterFree, "a pool", "late");
    assert_eq!((race.first.kind, race.addresses.clone()), (AccessKind::Freed, addr..addr + 1000));
    // Both places are known: the line of the use, and the line that allocated the block.
    assert_eq!(race.second.caller.map(|place| place.line()), Some(used));
    let text = race.to_string();
    assert!(
        text.contains("use after free, 1000 bytes") && text.contains("; the block was allocated by a pool"),
        "{text}"
    );
    assert!(text.contains(&format!("planted.rs:{}:", used)), "{text}");
    let place = race.allocated.as_ref().and_then(|allocated| allocated.caller).expect("the buffer records its caller");
    assert!(place.line() < allocated && place.file().ends_with("planted.rs"), "{place}");
    // The memory may be used again by its next owner.
    let next = rig.buffer(1000);
    assert_eq!(next.device_address(), addr);
    write("next", addr, 1000, &rig.first);
    rig.none();
}

#[test]
fn bug_2_a_dropped_buffer_of_a_pool_is_used_on_another_stream() {
    let rig = Rig::new();
    let buffer = rig.buffer(1000);
    let addr = buffer.device_address();
    drop(buffer);
    // The order of the streams does not make it right.
    rig.second.wait_for(&rig.first).unwrap();
    read("late", addr + 10, 20, &rig.second);
    let race = rig.verdict(RaceKind::UseAfterFree, "a pool", "late");
    assert_eq!(race.addresses, addr + 10..addr + 30);
}

#[test]
fn bug_3_a_freed_block_is_used() {
    let rig = Rig::new();
    let block = rig.pool.allocate(&rig.first, layout::bytes(4096).unwrap()).unwrap();
    let addr = block.addr();
    write("in time", addr, 4096, &rig.first);
    free(&rig.pool, &rig.first, block).unwrap();
    rig.none();
    write("late", addr, 1, &rig.first);
    rig.verdict(RaceKind::UseAfterFree, "a pool", "late");
}

#[test]
fn bug_4_a_fill_writes_a_freed_block() {
    let rig = Rig::new();
    let block = rig.pool.allocate(&rig.first, layout::bytes(64).unwrap()).unwrap();
    let (ptr, stream) = (block.as_non_null().as_ptr(), RawStream(rig.first.as_raw()));
    let fill = || {
        // SAFETY: the pool's chunk keeps the memory allocated, and nothing else uses the memory.
        unsafe { rig.device.simulator().unwrap().fill_async(0, ptr, 7, 64, stream) }.unwrap();
    };
    fill();
    free(&rig.pool, &rig.first, block).unwrap();
    rig.none();
    fill();
    rig.verdict(RaceKind::UseAfterFree, "a pool", "cuMemsetD8Async");
}

#[test]
fn bug_5_the_host_reads_a_freed_block() {
    let rig = Rig::new();
    let pool = ManagedResource::new(&rig.device).unwrap().pool(PoolOptions::new().initial(2 << 20)).unwrap();
    let block = pool.allocate(&rig.first, layout::bytes(64).unwrap()).unwrap();
    let ptr = block.as_ptr();
    rig.first.synchronize().unwrap();
    let look = || rig.device.simulator().unwrap().access_from_host(ptr, 64, AccessMode::Read).unwrap();
    look();
    free(&pool, &rig.first, block).unwrap();
    rig.first.synchronize().unwrap();
    rig.none();
    look();
    rig.verdict(RaceKind::UseAfterFree, "a pool", "the host");
}

#[test]
fn bug_6_the_memory_of_a_freed_block_is_another_blocks_and_the_old_size_is_used() {
    let rig = Rig::new();
    let old = rig.buffer(4096);
    let addr = old.device_address();
    drop(old);
    let next = rig.buffer(256);
    assert_eq!(next.device_address(), addr);
    write("next", addr, 256, &rig.first);
    rig.none();
    write("stale", addr, 4096, &rig.first);
    let race = rig.verdict(RaceKind::OutOfBounds, "a pool", "stale");
    assert_eq!((race.first.kind, race.addresses), (AccessKind::Allocated, addr + 256..addr + 4096));
}

#[test]
fn bug_7_a_kernel_writes_into_the_next_block() {
    let rig = Rig::new();
    let blocks = [rig.buffer(1024), rig.buffer(1024)];
    let [low, high] = blocks.each_ref().map(|buffer| buffer.device_address());
    assert_eq!(high, low + 1024);
    write("both in bounds", low, 1024, &rig.first);
    write("both in bounds", high, 1024, &rig.first);
    rig.none();
    write("one too many", low, 1028, &rig.first);
    let race = rig.verdict(RaceKind::OutOfBounds, "a pool", "one too many");
    assert_eq!(race.addresses, high..high + 4);
    assert!(race.to_string().starts_with("use outside of a block, 4 bytes at 0x"), "{race}");
}

#[test]
fn bug_8_a_kernel_writes_into_memory_that_is_no_block() {
    let rig = Rig::new();
    // The pool rounds the block up to 1024 bytes, so no other block is hurt in this run.
    let buffer = rig.buffer(1000);
    let addr = buffer.device_address();
    read("one too many", addr, 1001, &rig.first);
    let race = rig.verdict(RaceKind::OutOfBounds, "a pool", "one too many");
    assert_eq!(race.addresses, addr + 1000..addr + 1001);
}

#[test]
fn bug_9_a_kernel_begins_before_its_block() {
    let rig = Rig::new();
    let buffers = [rig.buffer(256), rig.buffer(256)];
    let [low, high] = buffers.each_ref().map(|buffer| buffer.device_address());
    let [first, second] = buffers;
    drop(first);
    write("from its begin", high, 256, &rig.first);
    rig.none();
    write("from before its begin", high - 8, 16, &rig.first);
    let race = rig.verdict(RaceKind::UseAfterFree, "a pool", "from before its begin");
    assert_eq!((race.addresses, low + 256), (high - 8..high, high));
    drop(second);
}

#[test]
fn bug_10_memory_that_the_driver_freed_is_used() {
    let rig = Rig::new();
    let (leaf, layout) = (CudaAsyncResource::new(&rig.device).unwrap(), layout::bytes(4096).unwrap());
    let block = leaf.allocate(&rig.first, layout).unwrap();
    let addr = block.addr();
    write("in time", addr, 4096, &rig.first);
    free(&leaf, &rig.first, block).unwrap();
    rig.none();
    // SAFETY: the simulator refuses the kernel, so it touches no memory.
    unsafe { rig.first.launch_host(HostKernel::new("late", |_| ()).reads(addr, 16)) }.unwrap_err();
    rig.verdict(RaceKind::UseAfterFree, "cuMemFreeAsync", "late");
}

#[test]
fn bug_11_two_streams_write_the_same_bytes() {
    let rig = Rig::new();
    let buffer = rig.buffer(64);
    rig.second.wait_for(&rig.first).unwrap();
    write("one", buffer.device_address(), 32, &rig.first);
    write("apart", buffer.device_address() + 32, 32, &rig.second);
    rig.none();
    write("other", buffer.device_address(), 32, &rig.second);
    rig.verdict(RaceKind::Unordered, "one", "other");
    rig.first.wait_for(&rig.second).unwrap();
}

#[test]
fn bug_12_an_event_is_recorded_before_the_work_that_it_should_cover() {
    let rig = Rig::new();
    let buffer = rig.buffer(64);
    let event = Event::new(&rig.device).unwrap();
    event.record(&rig.first).unwrap();
    write("producer", buffer.device_address(), 64, &rig.first);
    rig.second.wait(&event).unwrap();
    read("consumer", buffer.device_address(), 64, &rig.second);
    rig.verdict(RaceKind::Unordered, "producer", "consumer");
    event.record(&rig.first).unwrap();
    rig.second.wait(&event).unwrap();
    read("consumer", buffer.device_address(), 64, &rig.second);
    rig.none();
    rig.first.wait_for(&rig.second).unwrap();
}

#[test]
fn bug_13_a_buffer_is_dropped_before_another_stream_is_done_with_it() {
    let rig = Rig::new();
    for waits in [false, true] {
        let buffer = rig.buffer(64);
        rig.second.wait_for(&rig.first).unwrap();
        read("other", buffer.device_address(), 64, &rig.second);
        if waits {
            rig.first.wait_for(&rig.second).unwrap();
        }
        drop(buffer);
        if waits {
            rig.none();
        } else {
            rig.verdict(RaceKind::ReuseBeforeLastUse, "other", "a block");
        }
    }
}

#[test]
fn bug_14_a_block_is_used_on_a_stream_that_does_not_wait_for_its_allocation() {
    let rig = Rig::new();
    let buffer = rig.buffer(64);
    write("early", buffer.device_address(), 64, &rig.second);
    rig.verdict(RaceKind::UseBeforeAllocation, "a block", "early");
    rig.first.wait_for(&rig.second).unwrap();
}

#[test]
fn bug_15_the_host_reads_before_it_waits() {
    let rig = Rig::new();
    let pool = ManagedResource::new(&rig.device).unwrap().pool(PoolOptions::new()).unwrap();
    let buffer = UnifiedBuffer::<u32, _>::zeroed(16, &rig.first, &pool).unwrap();
    rig.second.wait_for(&rig.first).unwrap();
    // The guard waits for the buffer's stream, which is not the one that writes.
    write("behind its back", buffer.device_address(), 4, &rig.second);
    drop(buffer.host_read().unwrap());
    rig.verdict(RaceKind::HostAccess, "behind its back", "the host");
    rig.second.synchronize().unwrap();
    drop(buffer.host_read().unwrap());
    rig.none();
}

#[test]
fn bug_16_a_thread_writes_and_waits_while_another_thread_reads() {
    let rig = Rig::new();
    let pool = ManagedResource::new(&rig.device).unwrap().pool(PoolOptions::new()).unwrap();
    let buffer = UnifiedBuffer::<u32, _>::zeroed(16, &rig.first, &pool).unwrap();
    let addr = buffer.device_address();
    let write_and_wait = || {
        write("meanwhile", addr, 4, &rig.first);
        rig.first.synchronize().unwrap();
    };
    let guard = buffer.host_read().unwrap();
    thread::scope(|scope| scope.spawn(write_and_wait).join()).unwrap();
    // The wait ordered the kernel before this line, but not before the begin of the access.
    drop(guard);
    rig.verdict(RaceKind::HostAccess, "meanwhile", "the host");
    thread::scope(|scope| scope.spawn(write_and_wait).join()).unwrap();
    drop(buffer.host_read().unwrap());
    rig.none();
}

#[test]
fn bug_17_two_threads_access_the_same_memory_at_the_same_time() {
    let rig = Rig::new();
    let managed = ManagedResource::new(&rig.device).unwrap();
    let memory = managed.allocate(&rig.first, layout::bytes(64).unwrap()).unwrap();
    let twice = Twice(memory.as_ptr().expose_provenance(), &managed, MakerId::unique());
    let [mut one, other] = [(); 2].map(|()| {
        // SAFETY: `Pod` bytes of an allocation that the host has access to.
        unsafe { UnifiedBuffer::<u8, _>::uninit(64, &rig.first, &twice) }.unwrap()
    });
    let both_open = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let guard = one.host_write().unwrap();
            both_open.wait();
            both_open.wait();
            drop(guard);
        });
        both_open.wait();
        drop(other.host_read().unwrap());
        both_open.wait();
    });
    rig.verdict(RaceKind::HostOverlap, "the host", "the host");
    // One after the other is no race.
    drop(one.host_write().unwrap());
    drop(other.host_read().unwrap());
    rig.none();
    drop((one, other));
    free(&managed, &rig.first, memory).unwrap();
}

/// A broken resource: all its blocks are at one address.
struct Twice<'a>(usize, &'a ManagedResource, MakerId);

// SAFETY: the memory is allocated while the resource exists. Two blocks share it, which is the planted bug, and the test
// does not use the elements.
unsafe impl MemoryResource for Twice<'_> {
    type Kind = Managed;

    fn allocate(&self, _stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let ptr = NonNull::new(std::ptr::with_exposed_provenance_mut(self.0)).expect("an allocation");
        Ok(Block::new(self.2, ptr, layout, 0))
    }

    unsafe fn deallocate(&self, _stream: &Stream, _block: Block) -> Result<(), DeallocError> {
        Ok(())
    }
}

impl Layer for Twice<'_> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("twice")
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(self.1)
    }
    fn state(&self) -> &dyn Any {
        &()
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

/// A pool that exists before the detector is switched on, and that is used after it is switched off.
#[test]
fn a_warm_pool_declares_blocks_while_the_detector_is_on() {
    let rig = Rig::new();
    let sim = rig.device.simulator().unwrap();
    sim.detect_races(false);
    let [early, older] = [rig.buffer(4096), rig.buffer(4096)];
    drop(older);
    sim.detect_races(true);
    let addr = early.device_address();
    drop(early); // was not declared, so its free is not known
    write("unknown", addr, 1, &rig.first);
    rig.none();
    let later = rig.buffer(4096);
    let addr = later.device_address();
    drop(later);
    write("late", addr, 1, &rig.first);
    rig.verdict(RaceKind::UseAfterFree, "a pool", "late");
    let last = rig.buffer(4096);
    sim.detect_races(false);
    drop([rig.buffer(4096), last]);
    assert_eq!((rig.pool.stats().blocks, rig.pool.stats().requested), (0, 0));
    sim.detect_races(true);
    write("unknown", addr, 1, &rig.first);
    rig.none();
}

/// Blocks at every stage of a pool's life raise no false alarm: growth, other streams, slots that change their stream,
/// a trimmed pool, and a pool over a pool.
#[test]
fn a_busy_pool_is_no_race() {
    let rig = Rig::new();
    let pools = CudaResource::new(&rig.device).pool(PoolOptions::new().step(2 << 20)).unwrap();
    let stack = pools.pool(PoolOptions::new().step(1 << 20).release_threshold(4 << 20)).unwrap();
    let streams: Vec<_> = (0..12).map(|_| Stream::new(&rig.device).unwrap()).collect();
    for round in 0..300 {
        let (here, there) = (&streams[round % 12], &streams[round * 7 % 12]);
        let bytes = 1 + round * 7919 % 300_000;
        let mut buffer = Buffer::<u8, _>::with_capacity(bytes, here, &stack).unwrap();
        write("here", buffer.device_address(), bytes, here);
        buffer.set_stream(there).unwrap();
        read("there", buffer.device_address(), bytes, there);
        let other = (round % 3 == 0).then(|| Buffer::<u8, _>::with_capacity(bytes / 2 + 1, there, &stack).unwrap());
        drop(buffer);
        drop(other);
        if round % 50 == 49 {
            stack.trim().unwrap();
        }
    }
    rig.none();
}
