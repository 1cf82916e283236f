//! How much of the device a pool gives out: equal blocks, the weights of models, mixed sizes, and all of a maximum.

use crate::common::{free, sim_with};
use crate::source::Source;
use cumem::sim::Profile;
use cumem::{Block, CudaResource, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, LimiterState, Pool, PoolError, PoolOptions, PoolState, Size, StackSpec};
use cumem_conformance::Rng;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

fn stack(text: &str, capacity: usize) -> (AnyStack, Stream) {
    let (device, stream) = sim_with(Profile::default().with_capacity(capacity as u64));
    (StackSpec::parse(text).unwrap().build(&device).unwrap(), stream)
}

/// Allocates blocks of these sizes until the stack is out of memory.
fn fill(stack: &AnyStack, stream: &Stream, sizes: impl IntoIterator<Item = usize>) -> Vec<Block> {
    let blocks = sizes.into_iter().map_while(|bytes| stack.allocate(stream, layout::bytes(bytes).unwrap()).ok());
    blocks.collect()
}

fn free_all(stack: &AnyStack, stream: &Stream, blocks: impl IntoIterator<Item = Block>) {
    blocks.into_iter().for_each(|block| free(stack, stream, block).unwrap());
}

/// Returns the number of blocks of these sizes that a device of `capacity` bytes has room for through a stack.
fn count(text: &str, capacity: usize, sizes: impl IntoIterator<Item = usize>) -> usize {
    let (stack, stream) = stack(text, capacity);
    let blocks = fill(&stack, &stream, sizes);
    let count = blocks.len();
    free_all(&stack, &stream, blocks);
    count
}

/// Sizes from 1 to 512 MiB in odd steps, those around the sizes of chunks and halves of chunks, and multiples of 2 MiB.
fn sizes() -> Vec<usize> {
    let odd = (24 * MIB..=512 * MIB).step_by(9 * MIB + 100_003);
    let around = [64, 65, 86, 100, 128, 129, 200, 256, 257, 511].map(|n| n * MIB);
    odd.chain(around).chain([128 * MIB - 1, 128 * MIB + 1, 85 * MIB + 1, 256 * MIB + 256]).collect()
}

fn is_given_out(leaf: &str, capacity: usize) {
    for block in sizes() {
        let equal = || std::iter::repeat(block);
        let (bare, pooled) = (count(leaf, capacity, equal()), count(&format!("{leaf} | pool"), capacity, equal()));
        assert!(pooled * 100 >= bare * 98, "{leaf}: {bare} blocks of {block} bytes, {pooled} through the pool");
        assert!(pooled * block * 100 >= capacity * 98, "{leaf}: {pooled} blocks of {block} bytes");
    }
}

#[test]
fn equal_blocks_of_every_size_fill_the_device() {
    is_given_out("device", 80 * GIB);
}

/// Returns the bytes of each weight of a model with gated feed-forward layers, in bf16, in the order of its files.
fn weights(hidden: usize, ffn: usize, kv: usize, layers: usize, vocabulary: usize) -> Vec<usize> {
    let attention = [hidden * hidden, kv * hidden, kv * hidden, hidden * hidden];
    let layer: Vec<usize> = attention.into_iter().chain([hidden * ffn; 3]).chain([hidden; 2]).collect();
    let layers = std::iter::repeat_n(layer, layers).flatten();
    let ends = [vocabulary * hidden, hidden, vocabulary * hidden];
    ends[..1].iter().copied().chain(layers).chain(ends[1..].iter().copied()).map(|elements| 2 * elements).collect()
}

#[test]
fn the_weights_of_models_take_little_more_than_their_bytes() {
    let models = [
        ("Qwen2.5-7B", weights(3584, 18_944, 512, 28, 152_064)),
        ("Qwen2.5-14B", weights(5120, 13_824, 1024, 48, 152_064)),
        ("Llama-2-13B", weights(5120, 13_824, 5120, 40, 32_000)),
    ];
    for (model, weights) in models {
        for leaf in ["device", "async", "virtual"] {
            let (stack, stream) = stack(&format!("{leaf} | pool"), 80 * GIB);
            let blocks = fill(&stack, &stream, weights.iter().copied());
            assert_eq!(blocks.len(), weights.len());
            let reserved = stack.find::<PoolState>().unwrap().stats().reserved;
            let ratio = reserved as f64 / weights.iter().sum::<usize>() as f64;
            assert!(ratio < 1.03, "{leaf} | pool takes {ratio:.3} times the weights of {model}");
            free_all(&stack, &stream, blocks);
        }
    }
}

