//! Blocks that are freed by address.

use cumem::error::DeallocReason;
use cumem::resource::MakerId;
use cumem::sim::Profile;
use cumem::{
    AllocError, Block, CudaResource, CudaVirtualResource, DeallocError, Device, LayerExt, ManagedResource,
    MemoryResource, PinnedResource, Stream, Upstream, layout,
};
use cumem_adaptors::{
    AddressError, AnyStack, ByAddress, PoolOptions, PoolState, ResourceExt, StackSpec, StatisticsState,
};
use cumem_conformance::{Expectations, FailNth, adaptor_conformance, conformance};
use std::alloc::Layout;
use std::ptr::NonNull;

/// Makes its own blocks, and frees those of its upstream by address.
struct Through<U> {
    maker: MakerId,
    upstream: ByAddress<U>,
}

impl<U: Upstream> Through<U> {
    fn new(upstream: U) -> Self {
        Self { maker: MakerId::unique(), upstream: upstream.by_address() }
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Through<U> {
        upstream: U = upstream;
        describe = "through";
    }
}

// SAFETY: every block is memory of a block of the upstream, which stays live until this block is freed.
unsafe impl<U: Upstream> MemoryResource for Through<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        if layout.size() == 0 {
            return self.upstream.allocate(stream, layout);
        }
        let address = self.upstream.allocate_address(stream, layout)?;
        Ok(Block::new(self.maker, address, layout, 0))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        if block.maker() != self.maker {
            // SAFETY: the caller upholds the contract of the upstream, which is the same.
            return unsafe { self.upstream.deallocate(stream, block) };
        }
        // SAFETY: the caller upholds the contract, which is the same.
        let freed = unsafe { self.upstream.deallocate_address(stream, block.as_non_null(), Some(block.size())) };
        match freed {
            Ok(()) => Ok(()),
            Err(AddressError::Refused { reason, .. }) => Err(DeallocError::new(block, reason)),
            Err(error) => panic!("{error}"),
        }
    }
}

adaptor_conformance!(through_addresses, |upstream| Through::new(upstream));
adaptor_conformance!(through_addresses_of_a_pool, |upstream| Through::new(upstream.pool(PoolOptions::default())?));
conformance!(
    through_addresses_of_a_stitching_pool,
    |device| Through::new(CudaVirtualResource::new(device)?.pool(PoolOptions::default().step(2 << 20).slack(0))?),
    Expectations::default().max_alignment(1 << 21)
);
conformance!(through_addresses_of_two_pools, |device| Through::new(
    ManagedResource::new(device)?.pool(PoolOptions::default())?.pool(PoolOptions::default().up_to(64 << 10))?
));

const STACKS: [&str; 8] = [
    "device",
    "pinned",
    "device | pool",
    "device | pool | limit(1GiB) | statistics",
    "virtual | pool | pool(up_to=64KiB) | statistics",
    "device | pool(maximum=1MiB) | spill(managed | pool) | statistics",
    "device | limit(1MiB) | spill(managed) | statistics",
    "managed | pool | prefetch",
];

fn stacks() -> impl Iterator<Item = (&'static str, ByAddress<AnyStack>, Stream, Stream)> {
    STACKS.iter().map(|&text| {
        let device = Device::simulated(Profile::default()).unwrap();
        let stack = StackSpec::parse(text).unwrap().build(&device).unwrap().by_address();
        let [own, other] = [(); 2].map(|()| Stream::new(&device).unwrap());
        (text, stack, own, other)
    })
}

fn free<R: MemoryResource>(stack: &ByAddress<R>, stream: &Stream, at: NonNull<u8>) -> Result<(), AddressError> {
    // SAFETY: no work uses the memory of the tests, and nothing refers to it.
    unsafe { stack.deallocate_address(stream, at, None) }
}

fn addr(address: NonNull<u8>) -> u64 {
    address.as_ptr() as u64
}

fn offset(address: NonNull<u8>, bytes: usize) -> NonNull<u8> {
    NonNull::new(address.as_ptr().wrapping_add(bytes)).unwrap()
}

