//! Aliases: mapped memory at a second address shows the same bytes, and misuse is reported.

use crate::common::{free, simulated};
use cumem::error::{CudaErrorCode, TrimError, take_drop_errors};
use cumem::kernel::HostKernel;
use cumem::layer::Beneath;
use cumem::layer::fmt_stack;
use cumem::resources::{Alias, AliasError, UnmapError};
use cumem::sim::faults::{FaultOutcome, enumerate};
use cumem::sim::{AccessKind, FaultCall, LiveAllocations, Profile, Race, RaceKind, Simulator};
use cumem::{
    AllocError, Block, Buffer, CudaVirtualResource, DeallocError, Device, DeviceError, Layer, MemoryResource, Stream,
    kind, layout,
};
use cumem_test_support::own_process;
use std::alloc::Layout;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::ptr::{self, NonNull};

const GRANULE: usize = 2 << 20;

// This test reads the recorded errors of drops, which the whole process shares.
own_process!(dropping_the_resource_before_an_alias_keeps_the_addresses_and_is_recorded);

/// A memory resource whose only block is the memory at `addr`.
struct At<'a> {
    device: &'a Device,
    addr: u64,
}

impl Layer for At<'_> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("at")
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Device(self.device)
    }
    fn state(&self) -> &dyn Any {
        &()
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_stack(self, f)
    }
}

// SAFETY: the tests create one buffer at a time over memory that outlives it, on streams that wait for each other.
unsafe impl MemoryResource for At<'_> {
    type Kind = kind::Device;

    fn allocate(&self, _stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let ptr = NonNull::new(ptr::with_exposed_provenance_mut(self.addr as usize)).unwrap();
        Ok(Block::new(cumem::resource::MakerId::unique(), ptr, layout, 0))
    }

    unsafe fn deallocate(&self, _stream: &Stream, _block: Block) -> Result<(), DeallocError> {
        Ok(())
    }
}

