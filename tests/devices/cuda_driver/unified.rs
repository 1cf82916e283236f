//! Hints about unified (managed) memory, and the range attributes that the driver then reports.

use super::{code, fill, gpu};
use cumem::error::CudaErrorCode;
use cumem::unified::{Advice, HintOutcome, RangeAttributes};
use cumem::unified::{SkipReason, hints};
use cumem::{
    Block, CudaResource, Device, DeviceError, DeviceId, DriverError, Location, ManagedResource, MemoryResource, Stream,
    UnifiedBuffer,
};
use std::alloc::Layout;
use std::fs::File;
use std::os::unix::fs::FileExt;

const SIZE: usize = 64 << 10;

/// Opens device 0 and creates a stream on it. Panics if the device has no concurrent managed access.
fn able_gpu() -> (Device, Stream) {
    let (device, stream) = gpu();
    assert!(device.attributes().concurrent_managed_access, "{device} has no concurrent managed access");
    (device, stream)
}

/// Runs a test on a small block of managed memory.
fn with_block(test: impl FnOnce(&Device, &Stream, &Block)) {
    let (device, stream) = able_gpu();
    let memory = ManagedResource::new(&device).unwrap();
    let block = memory.allocate(&stream, Layout::array::<u8>(SIZE).unwrap()).unwrap();
    test(&device, &stream, &block);
    stream.synchronize().unwrap();
    // SAFETY: the block is from this resource, and no work uses it any more.
    unsafe { memory.deallocate(&stream, block) }.unwrap();
}

fn told(block: &Block, stream: &Stream) -> RangeAttributes {
    hints::range_attributes(block, 0..SIZE, stream).unwrap()
}

#[test]
#[ignore = "needs a CUDA device with concurrent managed access"]
fn prefetch_is_remembered() {
    with_block(|device, stream, block| {
        assert_eq!(told(block, stream), RangeAttributes::default());
        for to in [Location::Device(device.id()), Location::Host] {
            assert_eq!(hints::prefetch(block, 0..SIZE, to, stream).unwrap(), HintOutcome::Applied);
            stream.synchronize().unwrap();
            assert_eq!(told(block, stream).last_prefetch_location, Some(to));
        }
        let skipped = hints::prefetch(block, 5..5, Location::Host, stream).unwrap();
        assert_eq!(skipped, HintOutcome::Skipped(SkipReason::EmptyRange));
    });
}

#[test]
#[ignore = "needs a CUDA device with concurrent managed access"]
fn advice_is_remembered_and_withdrawn() {
    with_block(|device, stream, block| {
        let gpu = Location::Device(device.id());
        let advise = |advice| {
            assert_eq!(hints::advise(block, 0..SIZE, advice, stream).unwrap(), HintOutcome::Applied);
            told(block, stream)
        };
        assert!(advise(Advice::SetReadMostly).read_mostly);
        assert!(!advise(Advice::UnsetReadMostly).read_mostly);

        assert_eq!(advise(Advice::SetPreferredLocation(gpu)).preferred_location, Some(gpu));
        assert_eq!(advise(Advice::SetPreferredLocation(Location::Host)).preferred_location, Some(Location::Host));
        assert_eq!(advise(Advice::UnsetPreferredLocation).preferred_location, None);

        assert_eq!(advise(Advice::SetAccessedBy(gpu)).accessed_by[..], [gpu]);
        let mut both = advise(Advice::SetAccessedBy(Location::Host)).accessed_by;
        both.sort();
        assert_eq!(both[..], [gpu, Location::Host]);
        assert_eq!(advise(Advice::UnsetAccessedBy(gpu)).accessed_by[..], [Location::Host]);
        assert_eq!(advise(Advice::UnsetAccessedBy(Location::Host)), RangeAttributes::default());
    });
}

#[test]
#[ignore = "needs a CUDA device with concurrent managed access"]
fn a_mixed_range_has_no_location() {
    with_block(|device, stream, block| {
        let gpu = Location::Device(device.id());
        let advice = Advice::SetPreferredLocation(gpu);
        assert_eq!(hints::advise(block, 0..SIZE / 2, advice, stream).unwrap(), HintOutcome::Applied);
        assert_eq!(told(block, stream).preferred_location, None);
        let half = hints::range_attributes(block, 0..SIZE / 2, stream).unwrap();
        assert_eq!(half.preferred_location, Some(gpu));
    });
}

