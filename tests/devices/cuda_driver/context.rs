//! Calls leave the thread's current context as it was, unless the thread had none.

use super::gpu;
use cumem::error::take_drop_errors;
use cumem::{CudaResource, Device, MemoryResource};
use cumem_test_support::own_process;
use cust::context::legacy::{Context, ContextFlags};
use cust::sys::{CUcontext, CUresult, cuCtxGetCurrent};
use std::alloc::Layout;
use std::ptr;
use std::thread;

// This test reads the recorded errors of drops, which the whole process shares.
own_process!(
    #[ignore = "needs a CUDA device"]
    another_context_stays_current
);

fn current() -> CUcontext {
    let mut context = ptr::null_mut();
    // SAFETY: `context` is writable.
    let code = unsafe { cuCtxGetCurrent(&raw mut context) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    context
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_thread_without_context_gets_the_primary_one() {
    let (device, _) = gpu();
    let primary = thread::scope(|scope| {
        let work = scope.spawn(|| {
            assert!(current().is_null());
            device.memory_info().unwrap();
            let first = current() as usize;
            device.bind_to_thread().unwrap();
            assert_eq!(current() as usize, first);
            first
        });
        work.join().unwrap()
    });
    assert_ne!(primary, 0);
    assert_eq!(current() as usize, primary, "all threads share it");
}

fn another_context_stays_current() {
    let device = Device::open(0).unwrap();
    let other_device = cust::device::Device::get_device(0).unwrap();
    let other = Context::create_and_push(ContextFlags::SCHED_AUTO, other_device).unwrap();
    let before = current();

    let stream = cumem::Stream::new(&device).unwrap();
    assert_eq!(current(), before);
    let memory = CudaResource::new(&device);
    let block = memory.allocate(&stream, Layout::new::<u64>()).unwrap();
    assert_eq!(current(), before);
    // The same holds if the call fails.
    assert!(memory.allocate(&stream, Layout::array::<u8>(1 << 46).unwrap()).is_err());
    assert_eq!(current(), before);
    // SAFETY: the block is from this resource, and unused.
    unsafe { memory.deallocate(&stream, block) }.unwrap();
    drop(stream);
    assert_eq!(current(), before);

    device.bind_to_thread().unwrap();
    assert_ne!(current(), before, "this is what binding is for");
    drop(other);
    assert_eq!(take_drop_errors(), Vec::<String>::new());
}

#[test]
#[ignore = "needs a CUDA device"]
fn threads_share_a_device() {
    let device = Device::open(0).unwrap();
    let work = || {
        let stream = cumem::Stream::new(&device).unwrap();
        let memory = CudaResource::new(&device);
        for size in 1..50 {
            let block = memory.allocate(&stream, Layout::array::<u8>(size * 1000).unwrap()).unwrap();
            assert_eq!(device.pointer_info(block.as_ptr()).unwrap().device, device.id());
            // SAFETY: the block is from this resource, and unused.
            unsafe { memory.deallocate(&stream, block) }.unwrap();
        }
    };
    thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
}
