//! Operations on raw blocks: kernels write and verify them in stream order, without a wait of the host.

use super::worker::{Done, Worker};
use cumem::{Block, DeallocError, DeviceError, MemoryResource, Stream, layout};
use cumem_adaptors::AddressError;

const LARGEST: usize = 2 << 20;

/// Frees a block on a stream that is ordered after all uses.
fn free(worker: &Worker<'_, '_>, stream: &Stream, block: Block) -> Done {
    // SAFETY: the callers enqueue all uses on this stream, or make it wait for them.
    let freed = unsafe { worker.shared.stack.deallocate(stream, block) };
    freed.map_err(|error| lost(worker, error))
}

/// Tries once more to free a block that was refused, because a failed call must have left it as it was.
fn lost(worker: &Worker<'_, '_>, error: DeallocError) -> Box<dyn std::error::Error> {
    let DeallocError { block, reason, .. } = error;
    let stream = match Stream::new(worker.shared.device).and_then(|it| worker.shared.device.synchronize().map(|()| it))
    {
        Ok(stream) => stream,
        Err(error) => return error.into(),
    };
    // SAFETY: the device has finished all work.
    match unsafe { worker.shared.stack.deallocate(&stream, block) } {
        Ok(()) => reason.into(),
        Err(error) => error.reason.into(),
    }
}

/// Allocates on one stream, and verifies and frees on another.
pub(crate) fn across_streams(worker: &mut Worker<'_, '_>) -> Done {
    let (first, second) = (worker.stream(), worker.stream());
    let (bytes, serial) = (worker.rng.size(LARGEST), worker.rng.next_u64() >> 8 | 1);
    let block = worker.shared.stack.allocate(&first, layout::bytes(bytes)?)?;
    // SAFETY: the block was just allocated on this stream.
    let used = unsafe { worker.contents.write(&first, &block, serial) }.map_err(Box::from).and_then(|()| {
        second.wait_for(&first)?;
        // SAFETY: the second stream waits for the write.
        unsafe { worker.contents.verify(&second, &block, serial) }?;
        worker.shared.figures.count_verified(bytes.min(4 << 10));
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    // After a failed wait, the first stream still has all uses: the verification was not enqueued.
    let ordered = if second.id() == first.id() || used.is_ok() { Ok(second) } else { both(worker, &first, second) };
    free(worker, &ordered?, block)?;
    used
}

/// Returns a stream that comes after the work of both, after one of several calls has failed.
fn both(worker: &Worker<'_, '_>, first: &Stream, second: Stream) -> Result<Stream, Box<dyn std::error::Error>> {
    // The host waits instead. If that fails, too, the work is still done in the order of the first stream.
    let wait = || first.synchronize().and_then(|()| second.synchronize());
    wait().or_else(|_| wait()).or_else(|_| worker.shared.device.synchronize().map_err(DeviceError::from))?;
    Ok(second)
}

/// Many small blocks at once, freed in another order.
pub(crate) fn burst(worker: &mut Worker<'_, '_>) -> Done {
    let (stream, count) = (worker.stream(), 1 + worker.rng.below(100));
    let mut blocks = Vec::new();
    let mut refused = Ok(());
    for _ in 0..count {
        let align = 1 << worker.rng.below(12);
        let request = layout::aligned(worker.rng.size(4 << 10), align)?;
        match worker.shared.stack.allocate(&stream, request) {
            Ok(block) => blocks.push(block),
            Err(error) => refused = Err(error.into()),
        }
    }
    while !blocks.is_empty() {
        let block = blocks.swap_remove(worker.rng.below(blocks.len()));
        if let Err(error) = free(worker, &stream, block) {
            refused = Err(error);
        }
    }
    refused
}

/// A block that is known by its address, with a use on a second stream.
pub(crate) fn by_address(worker: &mut Worker<'_, '_>) -> Done {
    let (first, second) = (worker.stream(), worker.stream());
    let request = layout::bytes(worker.rng.size(LARGEST))?;
    let addresses = &worker.shared.addresses;
    let address = addresses.allocate_address(&first, request)?;
    let used = addresses.record_use(address, &second);
    let size = worker.rng.chance(50).then_some(request.size());
    // SAFETY: no work uses the block.
    match unsafe { addresses.deallocate_address(&first, address, size) } {
        Ok(()) => Ok(used?),
        // SAFETY: as above. A refused free leaves the block as it was.
        Err(AddressError::Refused { .. }) => Ok(unsafe { addresses.deallocate_address(&first, address, size) }?),
        Err(error) => Err(error.into()),
    }
}

/// More memory than the stack has, so that every step of the way to an error runs.
pub(crate) fn too_much(worker: &mut Worker<'_, '_>) -> Done {
    let (stream, bytes) = (worker.stream(), (64 + worker.rng.below(512)) << 20);
    let block = worker.shared.stack.allocate(&stream, layout::bytes(bytes)?)?;
    free(worker, &stream, block)
}
