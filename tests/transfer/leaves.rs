//! Empty and over-aligned buffers over every leaf that a device can access, and over a pool of each.

use cumem::LayerExt;
use cumem::bytemuck::{Pod, Zeroable};
use cumem::error::InvalidLayout;
use cumem::kind::DeviceAccessible;
use cumem::{
    AllocError, Buffer, CudaAsyncResource, CudaResource, CudaVirtualResource, Device, ManagedResource, MemoryResource,
    PinnedResource, Stream, Upstream,
};
use cumem_adaptors::{PoolOptions, ResourceExt, StatisticsState};

on_devices!(plain, asynchronous, virtual_memory, managed, pinned);

/// Elements that are aligned more than any leaf aligns without a request.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[bytemuck(crate = "cumem::bytemuck")]
#[repr(C, align(2048))]
struct Page([u64; 256]);

fn plain(device: &Device) {
    leaf(device, CudaResource::new(device), Some("device"));
}

fn asynchronous(device: &Device) {
    leaf(device, CudaAsyncResource::new(device).unwrap(), Some("async"));
}

fn virtual_memory(device: &Device) {
    leaf(device, CudaVirtualResource::new(device).unwrap(), None);
}

fn managed(device: &Device) {
    leaf(device, ManagedResource::new(device).unwrap(), Some("managed"));
}

fn pinned(device: &Device) {
    leaf(device, PinnedResource::new(device), Some("pinned"));
}

/// `refuses` is the name of a leaf that aligns to 256 bytes only.
fn leaf<R: Upstream<Kind: DeviceAccessible>>(device: &Device, leaf: R, refuses: Option<&'static str>) {
    let stack = leaf.statistics();
    empty(device, &stack);
    let stream = Stream::new(device).unwrap();
    match (Buffer::<Page, _>::zeroed(2, &stream, &stack), refuses) {
        (Ok(pages), None) => over_aligned(pages),
        (Err(error), Some(layer)) => {
            assert_eq!(error, AllocError::UnsupportedAlignment { layer, alignment: 2048, maximum: 256 });
        }
        (result, _) => panic!("{result:?}"),
    }
    let error = Buffer::<u8, _>::with_capacity_aligned(10, 48, &stream, &stack).unwrap_err();
    assert_eq!(error, AllocError::InvalidLayout(InvalidLayout { size: 10, alignment: 48 }));
    assert_eq!(stack.find::<StatisticsState>().unwrap().counts().current_blocks, 0);
    // A pool aligns what its upstream does not.
    let pool = stack.pool(PoolOptions::default()).unwrap();
    empty(device, &pool);
    over_aligned(Buffer::<Page, _>::zeroed(2, &stream, &pool).unwrap());
    let mut bytes = Buffer::<u8, _>::with_capacity_aligned(10, 1 << 16, &stream, &pool).unwrap();
    bytes.resize(100_000).unwrap();
    bytes.resize(3).unwrap();
    bytes.shrink_to_fit().unwrap();
    assert_eq!(bytes.device_address() % (1 << 16), 0, "the alignment is kept");
    assert_eq!(bytes.to_vec().unwrap(), [0; 3]);
}

fn over_aligned<R: MemoryResource<Kind: DeviceAccessible>>(mut pages: Buffer<Page, R>) {
    assert_eq!(pages.device_address() % 2048, 0);
    let page = Page(std::array::from_fn(|i| i as u64));
    pages.fill(page).unwrap();
    pages.set_async(1, Page([7; 256])).unwrap();
    pages.resize(3).unwrap();
    assert_eq!(pages.device_address() % 2048, 0);
    assert_eq!(pages.to_vec().unwrap(), [page, Page([7; 256]), Page([0; 256])]);
    assert_eq!(pages.get_async(0).unwrap().wait().unwrap(), page);
    let numbers = pages.cast::<u64>().unwrap();
    assert_eq!((numbers.len(), numbers.get(255).unwrap()), (768, 255));
}

/// Every function of a buffer without elements succeeds, or returns an error with the length 0.
fn empty<R: MemoryResource<Kind: DeviceAccessible>>(device: &Device, resource: &R) {
    let stream = Stream::new(device).unwrap();
    let other = Stream::new(device).unwrap();
    let mut nothing = Buffer::<u32, _>::from_slice(&[], &stream, resource).unwrap();
    nothing.fill(7).unwrap();
    nothing.zero().unwrap();
    nothing.copy_within(.., 0).unwrap();
    assert!(nothing.first().is_err() && nothing.last().is_err() && nothing.set_async(0, 1).is_err());
    let (mut left, right) = nothing.split_at_mut(0).unwrap();
    left.copy_from_view(right.as_view()).unwrap();
    left.on(&other).unwrap().copy_from_slice(&[]).unwrap();
    assert_eq!(nothing.as_bytes().to_vec().unwrap(), []);
    assert_eq!(nothing.try_clone_on(&other, resource).unwrap().to_vec().unwrap(), []);
    let nothing = nothing.cast::<[u64; 4]>().unwrap();
    let parts = nothing.into_block().unwrap();
    assert_eq!((parts.block.size(), parts.len), (0, 0));
    // SAFETY: the block is the buffer's, and there are no elements.
    let again = unsafe { Buffer::<bool, _>::from_block(parts.block, 0, &stream, resource) }.unwrap();
    assert_eq!(again.to_vec().unwrap(), []);
}
