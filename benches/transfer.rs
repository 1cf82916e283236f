//! Upload and download of unified memory beside the explicit copy of the same bytes, by size, all in turn in one run.
//!
//! On a GPU by the host's clock, around calls that are complete on return; on a simulated device by its virtual time.
//! Medians. Not of Criterion, which measures one thing after the other: a link that others use too is compared only with
//! itself at the same moment.

mod common;

use cumem::{
    Buffer, CudaResource, Device, DriverError, HostRead, ManagedResource, PinnedResource, Stream, TransferPath,
    UnifiedBuffer,
};
use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// How a bench is called, and what it does once.
type Way<'a> = (&'static str, Box<dyn FnMut() -> TransferPath + 'a>);

fn clock(device: &Device) -> impl Fn() -> Duration {
    let (simulator, start) = (device.simulator().cloned(), Instant::now());
    move || simulator.as_ref().map_or_else(|| start.elapsed(), |simulator| simulator.clock())
}

/// The median time of each, taken in turns; the first turn does not count.
fn compare(device: &Device, turns: usize, ways: &mut [Way<'_>]) -> Vec<Duration> {
    let now = clock(device);
    let mut times = vec![Vec::with_capacity(turns); ways.len()];
    for turn in 0..=turns {
        for ((_, run), times) in ways.iter_mut().zip(&mut times) {
            let start = now();
            black_box(run());
            if turn > 0 {
                times.push(now() - start);
            }
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    times.iter().map(|times| times[times.len() / 2]).collect()
}

/// Every way beside the first of them.
fn print(what: &str, bytes: usize, ways: &[Way<'_>], times: &[Duration]) {
    for ((name, _), time) in ways.iter().zip(times) {
        let (micros, first) = (time.as_secs_f64() * 1e6, times[0].as_secs_f64() * 1e6);
        let (rate, more) = (bytes as f64 / micros / 1e3, (micros / first - 1.0) * 100.0);
        println!("{bytes:>11}  {what:<4} {name:<34} {micros:>10.1} us {rate:>6.2} GB/s {more:>+7.1} %");
    }
}

/// The driver's own copy between memory of the process and the device.
fn driver_copy(stream: &Stream, to: *mut u8, from: *const u8, bytes: usize) -> TransferPath {
    use cumem::cust::sys::{CUresult, CUstream, cuMemcpyAsync};
    let stream_handle = stream.as_raw() as CUstream;
    // SAFETY: both ends hold that many bytes and are used by nothing else, until the wait below at least.
    let code = unsafe { cuMemcpyAsync(to as u64, from as u64, bytes, stream_handle) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    copied(stream.synchronize())
}

fn copied(result: Result<(), DriverError>) -> TransferPath {
    done(result);
    TransferPath::Copy
}

fn done<T>(result: Result<T, impl std::fmt::Display>) -> T {
    result.unwrap_or_else(|error| common::give_up(error))
}

fn of_size(device: &Device, bytes: usize, turns: usize) {
    let stream = done(Stream::new(device));
    let pageable = vec![1_u8; bytes];
    let pinned = done(Buffer::from_slice(&pageable, &stream, PinnedResource::new(device)));
    let mut plain = done(Buffer::<u8, _>::zeroed(bytes, &stream, CudaResource::new(device)));
    let managed = || done(UnifiedBuffer::from_slice(&pageable, &stream, done(ManagedResource::new(device))));
    let (mut by_call, by_path) = (managed(), RefCell::new(managed()));
    let _ = done(by_call.prefetch(device.id()));
    {
        let source: HostRead<'_, u8> = done(pinned.host_read());
        let mut ways: Vec<Way<'_>> = vec![
            ("page-locked to device, copy", Box::new(|| copied(plain.copy_from_slice(&source)))),
            ("page-locked to unified, copy", Box::new(|| copied(by_call.copy_from_slice(&source)))),
            ("page-locked to unified, upload", Box::new(|| done(by_path.borrow_mut().upload(&source)))),
            ("pageable to unified, upload", Box::new(|| done(by_path.borrow_mut().upload(&pageable)))),
        ];
        let times = compare(device, turns, &mut ways);
        print("up", bytes, &ways, &times);
    }
    if !device.is_simulated() {
        let to = plain.as_mut_ptr();
        let mut ways: Vec<Way<'_>> = vec![
            ("pageable to device, driver", Box::new(|| driver_copy(&stream, to, pageable.as_ptr(), bytes))),
            ("pageable to unified, upload", Box::new(|| done(by_path.borrow_mut().upload(&pageable)))),
        ];
        let times = compare(device, turns.div_ceil(4), &mut ways);
        print("up", bytes, &ways, &times);
    }
    let mut target = done(Buffer::<u8, _>::zeroed(bytes, &stream, PinnedResource::new(device)));
    let mut target = done(target.host_write());
    let targets = [(); 3].map(|()| target.as_mut_ptr());
    // SAFETY: each call is complete when the next one is made, and only the call that is made uses the memory.
    let target = |i: usize| unsafe { std::slice::from_raw_parts_mut(targets[i], bytes) };
    let mut ways: Vec<Way<'_>> = vec![
        ("device to page-locked, copy", Box::new(|| copied(plain.copy_to_slice(target(0))))),
        ("unified to page-locked, copy", Box::new(|| copied(by_call.copy_to_slice(target(1))))),
        ("unified to page-locked, download", Box::new(|| done(by_path.borrow().download(target(2))))),
    ];
    let times = compare(device, turns, &mut ways);
    print("down", bytes, &ways, &times);
    if !device.is_simulated() {
        let (mut by_driver, mut back) = (vec![0_u8; bytes], vec![0_u8; bytes]);
        let mut ways: Vec<Way<'_>> = vec![
            (
                "device to pageable, driver",
                Box::new(|| driver_copy(&stream, by_driver.as_mut_ptr(), plain.as_ptr(), bytes)),
            ),
            ("unified to pageable, download", Box::new(|| done(by_path.borrow().download(&mut back)))),
        ];
        let times = compare(device, turns.div_ceil(4), &mut ways);
        print("down", bytes, &ways, &times);
    }
}

fn main() {
    // As Criterion's benches, which make one round where Cargo only tests that they run.
    let test = std::env::args().any(|arg| arg == "--test");
    let device = common::named_device();
    println!("{device}{}", if device.is_simulated() { ": times and rates are in its virtual time" } else { "" });
    println!("      bytes                                              median            against the first");
    for (bytes, turns) in [
        (4 * KIB, 500),
        (64 * KIB, 500),
        (256 * KIB, 300),
        (MIB, 200),
        (4 * MIB, 100),
        (16 * MIB, 40),
        (64 * MIB, 20),
        (256 * MIB, 8),
        (1024 * MIB, 4),
    ] {
        match test || device.is_simulated() {
            true if bytes > 64 * MIB => {}
            true => of_size(&device, bytes, 1),
            false => of_size(&device, bytes, turns),
        }
    }
}