/// Blocks of mixed sizes, until one does not fit: the pool holds as many bytes as the leaf alone, but for one block.
#[test]
fn mixed_blocks_fill_the_device() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let sizes: Vec<usize> = (0..2000).map(|_| rng.below(256 * MIB) + 1).collect();
        let held = |text| sizes[..count(text, 16 * GIB, sizes.iter().copied())].iter().sum::<usize>();
        let (bare, pooled) = (held("device"), held("device | pool"));
        assert!(pooled * 100 >= bare * 97, "seed {seed}: {bare} bytes, {pooled} through the pool");
    }
}

#[test]
fn a_small_block_does_not_take_the_place_of_a_large_one() {
    for text in ["virtual | pool", "device | pool", "device | pool | pool(up_to=64KiB)", "async | pool"] {
        for small in [1, 10 * KIB, MIB, 3 * MIB] {
            let (stack, stream) = stack(text, 6 * GIB);
            let large = fill(&stack, &stream, [4 * GIB]);
            free_all(&stack, &stream, large);
            let blocks = fill(&stack, &stream, [small, 4 * GIB]);
            assert_eq!(blocks.len(), 2, "{text}: {small} bytes and 4 GiB on 6 GiB");
            free_all(&stack, &stream, blocks);
        }
    }
}

/// A chunk that is kept for large blocks is cut if the device has no room for another chunk. Once it is, the pool does
/// not call its upstream for each small block.
#[test]
fn a_small_block_takes_the_place_of_a_large_one_if_nothing_else_is_left() {
    let (device, stream) = sim_with(Profile::tiny(64 * MIB as u64));
    let pool = Pool::new(Source::new(CudaResource::new(&device)), PoolOptions::new()).unwrap();
    let take = |bytes| pool.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
    free(&pool, &stream, take(64 * MIB)).unwrap();
    for bytes in [1000, 2000, 1000, 3000] {
        let small = take(bytes);
        assert_eq!(pool.stats().reserved, 64 * MIB);
        free(&pool, &stream, small).unwrap();
    }
    let requests = pool.upstream().ledger.lock().unwrap().requests.clone();
    assert_eq!(requests, [64 * MIB, 2 * MIB, KIB]);
    free(&pool, &stream, take(64 * MIB)).unwrap();
}

/// The memory of the construction is for blocks of any size.
#[test]
fn the_initial_chunk_is_kept_for_no_size() {
    let (stack, stream) = stack("device | pool(initial=1GiB)", 6 * GIB);
    let blocks = fill(&stack, &stream, [10, 3 * MIB, 10 * KIB]);
    assert_eq!(stack.find::<PoolState>().unwrap().stats().reserved, GIB);
    free_all(&stack, &stream, blocks);
}

#[test]
fn a_limit_beneath_the_granularity_of_growth_can_be_used_up() {
    for (text, sizes) in [
        ("device | limit(6000B) | pool", [1000, 4000]),
        ("managed | limit(6000B) | pool", [1000, 4000]),
        ("pinned | limit(6000B) | pool", [1000, 4000]),
    ] {
        let (stack, stream) = stack(text, GIB);
        let blocks = fill(&stack, &stream, sizes);
        assert_eq!(blocks.len(), 2, "{text}");
        free_all(&stack, &stream, blocks);
    }
}

#[test]
fn a_small_step_is_kept() {
    for (bytes, reserved) in [(1000, 64 * KIB), (64 * KIB, 64 * KIB), (100 * KIB, 128 * KIB)] {
        let (stack, stream) = stack("device | pool(step=64KiB)", GIB);
        let blocks = fill(&stack, &stream, [bytes]);
        assert_eq!(stack.find::<PoolState>().unwrap().stats().reserved, reserved);
        free_all(&stack, &stream, blocks);
    }
}

