//! The pool's statistics, to the byte.

use crate::common::{free, sim};
use crate::source::Source;
use cumem::kernel::HostKernel;
use cumem::{Block, CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::pool::{Pool, PoolError, PoolOptions, PoolSnapshot, RegionState, SizeClass};
use cumem_adaptors::{PoolState, ResourceExt};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn pool(device: &Device, initial: usize) -> Pool<Source<CudaResource>> {
    Pool::new(Source::new(CudaResource::new(device)), PoolOptions::new().initial(initial)).unwrap()
}

fn take(resource: &impl MemoryResource, stream: &Stream, bytes: usize) -> Block {
    resource.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

fn pieces(snapshot: &PoolSnapshot) -> Vec<(usize, RegionState)> {
    snapshot.regions.iter().map(|region| (region.bytes, region.state)).collect()
}

#[test]
fn every_figure_of_a_pool_with_three_streams() {
    let (device, a) = sim();
    let [b, c] = [(); 2].map(|()| Stream::new(&device).unwrap());
    let pool = pool(&device, 16 * MIB);
    // A stream takes 2 MiB at a time, or the size of a larger request.
    let first = take(&pool, &a, 1000);
    let second = take(&pool, &a, 300 * KIB);
    let third = take(&pool, &b, MIB + 1);
    let fourth = take(&pool, &c, 5 * MIB);
    free(&pool, &a, second).unwrap();
    free(&pool, &c, fourth).unwrap();
    let stats = pool.stats();
    assert_eq!(stats.reserved, 16 * MIB);
    assert_eq!(stats.allocated, KIB + MIB + 256);
    assert_eq!(stats.requested, 1000 + MIB + 1);
    assert_eq!(stats.free, 16 * MIB - KIB - MIB - 256);
    assert_eq!(stats.cached, 9 * MIB - KIB - MIB - 256);
    assert_eq!(stats.largest_free, 7 * MIB, "what no stream has taken");
    assert_eq!((stats.blocks, stats.chunks, stats.streams), (2, 1, 3));
    assert_eq!(stats.internal_fragmentation(), (24 + 255) as f64 / stats.allocated as f64);
    assert_eq!(stats.external_fragmentation(), (stats.free - 7 * MIB) as f64 / stats.free as f64);

    let snapshot = pool.snapshot();
    assert_eq!(snapshot.stats, stats);
    let own = |stream: &Stream| *snapshot.streams.iter().find(|own| own.stream == Some(stream.id())).unwrap();
    let figures = |stream| {
        let own = own(stream);
        (own.blocks, own.requested, own.allocated, own.cached, own.largest_free)
    };
    assert_eq!(figures(&a), (1, 1000, KIB, 2 * MIB - KIB, 2 * MIB - KIB));
    assert_eq!(figures(&b), (1, MIB + 1, MIB + 256, MIB - 256, MIB - 256));
    assert_eq!(figures(&c), (0, 0, 0, 5 * MIB, 5 * MIB));
    let class = |class: &SizeClass| (class.at_most, class.blocks, class.bytes);
    assert_eq!(snapshot.classes().iter().map(class).collect::<Vec<_>>(), [(KIB, 1, KIB), (2 * MIB, 1, MIB + 256)]);
    let live = snapshot.regions.iter().filter(|region| region.state == RegionState::Live);
    let live: Vec<_> = live.map(|region| (region.addr, region.stream)).collect();
    let mut expected = [(first.addr(), Some(a.id())), (third.addr(), Some(b.id()))];
    expected.sort_unstable();
    assert_eq!(live, expected);

    free(&pool, &a, first).unwrap();
    free(&pool, &b, third).unwrap();
    assert_eq!((pool.stats().requested, pool.stats().internal_fragmentation()), (0, 0.0));
    pool.trim().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.reserved, stats.free, stats.cached, stats.largest_free, stats.chunks), (0, 0, 0, 0, 0));
    assert!(pool.snapshot().regions.is_empty());
}

/// Freed memory belongs to its stream. After it is folded, every stream may use it once the work on it is done.
#[test]
fn a_freed_piece_is_cached_then_pending_then_free() {
    let (device, stream) = sim();
    let pool = pool(&device, 2 * MIB);
    let [kept, freed] = [(); 2].map(|()| take(&pool, &stream, MIB));
    let mut addrs = [kept.addr(), freed.addr()];
    addrs.sort_unstable();
    let in_order =
        |state| if addrs[0] == kept.addr() { [RegionState::Live, state] } else { [state, RegionState::Live] };
    let states = || pieces(&pool.snapshot()).into_iter().map(|(_, state)| state).collect::<Vec<_>>();
    assert_eq!(pieces(&pool.snapshot()), [(MIB, RegionState::Live); 2]);
    let busy = HostKernel::new("busy", |_| ()).operations(1_000_000_000_000);
    // SAFETY: the kernel touches nothing.
    unsafe { stream.launch_host(busy) }.unwrap();
    free(&pool, &stream, freed).unwrap();
    assert_eq!(states(), in_order(RegionState::Cached));
    assert_eq!(pool.trim(), Ok(0), "there is a block in the only chunk");
    assert_eq!(states(), in_order(RegionState::Pending));
    assert_eq!((pool.stats().cached, pool.stats().free), (0, MIB));
    stream.synchronize().unwrap();
    assert_eq!(states(), in_order(RegionState::Free));
    free(&pool, &stream, kept).unwrap();
}