#[test]
#[ignore = "needs a CUDA device with concurrent managed access"]
fn numa_nodes_need_a_new_driver() {
    with_block(|_, stream, block| {
        let node = Location::HostNuma(0);
        match hints::advise(block, 0..SIZE, Advice::SetPreferredLocation(node), stream) {
            Ok(outcome) => {
                assert_eq!(outcome, HintOutcome::Applied);
                // On a machine with one node, driver 580 accepts this advice and then reports no preferred location.
                assert!([None, Some(node)].contains(&told(block, stream).preferred_location));
                assert_eq!(hints::prefetch(block, 0..SIZE, node, stream).unwrap(), HintOutcome::Applied);
                stream.synchronize().unwrap();
                assert_eq!(told(block, stream).last_prefetch_location, Some(node));
            }
            Err(DeviceError::Driver(DriverError::MissingSymbol { symbol, .. })) => {
                assert!(symbol.ends_with("_v2"), "{symbol}")
            }
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
#[ignore = "needs a CUDA device with concurrent managed access"]
fn the_driver_rejects() {
    with_block(|device, stream, block| {
        let missing = DeviceId::cuda(Device::count().unwrap() + 6);
        let advice = Advice::SetPreferredLocation(missing.into());
        assert_eq!(code(hints::advise(block, 0..SIZE, advice, stream)), CudaErrorCode::INVALID_DEVICE);
        assert_eq!(code(hints::prefetch(block, 0..SIZE, missing, stream)), CudaErrorCode::INVALID_DEVICE);
        assert!(matches!(
            hints::prefetch(block, 0..SIZE + 1, Location::Host, stream),
            Err(DeviceError::OutOfRange { .. })
        ));

        // Device memory takes no hints.
        let memory = CudaResource::new(device);
        let other = memory.allocate(stream, Layout::array::<u8>(SIZE).unwrap()).unwrap();
        let on_device = Location::Device(device.id());
        assert_eq!(code(hints::prefetch(&other, 0..SIZE, on_device, stream)), CudaErrorCode::INVALID_VALUE);
        assert_eq!(code(hints::advise(&other, 0..SIZE, Advice::SetReadMostly, stream)), CudaErrorCode::INVALID_VALUE);
        assert_eq!(code(hints::range_attributes(&other, 0..SIZE, stream)), CudaErrorCode::INVALID_VALUE);
        // SAFETY: the block is from this resource, and unused.
        unsafe { memory.deallocate(stream, other) }.unwrap();
    });
}

/// The host and the device write the same pages in turn, without a copy.
#[test]
#[ignore = "needs a CUDA device with concurrent managed access"]
fn pages_migrate_to_the_accessing_processor() {
    with_block(|_, stream, block| {
        let n = SIZE / 4;
        super::fill(stream, block.addr(), n as u32, 0xABCD);
        stream.synchronize().unwrap();
        // SAFETY: the device has written all elements and is idle.
        let host = unsafe { std::slice::from_raw_parts_mut(block.as_ptr().cast::<u32>(), n) };
        assert!(host.iter().all(|x| *x == 0xABCD));
        host.fill(1);
        super::fill(stream, block.addr(), 1, 2);
        stream.synchronize().unwrap();
        // SAFETY: as above.
        let host = unsafe { std::slice::from_raw_parts(block.as_ptr().cast::<u32>(), n) };
        assert_eq!((host[0], host[1]), (2, 1));
    });
}

/// The density prefetcher works on blocks of 2 MiB. On an H100 with driver 580, the last block of an allocation ends
/// with the allocation's last page: it is not rounded up.
#[test]
#[ignore = "needs a CUDA device with concurrent managed access"]
fn the_last_block_of_an_allocation_ends_with_its_last_page() {
    const BLOCK: usize = 2 << 20;
    let (device, stream) = able_gpu();
    let mut bytes =
        UnifiedBuffer::<u8, _>::zeroed(BLOCK + (168 << 10), &stream, ManagedResource::new(&device).unwrap()).unwrap();
    bytes.host_write().unwrap().fill(1);
    let tail = bytes.device_address() + BLOCK as u64;
    assert_eq!(pages_mapped(tail, 42), 42);
    fill(&stream, tail, 1, 2);
    stream.synchronize().unwrap();
    assert_eq!(pages_mapped(tail, 42), 26, "16 pages came with the first");
    fill(&stream, tail + (64 << 10), 1, 2);
    stream.synchronize().unwrap();
    assert_eq!(pages_mapped(tail, 42), 0, "32 of 42 pages are more than 51 %");
}

/// Returns how many of the pages from `addr` the process has mapped on the host. See Linux,
/// `Documentation/admin-guide/mm/pagemap.rst`.
fn pages_mapped(addr: u64, pages: usize) -> usize {
    let mut entries = vec![0; 8 * pages];
    File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entries, addr / 4096 * 8).unwrap();
    entries.chunks_exact(8).filter(|entry| entry[7] & 0x80 != 0).count()
}