#[test]
fn a_share_of_the_free_memory_can_be_reserved() {
    let (device, stream) = sim_with(Profile::default().with_capacity(8 * GIB as u64));
    let others = CudaResource::new(&device);
    let taken = others.allocate(&stream, layout::bytes(6 * GIB).unwrap()).unwrap();
    let build = |text: &str| StackSpec::parse(text).unwrap().build(&device);
    assert!(build("device | pool(initial=50%)").is_err(), "half of all memory is more than a quarter");
    let stack = build("device | pool(initial=50%free, maximum=75% free) | limit(100% free)").unwrap();
    // The limit is built after the pool has reserved its half.
    let words = "limit(100% free) over pool(initial=50% free, maximum=75% free) over device";
    assert!(stack.to_string().starts_with(words), "{stack}");
    assert_eq!(stack.find::<LimiterState>().unwrap().bytes(), GIB);
    let pool = stack.find::<PoolState>().unwrap();
    assert_eq!((pool.stats().reserved, pool.maximum()), (GIB, Some(3 * GIB / 2)));
    free(&others, &stream, taken).unwrap();

    let refused = Pool::new(CudaResource::new(&device), PoolOptions::new().slack(Size::PercentOfFree(10))).unwrap_err();
    assert_eq!(refused, PoolError::Slack { slack: Size::PercentOfFree(10) });
    let error = StackSpec::parse("device | pool(initial=50% used)").unwrap_err().to_string();
    assert!(error.starts_with("`50% used` is no size: a share is of all memory, as in `50%`, or"), "{error}");
}

const FULL: usize = 64 * MIB;

/// Returns the bytes of the blocks of one size that fit into a pool with a maximum of 64 MiB.
fn fits(leaf: &str, initial: usize, block: usize) -> usize {
    let text = format!("{leaf} | pool(initial={initial}B, maximum=64MiB)");
    count(&text, GIB, std::iter::repeat(block)) * block
}

#[test]
fn a_pool_reaches_its_maximum() {
    for leaf in ["device", "async", "virtual", "pinned", "managed", "host"] {
        for initial in [0, 1_000_192, 6 * MIB, 33 * MIB, FULL] {
            for block in [KIB, 64 * KIB, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 32 * MIB, FULL] {
                // A block that does not fit into the initial chunk is not beside it either.
                let exact = initial % block == 0 || initial < block || matches!(leaf, "virtual");
                if exact {
                    assert_eq!(fits(leaf, initial, block), FULL, "{leaf}, {initial} initial bytes, blocks of {block}");
                }
            }
        }
    }
}

/// Allocates and frees blocks of random sizes, and frees all of them at the end.
fn random_history(stack: &AnyStack, stream: &Stream, rng: &mut Rng, largest: usize) {
    let mut live = Vec::new();
    for _ in 0..100 {
        if rng.below(5) < 2 && !live.is_empty() {
            let block = live.swap_remove(rng.below(live.len()));
            free(stack, stream, block).unwrap();
        } else {
            live.extend(stack.allocate(stream, layout::bytes(rng.below(largest) + 1).unwrap()).ok());
        }
    }
    free_all(stack, stream, live);
}

#[test]
fn a_pool_reaches_its_maximum_after_any_history() {
    for leaf in ["device", "async", "virtual", "pinned", "managed"] {
        for (initial, largest) in [(0, 20 * MIB), (1_000_192, 20 * MIB), (0, 3 * MIB), (0, FULL)] {
            let (stack, stream) = stack(&format!("{leaf} | pool(initial={initial}B, maximum=64MiB)"), GIB);
            let mut rng = Rng::new(1);
            for history in 0..20 {
                random_history(&stack, &stream, &mut rng, largest);
                let blocks = fill(&stack, &stream, std::iter::repeat(4 * MIB));
                let count = blocks.len();
                free_all(&stack, &stream, blocks);
                assert_eq!(count, 16, "{leaf}, {initial} initial bytes, blocks up to {largest}, history {history}");
            }
        }
    }
}
