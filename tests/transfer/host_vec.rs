//! Vectors and boxes in pinned, managed and ordinary host memory.

use crate::common;
use cumem::allocator_api2::alloc::Allocator;
use cumem::allocator_api2::boxed::Box as BoxIn;
use cumem::allocator_api2::vec::Vec as VecIn;
use cumem::device::MemoryType;
use cumem::kind::HostAccessible;
use cumem::sim::Profile;
use cumem::sim::faults::enumerate;
use cumem::{
    Buffer, CudaResource, Device, DeviceError, HostAllocator, HostResource, LayerExt, ManagedResource, MemoryResource,
    PinnedResource, Stream,
};
use cumem_adaptors::{PoolOptions, ResourceExt, StatisticsState};
use std::alloc::Layout;

on_devices!(
    vectors_of_every_kind_of_memory,
    layouts_of_every_size,
    a_pool_gives_memory_that_the_host_may_use,
    streams_of_another_device_are_refused,
);

fn vectors_of_every_kind_of_memory(device: &Device) {
    let pinned = grow(device, PinnedResource::new(device).statistics());
    assert_eq!(pinned, Ok(MemoryType::Host));
    let managed = ManagedResource::new(device).unwrap().pool(PoolOptions::default()).unwrap().statistics();
    assert_eq!(grow(device, managed), Ok(MemoryType::Unified));
    assert!(grow(device, HostResource::new(device).statistics()).is_err(), "the driver does not know this memory");
}

/// Fills a vector, copies from and to it, and frees it. Returns the memory that it was in.
fn grow<R: MemoryResource<Kind: HostAccessible>>(device: &Device, stack: R) -> Result<MemoryType, cumem::DriverError> {
    let stream = Stream::new(device).unwrap();
    let allocator = HostAllocator::new(stack, &stream).unwrap();
    let counts = || allocator.resource().find::<StatisticsState>().unwrap().counts();
    let mut numbers = VecIn::new_in(allocator.clone());
    assert_eq!(counts().current_blocks, 0, "an empty vector takes no memory");
    numbers.extend(0..100_000_u64);
    let mut buffer = Buffer::from_slice(&numbers, &stream, CudaResource::new(device)).unwrap();
    assert_eq!(buffer.last().unwrap(), 99_999);
    buffer.fill(7).unwrap();
    buffer.copy_to_slice(&mut numbers).unwrap();
    assert!(numbers.iter().all(|number| *number == 7));
    numbers.truncate(3);
    numbers.shrink_to_fit();
    assert_eq!((&numbers[..], counts().current_blocks), (&[7, 7, 7][..], 1));
    let info = device.pointer_info(numbers.as_ptr().cast());
    let copy = numbers.clone();
    drop(numbers);
    assert_eq!((&copy[..], counts().current_blocks), (&[7, 7, 7][..], 1));
    drop(copy);
    assert_eq!((counts().current_blocks, counts().current_bytes), (0, 0));
    info.map(|info| info.memory_type)
}

fn layouts_of_every_size(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let pool = PinnedResource::new(device).pool(PoolOptions::default()).unwrap();
    let allocator = HostAllocator::new(&pool, &stream).unwrap();
    for (size, align) in [(0, 1), (0, 4096), (1, 1), (1, 64), (100, 8), (64, 256), (10_000, 4096), (3, 1 << 16)] {
        let layout = Layout::from_size_align(size, align).unwrap();
        let start = allocator.allocate(layout).unwrap();
        assert_eq!((start.len(), start.cast::<u8>().addr().get() % align), (size, 0), "{layout:?}");
        // SAFETY: the allocation has this many bytes.
        unsafe { start.cast::<u8>().write_bytes(9, size) };
        // SAFETY: the allocator returned the address for this layout.
        unsafe { allocator.deallocate(start.cast(), layout) };
    }
    let huge = Layout::from_size_align(isize::MAX as usize, 1).unwrap();
    assert!(allocator.allocate(huge).is_err());
    let mut numbers = VecIn::<u8, _>::new_in(allocator.clone());
    assert!(numbers.try_reserve(1 << 50).is_err());
    let aligned = HostAllocator::new(PinnedResource::new(device), &stream).unwrap();
    assert!(aligned.allocate(Layout::from_size_align(1, 4096).unwrap()).is_err(), "the leaf aligns to 256 bytes");
    assert_eq!(*BoxIn::new_in([7_u32; 5], aligned), [7; 5]);
}

