//! Reserved addresses, and memory mapped at them.

use super::super::{FaultCall, POISON, Profile};
use super::{MIB, Rig};
use cumem_driver::{CudaErrorCode, Driver, DriverError, HostKernel, MemoryType};
use std::ptr::NonNull;

const GRANULE: usize = 2 * MIB;

impl Rig {
    fn reserve(&self, granules: usize) -> NonNull<u8> {
        self.sim.reserve_addresses(0, granules * GRANULE).expect("addresses")
    }

    fn map(&self, at: NonNull<u8>, granules: usize) -> Result<(), DriverError> {
        // SAFETY: the simulator rejects a range that is not reserved or is mapped already.
        unsafe { self.sim.map(0, at, granules * GRANULE) }
    }

    fn map_again(&self, at: NonNull<u8>, pieces: &[(NonNull<u8>, usize)]) -> Result<(), DriverError> {
        let pieces: Vec<_> = pieces.iter().map(|(piece, granules)| (*piece, granules * GRANULE)).collect();
        // SAFETY: the simulator rejects ranges that are not whole pieces, and addresses that are in use.
        unsafe { self.sim.map_again(0, at, &pieces) }
    }

    fn unmap(&self, at: NonNull<u8>, granules: usize) -> Result<(), DriverError> {
        // SAFETY: the tests use the memory afterwards only in calls that are rejected.
        unsafe { self.sim.unmap(0, at, granules * GRANULE) }
    }

    fn release(&self, at: NonNull<u8>, granules: usize) -> Result<(), DriverError> {
        // SAFETY: the simulator rejects addresses at which memory is mapped.
        unsafe { self.sim.release_addresses(0, at, granules * GRANULE) }
    }
}

fn granule(of: NonNull<u8>, n: usize) -> NonNull<u8> {
    of.map_addr(|addr| addr.saturating_add(n * GRANULE))
}

fn refused(result: Result<(), DriverError>) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
}

#[test]
fn pieces_that_touch_are_one_range() {
    let rig = Rig::h100();
    let base = rig.reserve(4);
    assert_eq!(rig.sim.mapping_granularity(0).unwrap(), GRANULE);
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 80 << 30, "addresses are no memory");
    rig.map(base, 1).unwrap();
    rig.map(granule(base, 1), 2).unwrap();
    assert_eq!(rig.sim.memory_info(0).unwrap().free, (80 << 30) - 3 * GRANULE);
    let live = rig.sim.live_allocations();
    assert_eq!((live.mapped.blocks, live.mapped.bytes, live.reserved.blocks), (2, 3 * GRANULE as u64, 1));
    assert!(rig.bytes(base, 3 * GRANULE).chunks_exact(4).all(|word| word == POISON));
    rig.fill(base, 7, 3 * GRANULE);
    let middle = granule(base, 1).as_ptr().wrapping_sub(64) as u64;
    let kernel = HostKernel::new("across", |memory| memory.write::<u8>(0).fill(8)).writes(middle, 128);
    rig.launch(kernel, rig.stream).unwrap();
    let bytes = rig.bytes(base, 3 * GRANULE);
    assert_eq!(bytes.iter().filter(|&&byte| byte == 8).count(), 128);
    assert_eq!(bytes.iter().filter(|&&byte| byte == 7).count(), 3 * GRANULE - 128);
    assert_eq!(rig.sim.pointer_info(0, base.as_ptr()).unwrap().memory_type, MemoryType::Device);
    rig.unmap(base, 3).unwrap();
    rig.release(base, 4).unwrap();
    let live = rig.sim.live_allocations();
    assert!(live.no_memory() && live.reserved.blocks == 0);
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 80 << 30);
}

#[test]
fn addresses_without_memory_are_refused_by_name() {
    let rig = Rig::h100();
    let base = rig.reserve(3);
    let mut out = vec![0_u8; 64];
    let error = rig.copy(out.as_mut_ptr(), base.as_ptr(), 64, rig.stream).unwrap_err();
    assert!(error.to_string().contains("no memory behind them"), "{error}");
    rig.map(base, 1).unwrap();
    rig.map(granule(base, 2), 1).unwrap();
    let end = granule(base, 1).as_ptr().wrapping_sub(32);
    let error = rig.copy(out.as_mut_ptr(), end, 64, rig.stream).unwrap_err();
    assert!(error.to_string().contains("across the end"), "{error}");
    rig.unmap(base, 1).unwrap();
    let error = rig.copy(out.as_mut_ptr(), base.as_ptr(), 64, rig.stream).unwrap_err();
    assert!(error.to_string().contains("which was freed"), "{error}");
    rig.map(base, 1).unwrap();
    assert_eq!(rig.bytes(base, 4), POISON, "new memory behind the same addresses");
}

#[test]
fn memory_unmapped_under_work_is_reported() {
    let rig = Rig::h100();
    let base = rig.reserve(2);
    let pinned = rig.pinned(2 * GRANULE);
    for piece in [0, 1] {
        rig.map(base, 1).unwrap();
        rig.map(granule(base, 1), 1).unwrap();
        rig.copy(base.as_ptr(), pinned.as_ptr(), 2 * GRANULE, rig.stream).unwrap();
        rig.unmap(granule(base, piece), 1).unwrap();
        // The copy fails even if other memory is mapped at the same addresses.
        rig.map(granule(base, piece), 1).unwrap();
        let error = rig.sync(rig.stream).unwrap_err();
        assert!(error.to_string().contains("freed"), "{error}");
        rig.unmap(base, 2).unwrap();
    }
}

