//! Recorded uses: memory that is freed on one stream while another stream still works with it.

use crate::common::{free, sim, sim_with};
use cumem::error::DeallocReason;
use cumem::kernel::HostKernel;
use cumem::sim::Profile;
use cumem::{Block, CudaAsyncResource, CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{AddressError, Pool, PoolOptions, PoolState, ResourceExt};

const MIB: usize = 1 << 20;

fn pool(device: &Device, options: PoolOptions) -> Pool<CudaResource> {
    CudaResource::new(device).pool(options).unwrap()
}

fn allocate(pool: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    pool.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

/// Enqueues a second of work with a block.
fn work(stream: &Stream, block: &Block) {
    let kernel = HostKernel::new("work", |memory| memory.write::<u8>(0).fill(7));
    let kernel = kernel.writes(block.addr(), block.size()).operations(1_000_000_000_000);
    // SAFETY: the tests keep the memory until the stream has passed the kernel.
    unsafe { stream.launch_host(kernel) }.unwrap();
}

/// The owner allocates a block, and work on another stream uses it. Returns the address.
fn freed_while_used(pool: &Pool<CudaResource>, owner: &Stream, other: &Stream, bytes: usize) -> u64 {
    let block = allocate(pool, owner, bytes);
    let addr = block.addr();
    other.wait_for(owner).unwrap();
    work(other, &block);
    pool.state().record_use(&block, other).unwrap();
    free(pool, owner, block).unwrap();
    addr
}

#[test]
fn used_memory_comes_back_when_the_other_stream_has_passed_the_free() {
    let (device, owner) = sim();
    let other = Stream::new(&device).unwrap();
    let pool = pool(&device, PoolOptions::new());
    let used = freed_while_used(&pool, &owner, &other, 3 * MIB);
    let stats = pool.stats();
    assert_eq!((stats.blocks, stats.allocated, stats.reserved - stats.free), (0, 0, 0));
    let second = allocate(&pool, &owner, 3 * MIB);
    assert_ne!(second.addr(), used, "the other stream still works with it");
    assert!(owner.is_idle().unwrap() && !other.is_idle().unwrap(), "neither waits for the other");
    other.synchronize().unwrap();
    let third = allocate(&pool, &owner, 3 * MIB);
    assert_eq!(third.addr(), used);
    assert!(owner.is_idle().unwrap());
    [second, third].into_iter().for_each(|block| free(&pool, &owner, block).unwrap());
    pool.trim().unwrap();
    assert_eq!(pool.stats().reserved, 0);
}

/// Without a recorded use, the memory is handed out at once, which is a race of the program.
#[test]
fn the_race_detector_sees_the_difference() {
    for recorded in [true, false] {
        let (device, owner) = sim();
        let simulator = device.simulator().unwrap();
        simulator.detect_races(true);
        let other = Stream::new(&device).unwrap();
        let pool = pool(&device, PoolOptions::new());
        let block = allocate(&pool, &owner, 3 * MIB);
        let first = block.addr();
        other.wait_for(&owner).unwrap();
        work(&other, &block);
        if recorded {
            pool.state().record_use(&block, &other).unwrap();
        }
        free(&pool, &owner, block).unwrap();
        // Other memory, and the same memory after the host has waited.
        let blocks = [false, true].map(|wait| {
            if wait {
                other.synchronize().unwrap();
            }
            let block = allocate(&pool, &owner, 3 * MIB);
            work(&owner, &block);
            assert!(!recorded || (block.addr() == first) == wait);
            block
        });
        blocks.into_iter().for_each(|block| free(&pool, &owner, block).unwrap());
        let races = simulator.take_races();
        assert_eq!(races.is_empty(), recorded, "{races:?}");
    }
}

#[test]
fn a_full_pool_makes_the_owner_wait_for_the_use_and_does_not_fail() {
    let (device, owner) = sim();
    let other = Stream::new(&device).unwrap();
    let pool = pool(&device, PoolOptions::new().initial(4 * MIB).maximum(4 * MIB));
    let live = allocate(&pool, &owner, 1000); // so that the pool is not replaced as an empty one
    let used = freed_while_used(&pool, &owner, &other, 3 * MIB);
    let again = allocate(&pool, &owner, 3 * MIB);
    assert_eq!(again.addr(), used);
    assert!(!owner.is_idle().unwrap(), "it waits for the other stream");
    owner.synchronize().unwrap();
    assert!(other.is_idle().unwrap());
    [again, live].into_iter().for_each(|block| free(&pool, &owner, block).unwrap());
}

#[test]
fn the_recorded_stream_itself_gets_the_memory_at_once() {
    let (device, owner) = sim();
    let other = Stream::new(&device).unwrap();
    let pool = pool(&device, PoolOptions::new());
    let used = freed_while_used(&pool, &owner, &other, 3 * MIB);
    let block = allocate(&pool, &other, 3 * MIB);
    assert_eq!(block.addr(), used);
    free(&pool, &other, block).unwrap();
}

#[test]
fn a_use_on_the_stream_of_the_free_costs_nothing() {
    let (device, owner) = sim();
    let pool = pool(&device, PoolOptions::new());
    let used = freed_while_used(&pool, &owner, &owner, 3 * MIB);
    let block = allocate(&pool, &owner, 3 * MIB);
    assert_eq!(block.addr(), used);
    free(&pool, &owner, block).unwrap();
}

#[test]
fn all_recorded_streams_count() {
    let (device, owner) = sim();
    let others = [(); 3].map(|()| Stream::new(&device).unwrap());
    let pool = pool(&device, PoolOptions::new());
    let block = allocate(&pool, &owner, 3 * MIB);
    let used = block.addr();
    for other in others.iter().chain(&others) {
        pool.state().record_use(&block, other).unwrap();
    }
    // Work that is enqueued after the record, and before the free, counts too.
    for other in &others {
        other.wait_for(&owner).unwrap();
        work(other, &block);
    }
    free(&pool, &owner, block).unwrap();
    let mut live = Vec::new();
    for other in &others {
        let block = allocate(&pool, &owner, 3 * MIB);
        assert_ne!(block.addr(), used);
        live.push(block);
        other.synchronize().unwrap();
    }
    // All of the work runs at the same time, so one synchronization may end several.
    live.push(allocate(&pool, &owner, 3 * MIB));
    assert_eq!(live.last().unwrap().addr(), used);
    live.into_iter().for_each(|block| free(&pool, &owner, block).unwrap());
}

/// The pool never uses the handle of a foreign stream that is gone, and does not keep the memory for it.
#[test]
fn a_foreign_stream_that_its_owner_has_destroyed_delays_nothing_for_ever() {
    let (device, owner) = sim();
    let pool = pool(&device, PoolOptions::new().initial(4 * MIB).maximum(4 * MIB));
    let live = allocate(&pool, &owner, 1000); // so that the pool is not replaced as an empty one
    for round in 0..3 {
        let owned = Stream::new(&device).unwrap();
        // SAFETY: the stream exists until the block's use is enqueued and recorded.
        let foreign = unsafe { Stream::from_raw(&device, owned.as_raw()) };
        let block = allocate(&pool, &owner, 3 * MIB);
        foreign.wait_for(&owner).unwrap();
        work(&foreign, &block);
        pool.state().record_use(&block, &foreign).unwrap();
        drop((foreign, owned));
        free(&pool, &owner, block).unwrap();
        assert_eq!(pool.stats().blocks, 1);
        assert_eq!(owner.is_idle().unwrap(), round == 0, "a full pool makes the owner wait");
    }
    device.synchronize().unwrap();
    free(&pool, &owner, live).unwrap();
    assert_eq!(pool.trim().unwrap(), 4 * MIB);
}

#[test]
fn an_owned_stream_is_kept_until_the_block_is_freed() {
    let (device, owner) = sim();
    let pool = pool(&device, PoolOptions::new());
    let other = Stream::new(&device).unwrap();
    let block = allocate(&pool, &owner, 3 * MIB);
    let used = block.addr();
    other.wait_for(&owner).unwrap();
    work(&other, &block);
    pool.state().record_use(&block, &other).unwrap();
    drop(other);
    free(&pool, &owner, block).unwrap();
    let second = allocate(&pool, &owner, 3 * MIB);
    assert_ne!(second.addr(), used);
    free(&pool, &owner, second).unwrap();
}

#[test]
fn a_use_is_recorded_for_live_blocks_of_the_pool_only() {
    let (device, owner) = sim();
    let (pool, other) = (pool(&device, PoolOptions::new()), pool(&device, PoolOptions::new()));
    let (_elsewhere, far) = sim();
    let block = allocate(&pool, &owner, 1000);
    let foreign = Err(AddressError::Foreign { addr: block.addr() });
    assert_eq!(other.state().record_use(&block, &owner), foreign);
    let error = pool.state().record_use(&block, &far).unwrap_err();
    assert!(matches!(error, AddressError::Refused { reason: DeallocReason::Device(_), .. }), "{error}");
    // A copy of the description, whose block is freed.
    let copy = Block::new(block.maker(), block.as_non_null(), block.layout(), block.tag());
    free(&pool, &owner, block).unwrap();
    assert_eq!(pool.state().record_use(&copy, &owner), foreign);
    let _ = copy;
    let stack = pool.by_address();
    let address = stack.allocate_address(&owner, layout::bytes(1000).unwrap()).unwrap();
    stack.record_use(address, &owner).unwrap();
    // SAFETY: nothing uses the memory.
    unsafe { stack.deallocate_address(&owner, address, None) }.unwrap();
    let addr = address.as_ptr() as u64;
    assert_eq!(stack.record_use(address, &owner), Err(AddressError::AlreadyFree { addr }));
}

#[test]
fn uses_by_address_hold_in_a_pool_and_in_a_leaf() {
    let (device, owner) = sim();
    let other = Stream::new(&device).unwrap();
    let stacks = [
        cumem::AnyUpstream::new(pool(&device, PoolOptions::new())),
        cumem::AnyUpstream::new(CudaAsyncResource::new(&device).unwrap()),
    ];
    for stack in stacks {
        let stack = stack.by_address();
        let layout = layout::bytes(3 * MIB).unwrap();
        let address = stack.allocate_address(&owner, layout).unwrap();
        owner.synchronize().unwrap();
        let kernel = HostKernel::new("work", |_| ()).operations(1_000_000_000_000);
        // SAFETY: the kernel uses no memory.
        unsafe { other.launch_host(kernel) }.unwrap();
        stack.record_use(address, &other).unwrap();
        // SAFETY: all uses are recorded.
        unsafe { stack.deallocate_address(&owner, address, Some(3 * MIB)) }.unwrap();
        // The pool delays the memory, and a leaf's free waits on the owner's stream.
        assert_eq!(owner.is_idle().unwrap(), stack.find::<PoolState>().is_some());
        let second = stack.allocate_address(&owner, layout).unwrap();
        assert!(second != address || !owner.is_idle().unwrap());
        // SAFETY: nothing uses the memory.
        unsafe { stack.deallocate_address(&owner, second, None) }.unwrap();
        other.synchronize().unwrap();
    }
}

/// Each driver call of a free with a recorded use fails in turn. The block stays live then, and can be freed again.
#[test]
fn a_refused_event_loses_nothing() {
    cumem::sim::faults::enumerate(&Profile::default(), |device| {
        let owner = Stream::new(device)?;
        let other = Stream::new(device)?;
        let pool = CudaResource::new(device).pool(PoolOptions::new())?;
        let block = pool.allocate(&owner, layout::bytes(MIB)?)?;
        let kernel = HostKernel::new("work", |_| ()).operations(1_000_000_000_000);
        // SAFETY: the kernel uses no memory.
        let launched = unsafe { other.launch_host(kernel) };
        let recorded = pool.state().record_use(&block, &other);
        let freed = free(&pool, &owner, block).or_else(|error| {
            assert_eq!(pool.stats().blocks, 1);
            free(&pool, &owner, error.block)
        });
        assert_eq!(pool.stats().blocks, 0);
        launched?;
        recorded?;
        Ok::<_, Box<dyn std::error::Error>>(freed?)
    })
    .assert();
}

/// Blocks of all sizes with random uses. No memory that a stream still works with is handed out to another without
/// a wait, and everything is returned.
#[test]
fn programs_with_uses_have_no_races() {
    let (device, _) = sim_with(Profile::default());
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let streams = [(); 4].map(|()| Stream::new(&device).unwrap());
    for options in [PoolOptions::new(), PoolOptions::new().maximum(16 * MIB), PoolOptions::new().release_threshold(0)] {
        let pool = pool(&device, options);
        let (mut live, mut seed) = (Vec::new(), 7_u64);
        let mut next = |most: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % most
        };
        for _ in 0..400 {
            let owner = next(4);
            if let Ok(block) = pool.allocate(&streams[owner], layout::bytes(next(MIB) + 1).unwrap()) {
                let fill = |stream: &Stream| {
                    let kernel = HostKernel::new("work", |memory| memory.write::<u8>(0).fill(7));
                    let kernel = kernel.writes(block.addr(), block.size()).operations(1_000_000_000);
                    // SAFETY: the block stays live until its uses are enqueued or recorded.
                    unsafe { stream.launch_host(kernel) }.unwrap();
                };
                fill(&streams[owner]);
                if next(2) == 0 {
                    let other = &streams[next(4)];
                    other.wait_for(&streams[owner]).unwrap();
                    fill(other);
                    pool.state().record_use(&block, other).unwrap();
                }
                live.push((owner, block));
            }
            if live.len() > 12 {
                let (owner, block) = live.swap_remove(next(live.len()));
                free(&pool, &streams[owner], block).unwrap();
            }
            let stats = pool.stats();
            assert_eq!(stats.allocated + stats.free, stats.reserved);
        }
        live.into_iter().for_each(|(owner, block)| free(&pool, &streams[owner], block).unwrap());
        device.synchronize().unwrap();
        pool.trim().unwrap();
        assert_eq!((pool.stats().reserved, pool.stats().blocks), (0, 0));
    }
    let races = simulator.take_races();
    assert!(races.is_empty(), "{} races, the first: {}", races.len(), races[0]);
}
