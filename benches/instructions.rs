//! Operations to count instructions of, with callgrind: `ci/instructions.sh` runs this program twice for each
//! operation, once with twice the repetitions, so that the difference is the operations alone.
//!
//! ```console
//! $ cargo bench --bench instructions -- pair 1000
//! ```

mod common;

use common::rng::Engine;
use cumem::sim::Profile;
use cumem::{CudaAsyncResource, CudaResource, Device, ManagedResource, MemoryResource, Stream, UnifiedBuffer};
use cumem_adaptors::{PoolOptions, ResourceExt};
use std::hint::black_box;

const OPERATIONS: [&str; 7] =
    ["pair", "address_pair", "stack", "random_allocations", "driver_pool", "warm_prefetch", "small_upload"];

fn pairs<R: MemoryResource>(resource: &R, stream: &Stream, repetitions: usize) {
    let layout = common::layout(64 << 10);
    for _ in 0..repetitions {
        common::free(resource, stream, black_box(common::allocate(resource, stream, layout)));
    }
}

/// A thousand live blocks of up to 4 MiB; each step replaces one.
fn random_allocations<R: MemoryResource>(resource: &R, stream: &Stream, repetitions: usize) {
    let mut engine = Engine::new();
    let mut size = || common::layout(engine.uniform(1, 4 << 20) as usize);
    let mut live: Vec<_> = (0..1000).map(|_| common::allocate(resource, stream, size())).collect();
    for step in 0..repetitions {
        let new = common::allocate(resource, stream, size());
        let old = std::mem::replace(&mut live[step * 7919 % 1000], new);
        common::free(resource, stream, old);
    }
    live.into_iter().for_each(|block| common::free(resource, stream, block));
}

fn run(operation: &str, repetitions: usize) -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::simulated(Profile::default())?;
    let stream = Stream::new(&device)?;
    let options = PoolOptions::default();
    match operation {
        "pair" => pairs(&CudaResource::new(&device).pool(options)?, &stream, repetitions),
        "address_pair" => {
            let stack = CudaResource::new(&device).pool(options)?.by_address();
            let layout = common::layout(64 << 10);
            for _ in 0..repetitions {
                let address = black_box(stack.allocate_address(&stream, layout)?);
                // SAFETY: the stack returned the address, and nothing uses the memory.
                unsafe { stack.deallocate_address(&stream, address, None) }?;
            }
        }
        "stack" => {
            let stack = ManagedResource::new(&device)?.pool(options)?.limit(1 << 30).statistics();
            pairs(&stack, &stream, repetitions);
        }
        "random_allocations" => {
            random_allocations(&CudaResource::new(&device).pool(options)?, &stream, repetitions);
        }
        "driver_pool" => pairs(&CudaAsyncResource::new(&device)?, &stream, repetitions),
        "warm_prefetch" => {
            let stack = ManagedResource::new(&device)?.pool(options)?.prefetch(device.id())?;
            pairs(&stack, &stream, repetitions);
        }
        "small_upload" => {
            let data = vec![7_u8; 4 << 10];
            let stack = ManagedResource::new(&device)?.pool(options)?;
            let mut buffer = UnifiedBuffer::from_slice(&data, &stream, stack)?;
            for _ in 0..repetitions {
                black_box(buffer.upload(&data)?);
            }
        }
        other => common::give_up(format!("an operation is one of {}, not `{other}`", OPERATIONS.join(", "))),
    }
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match &arguments[..] {
        [] => OPERATIONS.iter().try_for_each(|operation| run(operation, 1000)),
        [operation, repetitions] => match repetitions.parse() {
            Ok(repetitions) => run(operation, repetitions),
            Err(error) => common::give_up(format!("`{repetitions}` is no number of repetitions: {error}")),
        },
        _ => common::give_up("usage: instructions [OPERATION REPETITIONS]"),
    };
    result.unwrap_or_else(|error| common::give_up(error));
}
