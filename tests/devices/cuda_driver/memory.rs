//! Allocation, the driver's pools, pointer queries, and out of memory.

use super::{code, gpu};
use cumem::device::MemoryType;
use cumem::error::CudaErrorCode;
use cumem::resources::{CudaAsyncOptions, PoolSource};
use cumem::{AllocError, Buffer, CudaAsyncResource, CudaResource, ManagedResource, MemoryResource, PinnedResource};
use std::alloc::Layout;

const MIB: usize = 1 << 20;

#[test]
#[ignore = "needs a CUDA device"]
fn pointers_are_known_to_the_driver() {
    let (device, stream) = gpu();
    let on_device = Buffer::<u8, _>::zeroed(100, &stream, CudaResource::new(&device)).unwrap();
    let pooled = Buffer::<u8, _>::zeroed(100, &stream, CudaAsyncResource::new(&device).unwrap()).unwrap();
    let managed = Buffer::<u8, _>::zeroed(100, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    let pinned = Buffer::<u8, _>::zeroed(100, &stream, PinnedResource::new(&device)).unwrap();
    stream.synchronize().unwrap();
    for (memory_type, pointer) in [
        (MemoryType::Device, on_device.as_ptr()),
        (MemoryType::Device, pooled.as_ptr()),
        (MemoryType::Unified, managed.as_ptr()),
        (MemoryType::Host, pinned.as_ptr()),
    ] {
        let info = device.pointer_info(pointer).unwrap();
        assert_eq!((info.memory_type, info.device), (memory_type, device.id()));
        assert_eq!(pointer as usize % 256, 0);
    }
    let host = [0_u8; 100];
    assert_eq!(code(device.pointer_info(host.as_ptr())), CudaErrorCode::INVALID_VALUE);
    let before = on_device.as_ptr();
    drop(on_device);
    assert_eq!(code(device.pointer_info(before)), CudaErrorCode::INVALID_VALUE);
}

#[test]
#[ignore = "needs a CUDA device"]
fn copies_work_in_both_directions() {
    let (device, stream) = gpu();
    let data: Vec<u32> = (0..10_000).collect();
    let first = Buffer::from_slice(&data, &stream, CudaResource::new(&device)).unwrap();
    let mut second = Buffer::zeroed(data.len(), &stream, PinnedResource::new(&device)).unwrap();
    second.copy_from_buffer(&first).unwrap();
    assert_eq!(second.to_vec().unwrap(), data);
}

#[test]
#[ignore = "needs a CUDA device"]
fn allocation_uses_memory_and_a_free_returns_it() {
    let (device, stream) = gpu();
    let memory = CudaResource::new(&device);
    let block = memory.allocate(&stream, Layout::array::<u8>(512 * MIB).unwrap()).unwrap();
    let with = device.memory_info().unwrap();
    // SAFETY: the block is from this resource, and unused.
    unsafe { memory.deallocate(&stream, block) }.unwrap();
    let without = device.memory_info().unwrap();
    // Only roughly, because other tests run at the same time.
    assert!(without.free > with.free + 256 * MIB, "{with:?} {without:?}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn out_of_memory_has_numbers() {
    let (device, stream) = gpu();
    let layout = Layout::array::<u8>(4 << 40).unwrap();
    let pool = CudaAsyncResource::new(&device).unwrap();
    for error in
        [CudaResource::new(&device).allocate(&stream, layout).unwrap_err(), pool.allocate(&stream, layout).unwrap_err()]
    {
        match error {
            AllocError::OutOfMemory { requested, free, total, device: id, .. } => {
                assert_eq!((requested, id), (4 << 40, device.id()));
                assert!(0 < free && free <= total);
            }
            other => panic!("{other}"),
        }
    }
    // The failed allocations left no error behind.
    device.synchronize().unwrap();
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_pool_keeps_its_memory() {
    let (device, stream) = gpu();
    let pool = CudaAsyncResource::new(&device).unwrap();
    assert_eq!(pool.release_threshold().unwrap(), u64::MAX);
    assert_eq!((pool.usage().unwrap().reserved, pool.usage().unwrap().used), (0, 0));

    let block = pool.allocate(&stream, Layout::array::<u8>(MIB).unwrap()).unwrap();
    let usage = pool.usage().unwrap();
    assert!(usage.used >= MIB as u64 && usage.reserved >= usage.used, "{usage:?}");
    // SAFETY: the block is from this pool, and unused.
    unsafe { pool.deallocate(&stream, block) }.unwrap();
    stream.synchronize().unwrap();
    let usage = pool.usage().unwrap();
    assert!(usage.used == 0 && usage.reserved >= MIB as u64, "{usage:?}");
    pool.trim_to(0).unwrap();
    assert_eq!(pool.usage().unwrap().reserved, 0);
}

#[test]
#[ignore = "needs a CUDA device"]
fn thresholds_are_set() {
    let (device, stream) = gpu();
    for source in [PoolSource::Own, PoolSource::Default] {
        let options = CudaAsyncOptions::new(source).release_threshold(3 << 20);
        let pool = CudaAsyncResource::with_options(&device, options).unwrap();
        assert_eq!(pool.release_threshold().unwrap(), 3 << 20);
        let numbers = Buffer::from_slice(&[1_u8, 2, 3], &stream, pool).unwrap();
        assert_eq!(numbers.to_vec().unwrap(), [1, 2, 3]);
    }
}