/// Bytes that are added to reach one of the sizes count as internal fragmentation. Blocks of similar sizes reuse each
/// other's memory.
#[test]
fn rounding_is_counted_as_internal_fragmentation() {
    let (device, stream) = sim();
    let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(16 * MIB).divisions(4)).unwrap();
    let first = take(&pool, &stream, MIB + 1);
    let stats = pool.stats();
    assert_eq!((stats.allocated, stats.requested, stats.blocks), (MIB + MIB / 4, MIB + 1, 1));
    assert_eq!(stats.internal_fragmentation(), (MIB / 4 - 1) as f64 / (MIB + MIB / 4) as f64);
    assert_eq!(pool.snapshot().streams[0].allocated, stats.allocated);
    let (addr, other) = (first.addr(), take(&pool, &stream, 1000));
    free(&pool, &stream, first).unwrap();
    let second = take(&pool, &stream, MIB + MIB / 5);
    assert_eq!((second.addr(), second.size()), (addr, MIB + MIB / 5), "a block has the size that was asked for");
    assert_eq!(pool.stats().allocated, MIB + MIB / 4 + KIB);
    free(&pool, &stream, second).unwrap();
    free(&pool, &stream, other).unwrap();
    assert_eq!((pool.stats().allocated, pool.stats().requested), (0, 0));
    let refused = CudaResource::new(&device).pool(PoolOptions::new().divisions(3)).unwrap_err();
    assert_eq!(refused, PoolError::Divisions { divisions: 3 });
}

#[test]
fn statistics_and_snapshot_are_displayed_as_text() {
    let (device, a) = sim();
    let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(2 * MIB)).unwrap();
    let blocks = [1000, MIB].map(|bytes| take(&pool, &a, bytes));
    let state = pool.find::<PoolState>().unwrap();
    let snapshot = state.snapshot();
    let text = snapshot.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..5],
        [
            "2.00 MiB reserved in 1 chunk: 1.00 MiB in 2 blocks (1.00 MiB requested, 0.0% lost to rounding)",
            "1023.00 KiB free: 1023.00 KiB cached for 1 stream, largest piece 1023.00 KiB (0.0% outside of it)",
            &format!("stream {}: 1.00 MiB in 2 blocks, 1023.00 KiB cached", a.id().as_u64()),
            "up to 1.00 KiB: 1 block, 1.00 KiB",
            "up to 1.00 MiB: 1 block, 1.00 MiB",
        ]
    );
    // 64 marks of 32 KiB: the blocks, the mark that both halves share, and the free memory.
    let map = format!("{:#x}, 32.00 KiB a mark: {}+{}", snapshot.regions[0].addr, "#".repeat(32), ".".repeat(31));
    assert_eq!(lines[5..], [map]);
    for block in blocks {
        free(&pool, &a, block).unwrap();
    }
}

/// The peak of the reserved bytes is exact. The other peaks are exact for one stream, and a bound for several.
#[test]
fn peaks_stay_when_memory_is_freed() {
    let (device, a) = sim();
    let b = Stream::new(&device).unwrap();
    let pool = CudaResource::new(&device).pool(PoolOptions::new().step(MIB)).unwrap();
    let peaks = || {
        let stats = pool.stats();
        (stats.peak_reserved, stats.peak_allocated_at_most, stats.peak_requested_at_most)
    };
    assert_eq!(peaks(), (0, 0, 0));
    let blocks = [1000, 3 * MIB].map(|bytes| take(&pool, &a, bytes));
    assert_eq!(peaks(), (pool.stats().reserved, 3 * MIB + KIB, 3 * MIB + 1000));
    blocks.into_iter().for_each(|block| free(&pool, &a, block).unwrap());
    pool.trim().unwrap();
    assert_eq!((peaks(), pool.stats().reserved), ((4 * MIB, 3 * MIB + KIB, 3 * MIB + 1000), 0));
    let small = take(&pool, &a, 1);
    assert_eq!(peaks(), (4 * MIB, 3 * MIB + KIB, 3 * MIB + 1000), "less than before");
    free(&pool, &a, small).unwrap();
    // The second stream has its block after the first stream has none, so the bound is above the peak.
    let later = take(&pool, &b, 2 * MIB);
    assert_eq!(peaks(), (4 * MIB, 4 * MIB, 4 * MIB));
    free(&pool, &b, later).unwrap();
}