#[test]
fn a_block_is_freed_once_and_only_at_its_start() {
    for (text, stack, stream, other) in stacks() {
        let sizes = [1, 1000, 100 << 10, 3 << 20, 256, 64 << 10];
        let blocks = sizes.map(|size| (size, stack.allocate_address(&stream, layout::bytes(size).unwrap()).unwrap()));
        for (size, at) in blocks {
            if size > 1 {
                for inner in [1, size / 2, size - 1] {
                    let error = free(&stack, &stream, offset(at, inner)).unwrap_err();
                    let AddressError::Inner { addr: found, start, size: whole } = error else {
                        panic!("{text}: {error}")
                    };
                    assert_eq!((found, start), (addr(at) + inner as u64, addr(at)), "{text}");
                    assert!(whole >= size);
                }
            }
            // SAFETY: no work uses the memory, and nothing refers to it.
            let wrong = unsafe { stack.deallocate_address(&stream, at, Some(size + 1)) };
            assert_eq!(wrong, Err(AddressError::WrongSize { addr: addr(at), size, given: size + 1 }), "{text}");
        }
        // Each second one on another stream than that of the allocation.
        for (n, (_, at)) in blocks.into_iter().enumerate() {
            let stream = if n % 2 == 0 { &stream } else { &other };
            free(&stack, stream, at).unwrap_or_else(|error| panic!("{text}: {error}"));
            let again = free(&stack, stream, at).unwrap_err();
            let (freed, foreign) =
                (AddressError::AlreadyFree { addr: addr(at) }, AddressError::Foreign { addr: addr(at) });
            assert!(again == freed || again == foreign, "{text}: {again}");
            assert!(stack.find::<PoolState>().is_none() || text.contains("spill") || again == freed, "{text}: {again}");
        }
        if let Some(statistics) = stack.find::<StatisticsState>() {
            assert_eq!(statistics.counts().current_blocks, 0, "{text}");
        }
        let mut byte = 7;
        let foreign = NonNull::from(&mut byte);
        assert_eq!(free(&stack, &stream, foreign), Err(AddressError::Foreign { addr: addr(foreign) }), "{text}");
    }
}

#[test]
fn a_block_that_rust_code_holds_is_in_no_index() {
    for (text, stack, stream, _) in stacks() {
        let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
        let error = stack.reclaim(block.as_non_null(), &stream).unwrap_err();
        let expected = match stack.find::<PoolState>() {
            Some(_) => AddressError::NotReleased { addr: block.addr() },
            None => AddressError::Foreign { addr: block.addr() },
        };
        assert_eq!(error, expected, "{text}");
        let (before, layout) = (format!("{block:?}"), block.layout());
        // SAFETY: the stack returned the block.
        let address = unsafe { stack.release(block) };
        let block = stack.reclaim(address, &stream).unwrap();
        assert_eq!((format!("{block:?}"), block.layout()), (before, layout), "the same block: {text}");
        assert!(stack.reclaim(address, &stream).is_err(), "{text}");
        // SAFETY: the stack returned the block, and nothing uses it.
        unsafe { stack.deallocate(&stream, block) }.unwrap();
    }
}

