//! Buffers as blocks and as buffers of another type.

use crate::common::{self, free};
use cumem::buffer::ByteBuffer;
use cumem::error::DeallocReason;
use cumem::{
    Buffer, CudaResource, Device, DeviceError, LayerExt, ManagedResource, MemoryResource, Stream, UnifiedBuffer, layout,
};
use cumem_adaptors::{PoolOptions, ResourceExt, StatisticsState};

on_devices!(
    a_block_and_back,
    blocks_that_are_no_such_buffer,
    another_type_without_a_copy,
    a_buffer_of_another_thread_is_released,
    a_released_block_is_freed_once,
);

fn a_block_and_back(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let stack = CudaResource::new(device).pool(PoolOptions::default()).unwrap().statistics();
    let mut buffer = Buffer::<u64, _>::zeroed(100, &stream, &stack).unwrap();
    buffer.fill(0x0102_0304_0506_0708).unwrap();
    let address = buffer.device_address();
    let parts = buffer.into_block().unwrap();
    assert_eq!((parts.block.addr(), parts.block.size(), parts.len, &parts.stream), (address, 800, 100, &stream));
    assert_eq!(stack.state().counts().current_blocks, 1, "the block is still live");
    // SAFETY: the block is the buffer's, whose elements were written.
    let again = unsafe { Buffer::<u32, _>::from_block(parts.block, 150, &parts.stream, parts.resource) }.unwrap();
    assert_eq!((again.len(), again.capacity(), again.device_address()), (150, 200, address));
    assert_eq!((again.get(0).unwrap(), again.get(149).unwrap()), (0x0506_0708, 0x0102_0304));
    drop(again);
    assert_eq!(stack.state().counts().current_blocks, 0);
}

fn blocks_that_are_no_such_buffer(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let memory = CudaResource::new(device);
    let block = memory.allocate(&stream, layout::bytes(10).unwrap()).unwrap();
    // SAFETY: no buffer is created, because the block is too small.
    let error = unsafe { Buffer::<u32, _>::from_block(block, 3, &stream, &memory) }.unwrap_err();
    assert_eq!(error.reason, DeviceError::OutOfRange { start: 0, end: 3, size: 2 });
    let (addr, elsewhere) = (error.block.addr(), common::simulated());
    assert_eq!(error.to_string(), format!("the block of 10 bytes at {addr:#x} is no buffer of this type"));
    let there = Stream::new(&elsewhere).unwrap();
    // SAFETY: no buffer is created, because the stream belongs to another device.
    let error = unsafe { Buffer::<u8, _>::from_block(error.block, 3, &there, error.resource) }.unwrap_err();
    let (found, expected) = (elsewhere.id(), device.id());
    assert_eq!(error.reason, DeviceError::WrongDevice { what: "the stream", found, expected });
    #[derive(Debug, Clone, Copy, cumem::bytemuck::Zeroable, cumem::bytemuck::Pod)]
    #[bytemuck(crate = "cumem::bytemuck")]
    #[repr(C, align(1024))]
    struct Page([u8; 1024]);
    let pool = CudaResource::new(device).pool(PoolOptions::default()).unwrap();
    let blocks = [(); 4].map(|()| pool.allocate(&stream, layout::bytes(1024).unwrap()).unwrap());
    let mut misaligned = 0;
    for block in blocks {
        let addr = block.addr();
        // SAFETY: the elements of a buffer that is created are not read.
        match unsafe { Buffer::<Page, _>::from_block(block, 0, &stream, &pool) } {
            Ok(_) => assert_eq!(addr % 1024, 0),
            Err(error) => {
                let expected = DeviceError::Misfit { bytes: 1024, addr, size: 1024, alignment: 1024 };
                assert_eq!((error.reason, addr % 1024 > 0), (expected, true));
                misaligned += 1;
                free(&pool, &stream, error.block).unwrap();
            }
        }
    }
    assert!(misaligned <= 4);
    free(&memory, &stream, error.block).unwrap();
}

fn another_type_without_a_copy(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let memory = ManagedResource::new(device).unwrap();
    let mut buffer = Buffer::from_slice(&[1_u32, 2, 3, 4], &stream, &memory).unwrap();
    buffer.reserve(2).unwrap();
    let address = buffer.device_address();
    let bytes: ByteBuffer<_> = buffer.into_bytes();
    assert_eq!((bytes.len(), bytes.capacity(), bytes.device_address()), (16, 24, address));
    let pairs = bytes.cast::<[u32; 2]>().unwrap();
    assert_eq!((pairs.to_vec().unwrap(), pairs.capacity()), (vec![[1, 2], [3, 4]], 3));
    let error = pairs.cast::<[u32; 3]>().unwrap_err();
    assert_eq!(error.reason, DeviceError::Misfit { bytes: 16, addr: address, size: 12, alignment: 4 });
    let mut flags = error.value.cast::<bool>().unwrap();
    assert_eq!(flags.to_vec(), Err(DeviceError::InvalidElement { index: 4, element: "bool" }));
    flags.resize(20).unwrap();
    assert_eq!(flags.slice(16..).unwrap().to_vec().unwrap(), [false; 4]);
    let empty = Buffer::<u32, _>::zeroed(0, &stream, &memory).unwrap().cast::<u64>().unwrap();
    assert!(empty.is_empty());
}

fn a_buffer_of_another_thread_is_released(device: &Device) {
    let memory = CudaResource::new(device);
    let there = || Buffer::from_slice(&[1_u32, 2], &Stream::per_thread_default(device), &memory).unwrap();
    let buffer = std::thread::scope(|scope| scope.spawn(there).join().unwrap());
    let parts = buffer.into_block().unwrap();
    assert_eq!(parts.stream, Stream::per_thread_default(device));
    free(&memory, &parts.stream, parts.block).unwrap();
}

fn a_released_block_is_freed_once(device: &Device) {
    let stream = Stream::new(device).unwrap();
    let stack = cumem::AnyResource::new(ManagedResource::new(device).unwrap().statistics());
    let buffer = UnifiedBuffer::<u8>::zeroed(100, &stream, stack.clone()).unwrap();
    let parts = buffer.into_block().unwrap();
    let other = CudaResource::new(device);
    let error = free(&other, &stream, parts.block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "device" });
    free(&parts.resource, &parts.stream, error.block).unwrap();
    let counts = stack.find::<StatisticsState>().unwrap().counts();
    assert_eq!((counts.current_blocks, counts.current_bytes, counts.total_blocks), (0, 0, 1));
}

/// A buffer of managed memory on a stream of another device is released on its own device.
#[test]
fn a_buffer_away_from_home_is_released_there() {
    let simulator = cumem::sim::Simulator::new([cumem::sim::Profile::default(), cumem::sim::Profile::default()]);
    let simulator = simulator.unwrap();
    let [here, there] = [0, 1].map(|ordinal| Device::of_simulator(&simulator, ordinal).unwrap());
    let memory = ManagedResource::new(&here).unwrap();
    let mut buffer = Buffer::from_slice(&[1_u32, 2], &Stream::new(&here).unwrap(), &memory).unwrap();
    buffer.set_stream(&Stream::new(&there).unwrap()).unwrap();
    buffer.set_async(0, 10).unwrap();
    let pending = buffer.get_async(0).unwrap();
    let parts = buffer.into_block().unwrap();
    assert_eq!(parts.stream.device(), &here);
    free(&memory, &parts.stream, parts.block).unwrap();
    assert_eq!(pending.wait().unwrap(), 10);
}
