//! Reservations of a limit.

use crate::common::{free, sim};
use cumem::sim::{Profile, faults};
use cumem::{AllocError, Buffer, CudaResource, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{Limiter, LimiterState, ResourceExt};
use cumem_conformance::FailNth;
use std::thread;

fn layer(error: AllocError) -> String {
    match error {
        AllocError::LimitExceeded { layer, .. } => layer.into_owned(),
        other => panic!("{other}"),
    }
}

#[test]
fn reserved_bytes_are_for_the_reservation_alone() {
    let (device, stream) = sim();
    let limiter = CudaResource::new(&device).limit(4096).named("search");
    let bytes = |bytes: usize| layout::bytes(bytes).unwrap();
    let reservation = limiter.reserve(2000).unwrap();
    assert_eq!((reservation.remaining(), limiter.state().remaining()), (2048, 2048), "rounded up to 256");
    assert_eq!(layer(limiter.allocate(&stream, bytes(2049)).unwrap_err()), "limit `search`");
    let outside = limiter.allocate(&stream, bytes(2048)).unwrap();
    let inside = reservation.allocate(&stream, bytes(1000)).unwrap();
    assert_eq!((reservation.remaining(), limiter.state().remaining()), (1024, 0));
    let error = reservation.allocate(&stream, bytes(1025)).unwrap_err();
    let text = "limit reached: a reservation of limit `search` was asked for 1 KiB, and 0 bytes of 1 KiB are in use";
    assert!(error.is_out_of_memory() && error.to_string().starts_with(&text[..48]), "{error}");
    assert_eq!(layer(limiter.reserve(1).unwrap_err()), "limit `search`");
    // A freed block returns its bytes to the limit.
    free(&reservation, &stream, inside).unwrap();
    assert_eq!((reservation.remaining(), limiter.state().remaining()), (1024, 1024));
    free(&limiter, &stream, outside).unwrap();
    let kept = reservation.allocate(&stream, bytes(512)).unwrap();
    assert!(reservation.to_string().starts_with("reservation(512B) over limit(4KiB, name=search) over device"));
    drop(reservation);
    assert_eq!((limiter.state().allocated(), limiter.state().remaining()), (512, 4096 - 512));
    free(&limiter, &stream, kept).unwrap();
    assert_eq!(limiter.state().allocated(), 0);
}

#[test]
fn a_reservation_is_split_and_merged_without_a_moment_in_which_its_bytes_are_free() {
    let (device, _) = sim();
    let limiter = CudaResource::new(&device).limit(4096);
    let other = CudaResource::new(&device).limit(4096);
    let mut whole = limiter.reserve(4096).unwrap();
    let mut part = whole.split(1000).unwrap();
    assert_eq!((whole.remaining(), part.remaining(), limiter.state().remaining()), (3072, 1024, 0));
    assert_eq!(layer(part.split(1025).unwrap_err()), "a reservation of limit");
    assert_eq!(layer(part.split(usize::MAX).unwrap_err()), "a reservation of limit");
    assert_eq!(part.remaining(), 1024);
    let rest = part.split(1024).unwrap();
    assert_eq!((part.remaining(), part.split(0).unwrap().remaining()), (0, 0));
    whole.merge(rest).unwrap();
    let foreign = whole.merge(other.reserve(256).unwrap()).unwrap_err();
    assert_eq!((whole.remaining(), other.state().remaining()), (4096, 4096 - 256));
    drop((foreign, part));
    assert_eq!((limiter.state().remaining(), other.state().remaining()), (0, 4096));
    drop(whole);
    assert_eq!(limiter.state().remaining(), 4096);
}

#[test]
fn a_request_that_the_upstream_refuses_uses_nothing_up() {
    let (device, stream) = sim();
    let upstream = FailNth::new(CudaResource::new(&device));
    let faults = upstream.faults();
    let limiter = Limiter::new(upstream, 4096);
    let reservation = limiter.reserve(1024).unwrap();
    faults.fail_allocation(1);
    reservation.allocate(&stream, layout::bytes(1000).unwrap()).unwrap_err();
    assert_eq!((reservation.remaining(), limiter.state().allocated()), (1024, 1024));
    let block = reservation.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    faults.fail_deallocation(1);
    let block = free(&reservation, &stream, block).unwrap_err().block;
    assert_eq!((reservation.remaining(), limiter.state().allocated()), (0, 1024));
    free(&reservation, &stream, block).unwrap();
    assert_eq!(limiter.state().allocated(), 0);
}

/// Threads allocate from one reservation, and never more than it has, while others fill the limit.
#[test]
fn threads_share_a_reservation() {
    let (device, stream) = sim();
    let limiter = CudaResource::new(&device).limit(64 * 256);
    let reservation = limiter.reserve(32 * 256).unwrap();
    let blocks: Vec<_> = thread::scope(|scope| {
        let work = || {
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            for _ in 0..32 {
                inside.extend(reservation.allocate(&stream, layout::bytes(256).unwrap()).ok());
                outside.extend(limiter.allocate(&stream, layout::bytes(256).unwrap()).ok());
            }
            (inside, outside)
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (inside, outside): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
    assert_eq!((inside.iter().flatten().count(), outside.iter().flatten().count()), (32, 32));
    assert_eq!((reservation.remaining(), limiter.state().remaining()), (0, 0));
    inside.into_iter().chain(outside).flatten().for_each(|block| free(&limiter, &stream, block).unwrap());
    assert_eq!(limiter.state().allocated(), 0);
}

#[test]
fn a_limit_is_whole_again_whichever_driver_call_fails() {
    let report = faults::enumerate(&Profile::default(), |device| {
        let stream = Stream::new(device)?;
        let limiter = CudaResource::new(device).limit(1 << 20);
        let result = (|| {
            let mut whole = limiter.reserve(8192)?;
            let half = whole.split(4096)?;
            drop([Buffer::<u8, _>::zeroed(4096, &stream, &half)?, Buffer::zeroed(100, &stream, &whole)?]);
            Ok::<_, AllocError>(())
        })();
        // A block whose free was refused is live.
        let live = device.simulator().unwrap().live_blocks();
        let counted: u64 = live.iter().map(|block| block.bytes.next_multiple_of(256)).sum();
        assert_eq!(limiter.find::<LimiterState>().unwrap().allocated() as u64, counted);
        result
    });
    report.assert();
}