#[test]
fn layouts_come_back_as_they_were_requested() {
    let device = Device::simulated(Profile::default()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let stack = CudaResource::new(&device).pool(PoolOptions::new().divisions(4)).unwrap().by_address();
    let shapes = [(1, 1), (255, 1), (256, 256), (257, 512), (4097, 4096), (1_100_000, 64), (3 << 20, 1 << 20)];
    let released = shapes.map(|(size, align)| {
        let layout = Layout::from_size_align(size, align).unwrap();
        (layout, stack.allocate_address(&stream, layout).unwrap())
    });
    for (layout, address) in released {
        let block = stack.reclaim(address, &stream).unwrap();
        assert_eq!((block.layout(), block.as_non_null()), (layout, address));
        // SAFETY: the stack returned the block, and nothing uses it.
        unsafe { stack.deallocate(&stream, block) }.unwrap();
    }
}

#[test]
fn requests_for_zero_bytes_have_addresses_of_their_own() {
    for (text, stack, stream, _) in stacks() {
        let [one, two] = [(); 2].map(|()| stack.allocate_address(&stream, layout::bytes(0).unwrap()).unwrap());
        assert_ne!(one, two, "{text}");
        free(&stack, &stream, one).unwrap();
        free(&stack, &stream, two).unwrap();
    }
}

#[test]
fn a_refused_free_leaves_the_block_released() {
    let device = Device::simulated(Profile::default()).unwrap();
    let stream = Stream::new(&device).unwrap();
    for pooled in [false, true] {
        let leaf = CudaResource::new(&device);
        let stack = match pooled {
            true => cumem::AnyUpstream::new(leaf.pool(PoolOptions::new()).unwrap()),
            false => cumem::AnyUpstream::new(leaf),
        };
        let failing = FailNth::new(stack);
        let faults = failing.faults();
        let stack = failing.by_address();
        let address = stack.allocate_address(&stream, layout::bytes(1000).unwrap()).unwrap();
        faults.fail_deallocation(1);
        let error = free(&stack, &stream, address).unwrap_err();
        assert!(matches!(error, AddressError::Refused { addr: at, .. } if at == addr(address)), "{error}");
        free(&stack, &stream, address).unwrap();
    }
}

#[test]
fn a_free_on_a_stream_of_another_device_is_refused() {
    let device = Device::simulated(Profile::default()).unwrap();
    let elsewhere = Stream::new(&Device::simulated(Profile::default()).unwrap()).unwrap();
    let stream = Stream::new(&device).unwrap();
    for stack in [
        CudaResource::new(&device).pool(PoolOptions::new()).map(cumem::AnyUpstream::new).unwrap().by_address(),
        cumem::AnyUpstream::new(CudaResource::new(&device)).by_address(),
    ] {
        let address = stack.allocate_address(&stream, layout::bytes(1000).unwrap()).unwrap();
        let error = free(&stack, &elsewhere, address).unwrap_err();
        assert!(matches!(error, AddressError::Refused { reason: DeallocReason::Device(_), .. }), "{error}");
        free(&stack, &stream, address).unwrap();
    }
}

/// Eight threads free what other threads allocated. No block is freed twice, and none is lost.
#[test]
fn threads_free_each_others_blocks() {
    let device = Device::simulated(Profile::default()).unwrap();
    let stack = CudaResource::new(&device).pool(PoolOptions::new()).unwrap().statistics().by_address();
    let shared: Vec<_> = (0..64).map(|_| std::sync::Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (device, stack, shared) = (&device, &stack, &shared);
            scope.spawn(move || {
                let stream = Stream::new(device).unwrap();
                for step in 0..2000_usize {
                    let size = (thread * 7919 + step * 104_729) % 50_000 + 1;
                    let new = stack.allocate_address(&stream, layout::bytes(size).unwrap()).unwrap();
                    // An address is shared as a number, as a C program would.
                    let place = &shared[(thread * 31 + step * 17) % shared.len()];
                    let old: Option<u64> = place.lock().unwrap().replace(addr(new));
                    if let Some(old) = old {
                        free(stack, &stream, NonNull::new(old as *mut u8).unwrap()).unwrap();
                    }
                }
            });
        }
    });
    let stream = Stream::new(&device).unwrap();
    for place in shared {
        free(&stack, &stream, NonNull::new(place.into_inner().unwrap().unwrap() as *mut u8).unwrap()).unwrap();
    }
    assert_eq!(stack.find::<StatisticsState>().unwrap().counts().current_blocks, 0);
    assert_eq!(stack.find::<PoolState>().unwrap().stats().blocks, 0);
}

#[test]
fn pinned_memory_is_written_through_its_address() {
    let device = Device::simulated(Profile::default()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let stack = PinnedResource::new(&device).pool(PoolOptions::new()).unwrap().by_address();
    let address = stack.allocate_address(&stream, layout::bytes(1000).unwrap()).unwrap();
    stream.synchronize().unwrap();
    // SAFETY: the host may access pinned memory, the block has 1000 bytes, and no other work uses it.
    unsafe { address.as_ptr().write_bytes(7, 1000) };
    let block = stack.reclaim(address, &stream).unwrap();
    // SAFETY: as above, and the byte is initialized.
    assert_eq!(unsafe { block.as_ptr().wrapping_add(999).read() }, 7);
    // SAFETY: the stack returned the block, and nothing uses it.
    unsafe { stack.deallocate(&stream, block) }.unwrap();
}