fn a_pool_gives_memory_that_the_host_may_use(device: &Device) {
    let (stream, other) = (Stream::new(device).unwrap(), Stream::new(device).unwrap());
    let pool = PinnedResource::new(device).pool(PoolOptions::default()).unwrap();
    let allocator = HostAllocator::new(&pool, &stream).unwrap();
    // The device still writes the memory when the pool gives it to the vector.
    let busy = Buffer::<u8, _>::zeroed(16 << 20, &other, &pool).unwrap();
    drop(busy);
    let mut bytes = VecIn::with_capacity_in((16 << 20) - 64, allocator);
    bytes.resize((16 << 20) - 64, 7_u8);
    device.synchronize().unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
}

fn streams_of_another_device_are_refused(device: &Device) {
    let elsewhere = common::simulated();
    let there = Stream::new(&elsewhere).unwrap();
    let error = HostAllocator::new(PinnedResource::new(device), &there).unwrap_err();
    let (found, expected) = (elsewhere.id(), device.id());
    assert_eq!(error, DeviceError::WrongDevice { what: "the stream", found, expected });
}

#[test]
fn managed_memory_that_the_host_may_not_always_use_is_refused() {
    let device = Device::simulated(Profile::wsl()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let stack = ManagedResource::new(&device).unwrap().statistics();
    let managed = HostAllocator::new(&stack, &stream).unwrap();
    let mut numbers = VecIn::<u32, _>::new_in(managed);
    assert!(numbers.try_reserve(1).is_err());
    assert_eq!(stack.state().counts().current_blocks, 0, "nothing was lost");
    let pinned = HostAllocator::new(PinnedResource::new(&device), &stream).unwrap();
    let mut numbers = VecIn::new_in(pinned);
    numbers.extend([1, 2, 3]);
    assert_eq!(numbers[..], [1, 2, 3]);
}

#[test]
fn each_call_of_a_vector_fails_in_turn() {
    type Run = Result<(), Box<dyn std::error::Error>>;
    let program = |device: &Device| -> Run {
        let stream = Stream::new(device)?;
        let pool = PinnedResource::new(device).pool(PoolOptions::default())?;
        let allocator = HostAllocator::new(&pool, &stream)?;
        let mut numbers = VecIn::<u32, _>::new_in(allocator);
        for i in 0..100 {
            numbers.try_reserve(1).map_err(|_| "no memory for the vector")?;
            numbers.push(i);
        }
        assert!(numbers.iter().copied().eq(0..100));
        Ok(())
    };
    enumerate(&Profile::default(), program).assert();
}

#[test]
fn kernels_use_a_vector_without_a_race() {
    let device = common::simulated();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let stream = Stream::new(&device).unwrap();
    let allocator = HostAllocator::new(ManagedResource::new(&device).unwrap(), &stream).unwrap();
    let mut numbers = VecIn::new_in(allocator);
    numbers.extend(0..1000_u32);
    let (address, bytes) = (numbers.as_ptr() as u64, 4 * numbers.len());
    let kernel = cumem::kernel::HostKernel::new("sum", |memory| {
        assert_eq!(memory.read::<u32>(0).iter().sum::<u32>(), 499_500);
    });
    // SAFETY: the kernel reads the vector, which is freed in the order of the stream.
    unsafe { stream.launch_host(kernel.reads(address, bytes)) }.unwrap();
    drop(numbers);
    stream.synchronize().unwrap();
    assert_eq!(simulator.take_races().len(), 0);
}
