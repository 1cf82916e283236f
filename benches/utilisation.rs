//! How much of a device a pool gives out. For equal blocks of many sizes, the bench fills the device through the leaf
//! alone and through the pool, and compares the numbers of blocks. For the weights of published models, it compares the
//! memory that each takes with the weights' bytes. No figure is a time.
//!
//! On a GPU the bench takes at most half of the free memory. The pool then has that much as its maximum.

mod common;

use cumem::{Device, LayerExt, MemoryResource, Stream};
use cumem_adaptors::{AnyStack, PoolState, StackSpec};

const MIB: usize = 1 << 20;
/// The driver takes a multiple of this from the device, in bytes.
const GRANULE: usize = 2 * MIB;
/// The difference between two sizes, in bytes: neither a multiple of a chunk's granularity nor of a unit of the pool.
const STEP: usize = 1_400_003;
const LARGEST: usize = 512 * MIB;

/// A model with gated feed-forward layers: its name, and the sizes that its weights follow from.
struct Model {
    name: &'static str,
    hidden: usize,
    feed_forward: usize,
    key_value: usize,
    layers: usize,
    vocabulary: usize,
}

/// From the `config.json` of each model.
const MODELS: [Model; 3] = [
    Model { name: "Qwen2.5-7B", hidden: 3584, feed_forward: 18_944, key_value: 512, layers: 28, vocabulary: 152_064 },
    Model { name: "Qwen2.5-14B", hidden: 5120, feed_forward: 13_824, key_value: 1024, layers: 48, vocabulary: 152_064 },
    Model { name: "Llama-2-13B", hidden: 5120, feed_forward: 13_824, key_value: 5120, layers: 40, vocabulary: 32_000 },
];

impl Model {
    /// Returns the bytes of each weight in bf16, in the order of the model's files.
    fn weights(&self) -> Vec<usize> {
        let Self { hidden, feed_forward, key_value, vocabulary, .. } = *self;
        let attention = [hidden * hidden, key_value * hidden, key_value * hidden, hidden * hidden];
        let mut elements = vec![vocabulary * hidden];
        for _ in 0..self.layers {
            elements.extend(attention.into_iter().chain([hidden * feed_forward; 3]).chain([hidden; 2]));
        }
        elements.extend([hidden, vocabulary * hidden]);
        elements.into_iter().map(|count| 2 * count).collect()
    }
}

/// A leaf, and a pool over it.
struct Pair<'a> {
    device: &'a Device,
    stream: Stream,
    pooled: StackSpec,
    /// The most bytes of the device to take.
    most: usize,
}

/// The blocks of one size that fit.
struct Fit {
    block: usize,
    bare: usize,
    pooled: usize,
}

impl Fit {
    fn ratio(&self) -> f64 {
        self.pooled as f64 / self.bare.max(1) as f64
    }
}

impl Pair<'_> {
    /// Builds the leaf, or the pool over it, anew.
    fn build(&self, pool: bool) -> AnyStack {
        let text = self.pooled.to_string();
        let (leaf, _) = text.split_once(" | ").unwrap_or((&text, ""));
        let text = match pool {
            false => leaf.to_owned(),
            true if self.device.is_simulated() => text,
            true => text.replacen("| pool", &format!("| pool(maximum={}B)", self.most), 1),
        };
        common::build(&text.parse().unwrap_or_else(|error| common::give_up(error)), self.device)
    }

    /// Returns how many blocks fit.
    fn fill(&self, block: usize, pool: bool) -> usize {
        let stack = self.build(pool);
        let most = if pool { usize::MAX } else { self.most / block.next_multiple_of(GRANULE.min(block)) };
        let allocated = (0..most).map_while(|_| stack.allocate(&self.stream, common::layout(block)).ok());
        let blocks: Vec<_> = allocated.collect();
        let count = blocks.len();
        blocks.into_iter().for_each(|block| common::free(&stack, &self.stream, block));
        count
    }

    fn fit(&self, block: usize) -> Fit {
        Fit { block, bare: self.fill(block, false), pooled: self.fill(block, true) }
    }

    /// Returns the bytes that the weights take, by the pool's figures or by those of the device.
    fn taken_by(&self, weights: &[usize], pool: bool) -> usize {
        let stack = self.build(pool);
        let free = || self.device.memory_info().unwrap_or_else(|error| common::give_up(error)).free;
        let before = free();
        let blocks: Vec<_> =
            weights.iter().map(|&bytes| common::allocate(&stack, &self.stream, common::layout(bytes))).collect();
        let taken = stack.find::<PoolState>().map_or_else(|| before - free(), |state| state.stats().reserved);
        blocks.into_iter().for_each(|block| common::free(&stack, &self.stream, block));
        taken
    }

    fn print(&self, sizes: &[usize]) {
        let name = format!("utilisation/{}/{}", self.device.id(), self.pooled);
        println!("{name}: {:.1} GiB", self.most as f64 / (1 << 30) as f64);
        let share = |blocks: usize, block: usize| (blocks * block) as f64 / self.most as f64 * 100.0;
        for range in sizes.chunk_by(|a, b| a.ilog2() == b.ilog2()) {
            let fits = range.iter().map(|&block| self.fit(block));
            let Some(worst) = fits.min_by(|a, b| a.ratio().total_cmp(&b.ratio())) else { continue };
            println!(
                "  {:>3} to {:>3} MiB, {:>3} sizes: worst {:>6.1} MiB, leaf {:>5.1} %, pool {:>5.1} %, pool / leaf {:.3}",
                (1 << range[0].ilog2()) / MIB,
                (2 << range[0].ilog2()) / MIB,
                range.len(),
                worst.block as f64 / MIB as f64,
                share(worst.bare, worst.block),
                share(worst.pooled, worst.block),
                worst.ratio(),
            );
        }
        // The device does not report what pinned memory takes.
        for model in MODELS.iter().filter(|_| !name.contains("pinned")) {
            let weights = model.weights();
            let bytes: usize = weights.iter().sum();
            if bytes + bytes / 8 > self.most {
                println!("  {}: does not fit", model.name);
                continue;
            }
            let ratio = |pool| self.taken_by(&weights, pool) as f64 / bytes as f64;
            println!("  {}: leaf {:.3}, pool {:.3} times the weights", model.name, ratio(false), ratio(true));
        }
    }
}

fn main() {
    let device = common::named_device();
    let simulated = device.is_simulated();
    eprintln!("{device}{}", if simulated { ": all figures are of a simulated device" } else { "" });
    let stacks = if simulated {
        "device | pool; async | pool; pinned | pool; virtual | pool"
    } else {
        "device | pool; async | pool; virtual | pool"
    };
    // Like Criterion's benches, which make one round if Cargo only tests that they run.
    let step = if std::env::args().any(|arg| arg == "--test") { 64 * STEP } else { STEP };
    let sizes: Vec<usize> = (MIB..=LARGEST).step_by(step).collect();
    for pooled in common::stacks(stacks) {
        let stream = Stream::new(&device).unwrap_or_else(|error| common::give_up(error));
        let pinned = pooled.to_string().starts_with("pinned");
        let info = if pinned { device.host_memory_info() } else { device.memory_info() };
        let free = info.unwrap_or_else(|error| common::give_up(error)).free;
        let most = if simulated { free } else { (free / 2).next_multiple_of(GRANULE) - GRANULE };
        Pair { device: &device, stream, pooled, most }.print(&sizes);
    }
}
