//! Order between streams, events, and measured time.

use super::{code, fill, gpu, spin};
use cumem::error::CudaErrorCode;
use cumem::{Buffer, CudaResource, Device, Event, Stream};
use cust::sys::{CUresult, CUstream, cuStreamGetFlags};
use std::time::Duration;

const LONG: Duration = Duration::from_millis(50);

fn flags(stream: &Stream) -> u32 {
    let mut flags = u32::MAX;
    // SAFETY: the handle is a live stream's, and `flags` is writable.
    let code = unsafe { cuStreamGetFlags(stream.as_raw() as CUstream, &raw mut flags) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    flags
}

#[test]
#[ignore = "needs a CUDA device"]
fn new_streams_do_not_block() {
    let device = Device::open(0).unwrap();
    device.bind_to_thread().unwrap();
    assert_eq!(flags(&Stream::new(&device).unwrap()), 1);
    assert_eq!(flags(&Stream::blocking(&device).unwrap()), 0);
}

#[test]
#[ignore = "needs a CUDA device"]
fn an_event_of_the_device_comes_after_streams_that_are_gone() {
    let (device, stream) = gpu();
    let event = Event::new(&device).unwrap();
    let gone = Stream::new(&device).unwrap();
    spin(&gone, LONG);
    drop(gone);
    event.record_on_device().unwrap();
    assert!(!event.is_done().unwrap());
    stream.wait(&event).unwrap();
    stream.synchronize().unwrap();
    assert!(event.is_done().unwrap());

    std::thread::scope(|scope| {
        scope.spawn(|| spin(&Stream::per_thread_default(&device), LONG)).join().unwrap();
    });
    event.record_on_device().unwrap();
    assert!(!event.is_done().unwrap());
    spin(&stream, 20 * LONG);
    event.synchronize().unwrap();
    assert!(!stream.is_idle().unwrap(), "work that was enqueued later is not waited for");
}

#[test]
#[ignore = "needs a CUDA device"]
fn busy_is_not_an_error() {
    let (device, stream) = gpu();
    let event = Event::new(&device).unwrap();
    assert!(event.is_done().unwrap(), "before the first record");
    assert!(stream.is_idle().unwrap());
    spin(&stream, LONG);
    event.record(&stream).unwrap();
    assert!(!stream.is_idle().unwrap());
    assert!(!event.is_done().unwrap());
    event.synchronize().unwrap();
    assert!(event.is_done().unwrap());
    stream.synchronize().unwrap();
    assert!(stream.is_idle().unwrap());
}

#[test]
#[ignore = "needs a CUDA device"]
fn events_record_the_time() {
    let (device, stream) = gpu();
    let (start, end) = (Event::with_timing(&device).unwrap(), Event::with_timing(&device).unwrap());
    assert_eq!(code(end.elapsed_since(&start)), CudaErrorCode::INVALID_HANDLE);
    start.record(&stream).unwrap();
    spin(&stream, LONG);
    end.record(&stream).unwrap();
    assert_eq!(code(end.elapsed_since(&start)), CudaErrorCode::NOT_READY);
    end.synchronize().unwrap();
    let time = end.elapsed_since(&start).unwrap();
    assert!(LONG * 9 / 10 < time && time < LONG * 10, "{time:?}");
    assert_eq!(start.elapsed_since(&end).unwrap(), Duration::ZERO, "the wrong way round");

    let untimed = Event::new(&device).unwrap();
    untimed.record(&stream).unwrap();
    untimed.synchronize().unwrap();
    assert_eq!(code(untimed.elapsed_since(&start)), CudaErrorCode::INVALID_HANDLE);
}

#[test]
#[ignore = "needs a CUDA device"]
fn streams_wait_for_each_other() {
    let (device, first) = gpu();
    let second = Stream::new(&device).unwrap();
    let numbers = Buffer::<u32, _>::zeroed(10, &first, CudaResource::new(&device)).unwrap();
    spin(&first, LONG);
    fill(&first, numbers.device_address(), 10, 1);
    second.wait_for(&first).unwrap();
    fill(&second, numbers.device_address(), 10, 2);
    second.synchronize().unwrap();
    assert!(first.is_idle().unwrap());
    assert_eq!(numbers.to_vec().unwrap(), [2; 10]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_device_waits_for_all() {
    let (device, first) = gpu();
    let second = Stream::new(&device).unwrap();
    spin(&first, LONG);
    spin(&second, LONG);
    device.synchronize().unwrap();
    assert!(first.is_idle().unwrap() && second.is_idle().unwrap());
}