#[test]
fn a_range_that_is_no_mapped_piece_is_refused() {
    let rig = Rig::h100();
    let base = rig.reserve(4);
    rig.map(granule(base, 1), 2).unwrap();
    refused(rig.map(granule(base, 2), 1));
    refused(rig.map(base, 2));
    refused(rig.map(granule(base, 3), 2));
    refused(rig.map(granule(base, 9), 1));
    refused(rig.map(base.map_addr(|addr| addr.saturating_add(4096)), 1));
    refused(rig.unmap(granule(base, 1), 1));
    refused(rig.unmap(granule(base, 2), 1));
    refused(rig.unmap(base, 1));
    refused(rig.free(granule(base, 1)));
    refused(rig.release(base, 4));
    rig.unmap(granule(base, 1), 2).unwrap();
    refused(rig.release(base, 3));
    rig.release(base, 4).unwrap();
    refused(rig.release(base, 4));
    let error = rig.sim.reserve_addresses(0, 4096).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
}

#[test]
fn mapping_uses_memory_and_a_failure_changes_nothing() {
    let rig = Rig::new(Profile::tiny(4 * GRANULE as u64));
    let base = rig.reserve(16);
    rig.map(base, 3).unwrap();
    assert!(rig.map(granule(base, 3), 2).unwrap_err().is_out_of_memory());
    let managed = rig.managed(2 * GRANULE);
    rig.fill(managed, 1, GRANULE);
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 0);
    rig.map(granule(base, 3), 1).unwrap();
    assert_eq!(rig.sim.statistics(rig.sim.device_id(0)).unwrap().evictions, 1, "unified memory makes room");
    rig.unmap(base, 4).unwrap();
    rig.sim.fail_nth(FaultCall::Map, 1, CudaErrorCode::UNKNOWN);
    assert!(rig.map(base, 1).is_err());
    rig.sim.fail_nth(FaultCall::Reserve, 1, CudaErrorCode::UNKNOWN);
    assert!(rig.release(base, 16).is_err());
    assert_eq!(rig.sim.live_allocations().mapped.blocks, 0);
    rig.release(base, 16).unwrap();
}

#[test]
fn a_device_without_virtual_memory_management_returns_not_supported() {
    let rig = Rig::new(Profile::default().without_virtual_memory());
    for error in [rig.sim.mapping_granularity(0).unwrap_err(), rig.sim.reserve_addresses(0, GRANULE).unwrap_err()] {
        assert!(matches!(error, DriverError::NotSupported { what: "virtual memory management", .. }), "{error}");
    }
}

#[test]
fn only_whole_pieces_are_mapped_again() {
    let rig = Rig::h100();
    let (base, other) = (rig.reserve(4), rig.reserve(4));
    rig.map(base, 1).unwrap();
    rig.map(granule(base, 1), 2).unwrap();
    let whole = (granule(base, 1), 2);
    for no_piece in [(granule(base, 1), 1), (granule(base, 2), 1), (base, 3), (granule(base, 3), 1)] {
        refused(rig.map_again(other, &[whole, no_piece]));
    }
    refused(rig.map_again(other, &[]));
    refused(rig.map_again(granule(other, 3), &[whole]));
    refused(rig.map_again(granule(base, 2), &[whole]));
    refused(rig.map_again(other.map_addr(|addr| addr.saturating_add(4096)), &[whole]));
    assert_eq!(rig.sim.live_allocations().aliased.blocks, 0);
    rig.map_again(other, &[whole, (base, 1)]).unwrap();
    refused(rig.map_again(granule(other, 3), &[(granule(other, 2), 1)]));
    refused(rig.map(granule(other, 2), 1));
    refused(rig.free(other));
    refused(rig.release(other, 4));
    assert_eq!(rig.sim.pointer_info(0, other.as_ptr()).unwrap().memory_type, MemoryType::Device);
    refused(rig.unmap(granule(other, 1), 2));
    rig.unmap(other, 3).unwrap();
    rig.unmap(base, 3).unwrap();
    rig.release(other, 4).unwrap();
}

#[test]
fn tens_of_thousands_of_pieces_are_possible() {
    let rig = Rig::new(Profile::default().with_capacity(512 << 30));
    let pieces = 100_000;
    let base = rig.reserve(pieces);
    for n in 0..pieces {
        rig.map(granule(base, n), 1).unwrap();
    }
    rig.fill(granule(base, pieces - 2), 5, 2 * GRANULE);
    assert_eq!(rig.bytes(granule(base, pieces - 1), 16), [5; 16]);
}

#[test]
fn driver_calls_take_the_recorded_times() {
    let rig = Rig::h100();
    let mut base = None;
    assert_eq!(rig.time(|| base = Some(rig.reserve(128))), 33_000);
    let base = base.unwrap();
    assert_eq!(rig.time(|| rig.map(base, 10).unwrap()), 58_000);
    assert_eq!(rig.time(|| rig.map_again(granule(base, 10), &[(base, 10), (base, 10)]).unwrap()), 116_000);
    assert_eq!(rig.time(|| rig.unmap(granule(base, 10), 20).unwrap()), 106_000);
    assert_eq!(rig.time(|| rig.unmap(base, 10).unwrap()), 53_000);
}