fn take(leaf: &CudaVirtualResource, stream: &Stream, bytes: usize) -> Block {
    leaf.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

fn map(leaf: &CudaVirtualResource, blocks: &[&Block]) -> Result<Alias, AliasError> {
    // SAFETY: the tests order their uses. Where a test does not, the simulated device must report it.
    unsafe { leaf.map_alias(blocks) }
}

fn unmap(leaf: &CudaVirtualResource, alias: Alias) -> Result<(), UnmapError> {
    // SAFETY: the tests wait for the uses first. Where a test does not, the simulated device must report it.
    unsafe { leaf.unmap_alias(alias) }
}

/// A device, a stream, and a leaf with three blocks of one granule each.
struct Rig {
    device: Device,
    stream: Stream,
    leaf: CudaVirtualResource,
    blocks: [Block; 3],
}

impl Rig {
    fn new() -> Self {
        let device = simulated();
        let (stream, leaf) = (Stream::new(&device).unwrap(), CudaVirtualResource::new(&device).unwrap());
        let blocks = [(); 3].map(|()| take(&leaf, &stream, GRANULE));
        Self { device, stream, leaf, blocks }
    }

    fn simulator(&self) -> &Simulator {
        self.device.simulator().unwrap()
    }

    fn live(&self) -> LiveAllocations {
        self.simulator().live_allocations()
    }

    /// Maps the third block and then the first block at new addresses.
    fn alias(&self) -> Alias {
        map(&self.leaf, &[&self.blocks[2], &self.blocks[0]]).unwrap()
    }

    fn races(&self) -> Vec<Race> {
        self.simulator().take_races()
    }
}

fn write(name: &'static str, addr: u64, bytes: usize, stream: &Stream) -> Result<(), DeviceError> {
    // SAFETY: as in `map`.
    unsafe { stream.launch_host(HostKernel::new(name, |memory| memory.write::<u8>(0).fill(1)).writes(addr, bytes)) }
}

fn numbers(count: usize) -> Vec<u32> {
    (0..count as u32).map(|n| n.wrapping_mul(2_654_435_761)).collect()
}

on_devices!(both_addresses_show_the_same);

fn both_addresses_show_the_same(device: &Device) {
    let [first, second] = [(); 2].map(|()| Stream::new(device).unwrap());
    let leaf = CudaVirtualResource::new(device).unwrap();
    let [low, between, high] = [GRANULE, 1, GRANULE + 4].map(|bytes| take(&leaf, &first, bytes));
    let alias = map(&leaf, &[&high, &low]).unwrap();
    assert_eq!((alias.size(), alias.addr() % GRANULE as u64), (3 * GRANULE, 0));
    assert!(!leaf.addresses().contains(&alias.addr()));
    let over = |addr| At { device, addr };
    let data = numbers(alias.size() / 4);
    let (in_high, in_low) = data.split_at(2 * GRANULE / 4);
    {
        // Fill through the alias, read through the blocks.
        drop(Buffer::<u32, _>::zeroed(data.len(), &first, over(alias.addr())).unwrap());
        for block in [&high, &low] {
            // SAFETY: the elements were written through the alias.
            let home = unsafe { Buffer::<u32, _>::uninit(GRANULE / 4, &first, over(block.addr())) }.unwrap();
            assert!(home.to_vec().unwrap().iter().all(|&n| n == 0));
        }
    }
    {
        // Copy to the alias on one stream, read through the blocks on another.
        let source = Buffer::from_slice(&data, &first, CudaVirtualResource::new(device).unwrap()).unwrap();
        // SAFETY: the copy writes all elements before they are read.
        let mut whole = unsafe { Buffer::<u32, _>::uninit(data.len(), &first, over(alias.addr())) }.unwrap();
        whole.copy_from_buffer(&source).unwrap();
        second.wait_for(&first).unwrap();
        for (block, expected) in [(&high, in_high), (&low, in_low)] {
            // SAFETY: the elements were written through the alias.
            let home = unsafe { Buffer::<u32, _>::uninit(expected.len(), &second, over(block.addr())) }.unwrap();
            assert!(home.to_vec().unwrap() == expected);
        }
    }
    {
        // Fill a block, read through the alias.
        drop(Buffer::<u32, _>::zeroed(in_low.len(), &second, over(low.addr())).unwrap());
        first.wait_for(&second).unwrap();
        // SAFETY: all elements have been written.
        let whole = unsafe { Buffer::<u32, _>::uninit(data.len(), &first, over(alias.addr())) }.unwrap();
        let found = whole.to_vec().unwrap();
        assert!(found[..in_high.len()] == *in_high && found[in_high.len()..].iter().all(|&n| n == 0));
    }
    device.synchronize().unwrap();
    unmap(&leaf, alias).unwrap();
    // SAFETY: all elements have been written.
    let home = unsafe { Buffer::<u32, _>::uninit(in_high.len(), &first, over(high.addr())) }.unwrap();
    assert!(home.to_vec().unwrap() == in_high, "the blocks are unchanged");
    for block in [low, between, high] {
        free(&leaf, &first, block).unwrap();
    }
}

#[test]
fn kernels_see_and_write_the_same_bytes() {
    let rig = Rig::new();
    let alias = rig.alias();
    write("home", rig.blocks[0].addr(), 8, &rig.stream).unwrap();
    let seam = alias.addr() + GRANULE as u64;
    let kernel = HostKernel::new("over the seam", |memory| {
        let bytes = memory.write::<u8>(0);
        assert_eq!(bytes[8..16], [1; 8], "written at home");
        bytes[4..12].fill(7);
    });
    // SAFETY: the test owns the memory, and it outlives the kernel.
    unsafe { rig.stream.launch_host(kernel.writes(seam - 8, 16)) }.unwrap();
    let [first, third] = [rig.blocks[0].addr(), rig.blocks[2].addr() + GRANULE as u64 - 4];
    let kernel = HostKernel::new("at home", |memory| {
        assert_eq!([memory.read::<u8>(0), memory.read::<u8>(1)].concat(), [7, 7, 7, 7, 1, 1, 1, 1, 7, 7, 7, 7]);
    });
    // SAFETY: the test owns the memory, and it outlives the kernel.
    unsafe { rig.stream.launch_host(kernel.reads(first, 8).reads(third, 4)) }.unwrap();
    rig.stream.synchronize().unwrap();
}

#[test]
fn an_alias_uses_addresses_and_no_memory() {
    let rig = Rig::new();
    let (before, free_before) = (rig.live(), rig.device.memory_info().unwrap().free);
    let gaps = rig.leaf.gaps();
    rig.simulator().keep_snapshots(true);
    let aliases = [rig.alias(), rig.alias()];
    assert_eq!(aliases[1].addr(), aliases[0].addr() + 2 * GRANULE as u64);
    let live = rig.live();
    assert_eq!((live.aliased.blocks, live.aliased.bytes), (4, 4 * GRANULE as u64));
    assert_eq!((live.bytes(), live.reserved.bytes), (before.bytes(), 2 * before.reserved.bytes));
    assert_eq!((rig.device.memory_info().unwrap().free, rig.leaf.gaps()), (free_before, gaps));
    assert!(live.to_string().contains("8388608 bytes of further addresses of mapped memory in 4 blocks"), "{live}");
    assert_eq!(rig.simulator().take_snapshots().last().unwrap().allocations.len(), 3);
    for alias in aliases {
        unmap(&rig.leaf, alias).unwrap();
    }
    let Rig { device, stream, leaf, blocks } = rig;
    for block in blocks {
        free(&leaf, &stream, block).unwrap();
    }
    drop(leaf);
    let live = device.simulator().unwrap().live_allocations();
    assert!(live.no_memory() && live.aliased.blocks == 0 && live.reserved.blocks == 0, "{live}");
}

#[test]
fn a_range_that_cannot_be_aliased_is_refused() {
    let (rig, other) = (Rig::new(), Rig::new());
    let foreign = &other.blocks[0];
    let refused = map(&rig.leaf, &[&rig.blocks[0], foreign]).unwrap_err();
    assert_eq!(refused, AliasError::Foreign { layer: "virtual", what: "block", addr: foreign.addr() });
    assert_eq!(map(&rig.leaf, &[]).unwrap_err(), AliasError::NothingToMap { blocks: 0 });
    let empty = take(&rig.leaf, &rig.stream, 0);
    assert_eq!(map(&rig.leaf, &[&empty, &empty]).unwrap_err(), AliasError::NothingToMap { blocks: 2 });
    assert_eq!(rig.live().aliased.blocks, 0);
    let alias = map(&rig.leaf, &[&empty, &rig.blocks[1]]).unwrap();
    assert_eq!(alias.size(), GRANULE);
    let UnmapError { alias, reason, .. } = unmap(&other.leaf, alias).unwrap_err();
    assert_eq!(reason, AliasError::Foreign { layer: "virtual", what: "alias", addr: alias.addr() });
    unmap(&rig.leaf, alias).unwrap();
}

#[test]
fn more_than_the_addresses_is_refused() {
    let device = Device::simulated(Profile::tiny(2 * GRANULE as u64)).unwrap();
    let (stream, leaf) = (Stream::new(&device).unwrap(), CudaVirtualResource::new(&device).unwrap());
    let block = take(&leaf, &stream, GRANULE);
    let addresses = leaf.addresses();
    let often = vec![&block; (addresses.end - addresses.start) as usize / GRANULE + 1];
    assert!(map(&leaf, &often).unwrap_err().is_out_of_memory());
    unmap(&leaf, map(&leaf, &often[1..]).unwrap()).unwrap();
    free(&leaf, &stream, block).unwrap();
}

#[test]
fn uses_through_both_addresses_are_one_for_the_race_detector() {
    let rig = Rig::new();
    let second = Stream::new(&rig.device).unwrap();
    let alias = rig.alias();
    rig.simulator().detect_races(true);
    let (seam, home) = (alias.addr() + GRANULE as u64, rig.blocks[0].addr());
    write("alias", seam - 64, 128, &rig.stream).unwrap();
    write("beside", home + 64, 64, &second).unwrap();
    assert_eq!(rig.races(), [], "other bytes");
    write("home", home, 128, &second).unwrap();
    let races = rig.races();
    let [race] = &races[..] else { panic!("{races:#?}") };
    assert_eq!((race.kind, race.first.by, race.second.by), (RaceKind::Unordered, "alias", "home"));
    assert_eq!(race.addresses, home..home + 64);
    // No race if each stream waits for the other's use.
    rig.stream.wait_for(&second).unwrap();
    write("alias", seam, 128, &rig.stream).unwrap();
    second.wait_for(&rig.stream).unwrap();
    write("home", home, 128, &second).unwrap();
    assert_eq!(rig.races(), []);
    write("alias", seam, 128, &rig.stream).unwrap();
    assert_eq!(rig.races().len(), 1);
}

#[test]
fn an_alias_unmapped_too_early_is_a_race_of_its_own_uses() {
    let rig = Rig::new();
    rig.simulator().detect_races(true);
    let [first, second] = [rig.alias(), rig.alias()];
    let addr = second.addr();
    write("home", rig.blocks[2].addr(), 64, &rig.stream).unwrap();
    write("first", first.addr(), 64, &rig.stream).unwrap();
    unmap(&rig.leaf, second).unwrap();
    assert_eq!(rig.races(), [], "nothing used it");
    let late = write("second", addr, 64, &rig.stream).unwrap_err();
    assert!(late.to_string().contains("which was freed"), "{late}");
    assert_eq!(rig.races()[0].kind, RaceKind::UseAfterFree);
    unmap(&rig.leaf, first).unwrap();
    let races = rig.races();
    let [race] = &races[..] else { panic!("{races:#?}") };
    assert_eq!((race.kind, race.first.by), (RaceKind::ReuseBeforeLastUse, "first"));
    assert_eq!((race.second.by, race.second.kind), ("cuMemUnmap", AccessKind::Freed));
}

#[test]
fn work_that_loses_its_alias_fails() {
    let rig = Rig::new();
    let alias = rig.alias();
    write("late", alias.addr(), 2 * GRANULE, &rig.stream).unwrap();
    unmap(&rig.leaf, alias).unwrap();
    let error = rig.stream.synchronize().unwrap_err();
    assert!(error.to_string().contains("which was freed"), "{error}");
}

#[test]
fn a_kernel_does_not_write_through_both_addresses() {
    let rig = Rig::new();
    let (alias, home) = (rig.alias(), rig.blocks[0].addr());
    let seam = alias.addr() + GRANULE as u64;
    let launch = |kernel: HostKernel| {
        // SAFETY: the test owns the memory, and it outlives the kernel.
        unsafe { rig.stream.launch_host(kernel) }
    };
    let error = launch(HostKernel::new("both", |_| ()).writes(seam - 8, 16).reads(home, 8)).unwrap_err();
    assert!(error.to_string().contains("kernel both writes range 0, which overlaps its range 1"), "{error}");
    launch(HostKernel::new("beside", |_| ()).writes(seam - 8, 16).reads(home + 8, 8)).unwrap();
    launch(HostKernel::new("reads", |_| ()).reads(seam - 8, 16).reads(home, 16)).unwrap();
    rig.stream.synchronize().unwrap();
}

#[test]
fn a_block_with_an_alias_is_not_taken_back() {
    let rig = Rig::new();
    let alias = rig.alias();
    let Rig { stream, leaf, blocks: [first, ..], .. } = rig;
    let DeallocError { block, reason, .. } = free(&leaf, &stream, first).unwrap_err();
    assert!(reason.to_string().contains(&format!("is mapped at {:#x} too", alias.addr() + GRANULE as u64)), "{reason}");
    unmap(&leaf, alias).unwrap();
    free(&leaf, &stream, block).unwrap();
}

#[test]
fn a_refused_unmap_returns_the_alias() {
    let rig = Rig::new();
    let alias = rig.alias();
    rig.simulator().fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let UnmapError { alias, reason, .. } = unmap(&rig.leaf, alias).unwrap_err();
    let AliasError::Driver(reason) = reason else { panic!("{reason}") };
    let code = reason.code();
    assert_eq!((code, rig.live().aliased.blocks), (Some(CudaErrorCode::UNKNOWN), 2));
    unmap(&rig.leaf, alias).unwrap();
    assert_eq!(rig.live().aliased.blocks, 0);
}

#[test]
fn a_refusal_of_any_call_loses_nothing() {
    let report = enumerate(&Profile::default(), |device| -> Result<(), Box<dyn Error>> {
        let (stream, leaf) = (Stream::new(device)?, CudaVirtualResource::new(device)?);
        let blocks: Vec<_> = (1..3)
            .filter_map(|granules| leaf.allocate(&stream, layout::bytes(granules * GRANULE).unwrap()).ok())
            .collect();
        let listed: Vec<&Block> = blocks.iter().rev().collect();
        let used = map(&leaf, &listed).map_err(Box::<dyn Error>::from).and_then(|alias| {
            let worked = write("work", alias.addr(), alias.size(), &stream).and_then(|()| stream.synchronize());
            unmap(&leaf, alias)?;
            Ok(worked?)
        });
        let freed: Vec<_> = blocks.into_iter().map(|block| free(&leaf, &stream, block)).collect();
        freed.into_iter().collect::<Result<(), _>>()?;
        used
    });
    report.assert();
    let of = |call| Vec::from_iter(report.runs().iter().filter(move |(fault, _)| fault.call == call));
    assert_eq!(of(FaultCall::Map).len(), 2 * 3, "two blocks and the alias, each with two codes");
    assert!(matches!(of(FaultCall::Map)[5].1, FaultOutcome::Failed(_)), "{report}");
    assert!(matches!(of(FaultCall::Free)[0].1, FaultOutcome::Kept(_)), "{report}");
}

fn dropping_the_resource_before_an_alias_keeps_the_addresses_and_is_recorded() {
    let rig = Rig::new();
    let alias = rig.alias();
    let Rig { device, leaf, blocks, .. } = rig;
    drop(leaf);
    let live = device.simulator().unwrap().live_allocations();
    assert_eq!(
        (live.mapped.blocks, live.aliased.blocks, live.reserved.blocks),
        (3, 2, 2),
        "the contents are unchanged"
    );
    let errors = take_drop_errors();
    for expected in ["blocks of 6291456 bytes are still live", "aliases of 4194304 bytes are still live"] {
        assert!(errors.iter().any(|error| error.contains(expected)), "{errors:?}");
    }
    drop((blocks, alias));
}
