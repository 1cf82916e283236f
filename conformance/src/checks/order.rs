use crate::broken::{Broken, Outcome, ensure};
use crate::kernels::BusyWork;
use crate::rng::Rng;
use crate::subject::{Subject, bytes};
use cumem::{Block, Event, MemoryResource, Stream};
use std::sync::mpsc;
use std::thread;

/// The legacy default stream and the per-thread default stream work like any other stream.
pub(super) fn default_streams<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    for stream in [Stream::legacy_default(&subject.device), Stream::per_thread_default(&subject.device)] {
        for size in [0, 1, 1 << 10, 1 << 20] {
            subject.round_trip(&stream, bytes(size))?;
        }
    }
    Ok(())
}

/// Handles of the legacy default stream are created and dropped, while the stream itself stays.
/// Memory that the resource bound to a dropped handle must not be lost.
pub(super) fn passing_handles<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let (mut rng, largest) = (Rng::new(subject.seed), subject.expectations.largest.min(3 << 20));
    let mut blocks = Vec::new();
    for _ in 0..40 {
        let passing = Stream::legacy_default(&subject.device);
        blocks.push(subject.get(&passing, bytes(1 + rng.below(largest)))?);
        if rng.chance(30) {
            subject.put(&passing, blocks.swap_remove(rng.below(blocks.len())))?;
        }
    }
    blocks.into_iter().try_for_each(|block| subject.put(&Stream::legacy_default(&subject.device), block))
}

/// A block may be freed on a stream that waited for the stream of its allocation.
pub(super) fn freed_on_another_stream<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let [first, second] = <[Stream; 2]>::try_from(subject.streams(2)?).expect("two streams");
    for size in [256, 1 << 20] {
        let block = subject.get(&first, bytes(size))?;
        subject.touch(&first, &block)?;
        second.wait_for(&first)?;
        subject.put(&second, block)?;
        subject.round_trip(&first, bytes(size))?;
        subject.round_trip(&second, bytes(size))?;
    }
    Ok(())
}

/// Memory that is reused on another stream must not be used there before its last use has ended.
///
/// The check uses events. The first stream is busy when the block is freed on it. If the same bytes are then allocated
/// on a second stream, the work before the free must be done once the second stream is idle.
pub(super) fn reuse_waits_for_the_last_use<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let [first, second] = <[Stream; 2]>::try_from(subject.streams(2)?).expect("two streams");
    let (busy, last_use) = (BusyWork::new(&subject.device)?, Event::new(&subject.device)?);
    for size in [256, 64 << 10, 4 << 20] {
        let block = subject.get(&first, bytes(size))?;
        let freed = block.addr()..block.addr() + size as u64;
        busy.enqueue(&first)?;
        last_use.record(&first)?;
        subject.put(&first, block)?;
        let next = subject.get(&second, bytes(size))?;
        second.synchronize()?;
        let reused = next.addr() < freed.end && freed.start < next.addr() + size as u64;
        ensure!(
            !reused || last_use.is_done()?,
            "{size} bytes at {:#x} are allocated on a stream that did not wait for their last use on another",
            next.addr()
        );
        subject.put(&second, next)?;
        first.synchronize()?;
    }
    Ok(())
}

/// One thread allocates and records an event; another thread waits for the event and frees (RMM's G-M12 to M15).
pub(super) fn producer_and_consumer<R: MemoryResource + Sync>(subject: &Subject<'_, R>) -> Outcome {
    let legacy = Stream::legacy_default(&subject.device);
    let streams = subject.streams(2)?;
    let pairs = [(&legacy, &legacy), (&streams[0], &streams[0]), (&streams[0], &streams[1])];
    for (from, to) in pairs {
        hand_over(subject, from, to).map_err(|broken| broken.at(format_args!("from {from:?} to {to:?}")))?;
    }
    Ok(())
}

fn hand_over<R: MemoryResource + Sync>(subject: &Subject<'_, R>, from: &Stream, to: &Stream) -> Outcome {
    let (resource, contents) = (&subject.resource, &subject.contents);
    let (sender, receiver) = mpsc::channel::<(Block, Event)>();
    let mut rng = Rng::new(subject.seed);
    let made = Vec::from_iter((0..100).map(|_| 1 + rng.below(1 << 20)));
    thread::scope(|scope| {
        let consumer = scope.spawn(move || -> Outcome {
            for (serial, (block, ready)) in (1..).zip(receiver) {
                to.wait(&ready)?;
                // SAFETY: the contents are of the resource's kind; `to` waits for the event recorded after the write,
                // and this thread owns the block.
                unsafe { contents.verify(to, &block, serial) }?;
                // SAFETY: every use of the block came before the event that `to` waits for, or was enqueued on `to`.
                unsafe { resource.deallocate(to, block) }?;
            }
            Ok(())
        });
        let produced = (1..).zip(made).try_for_each(|(serial, size)| -> Outcome {
            let block = crate::subject::get(resource, from, bytes(size))?;
            // SAFETY: the contents are of the resource's kind; the block was just allocated on this stream.
            unsafe { contents.write(from, &block, serial) }?;
            let ready = Event::new(&subject.device)?;
            ready.record(from)?;
            sender.send((block, ready)).map_err(|_| Broken::new("the consumer ended early"))
        });
        drop(sender);
        let consumed = consumer.join().map_err(|_| Broken::new("the consumer panicked"))?;
        consumed.and(produced)
    })?;
    to.synchronize()?;
    contents.settle()
}
