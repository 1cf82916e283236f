//! Other operations: threads and streams that come and go, defaults, batches.

use super::held::{pattern, same};
use super::verdict::Judged;
use super::worker::{Done, Worker, Wrong};
use cumem::{Buffer, Stream, current};
use cumem_adaptors::{fit_batch, with_oom_recovery};
use std::error::Error;
use std::thread;

/// A thread that ends with memory of its default stream in the pool. Another thread frees its buffer.
pub(crate) fn short_thread(worker: &mut Worker<'_, '_>) -> Done {
    let (shared, len) = (worker.shared, worker.rng.size(1 << 18));
    let elements = pattern(worker.rng.next_u64() as u32, len);
    let work = || -> Result<_, Box<dyn Error>> {
        let stream = Stream::per_thread_default(shared.device);
        let buffer = Buffer::from_slice(&elements, &stream, shared.stack)?;
        same(&buffer.to_vec()?, &elements)?;
        Ok(buffer)
    };
    let judged = || work().map_err(|error| Judged::of(shared.expected, &*error));
    let made = thread::scope(|scope| scope.spawn(judged).join());
    drop(made.map_err(|_| Wrong("a thread panicked".into()))??);
    Ok(())
}

pub(crate) fn default_resource(worker: &mut Worker<'_, '_>) -> Done {
    let (stream, len) = (worker.stream(), worker.rng.size(1 << 16));
    let elements = pattern(worker.rng.next_u64() as u32, len);
    let default = current::get(worker.shared.device);
    let buffer = Buffer::from_slice(&elements, &stream, &default)?;
    same(&buffer.to_vec()?, &elements)
}

pub(crate) fn recover(worker: &mut Worker<'_, '_>) -> Done {
    let (stream, stack) = (worker.stream(), worker.shared.stack);
    let wanted = 1 + worker.rng.below(400);
    let work = |items: usize| Buffer::<u8, _>::zeroed(items << 20, &stream, stack).map(drop);
    with_oom_recovery(wanted, 1, work).map(drop).map_err(|failed| failed.error.into())
}

pub(crate) fn fit(worker: &mut Worker<'_, '_>) -> Done {
    let _fit = fit_batch(worker.shared.stack, 1 << 16, 0, 4096)?;
    Ok(())
}

/// The memory that was freed on the old stream must not be lost.
pub(crate) fn replace_stream(worker: &mut Worker<'_, '_>) -> Done {
    let at = worker.rng.below(2);
    worker.streams[at] = Stream::new(worker.shared.device)?;
    Ok(())
}

pub(crate) fn synchronize(worker: &mut Worker<'_, '_>) -> Done {
    worker.stream().synchronize()?;
    if worker.rng.chance(10) {
        // Everything that this thread verified on the device is done.
        worker.streams.iter().try_for_each(Stream::synchronize)?;
        worker.contents.settle()?;
    }
    Ok(())
}
