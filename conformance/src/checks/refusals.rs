use crate::broken::{Broken, Outcome, Verdict, ensure};
use crate::live::BlockId;
use crate::subject::{Subject, bytes, get, put};
use cumem::sim::Profile;
use cumem::{AllocError, Block, DeallocReason, Device, DriverError, MakerId, MemoryResource, Stream};
use std::ptr::NonNull;

/// A block of another instance is refused and returned, and its maker still takes it.
pub(super) fn foreign_block<R: MemoryResource>(subject: &Subject<'_, R>) -> Result<Verdict, Broken> {
    if !subject.expectations.refuses_foreign {
        return Ok(Verdict::Skipped("its instances share their state"));
    }
    let (stream, other) = (&subject.stream, subject.another()?);
    for size in [0, 1000] {
        // With something of its own out, a resource cannot tell by its counters.
        let own = subject.get(stream, bytes(4096))?;
        let foreign = get(&other, stream, bytes(size))?;
        let foreign = refused_as_foreign(&subject.resource, stream, foreign)?;
        put(&other, stream, foreign)?;
        subject.put(stream, own)?;
    }
    subject.round_trip(stream, bytes(1000)).map(Verdict::from)
}

/// A block that nobody made is refused, whatever its tag says.
pub(super) fn forged_block<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let stream = &subject.stream;
    let own = subject.get(stream, bytes(4096))?;
    for (maker, tag) in [(MakerId::unique(), 0), (MakerId::unique(), own.tag()), (MakerId::unique(), u64::MAX)] {
        let forged = Block::new(maker, NonNull::dangling(), bytes(1000), tag);
        let _ = refused_as_foreign(&subject.resource, stream, forged)?;
        let at_a_live_block = Block::new(maker, own.as_non_null(), own.layout(), tag);
        let _ = refused_as_foreign(&subject.resource, stream, at_a_live_block)?;
    }
    subject.touch(stream, &own)?;
    subject.put(stream, own)
}

/// A stream of another device is refused with both devices' names, and nothing is allocated.
pub(super) fn wrong_device_on_allocate<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let (device, streams) = elsewhere()?;
    // Free memory that a suballocator keeps must not slip through either.
    subject.round_trip(&subject.stream, bytes(1000))?;
    for stream in &streams {
        let error = match subject.resource.allocate(stream, bytes(1000)) {
            Ok(block) => {
                subject.put(&subject.stream, block)?;
                return Err(Broken::new(format!("allocates on a stream of {}", device.id())));
            }
            Err(error) => error,
        };
        let found = wrong_device(&error);
        ensure!(found.is_some(), "a stream of another device is refused with another reason: {error}");
    }
    subject.round_trip(&subject.stream, bytes(1000))
}

/// A block is not taken back on a stream of another device; it is returned, and still its maker's.
pub(super) fn wrong_device_on_deallocate<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let (device, streams) = elsewhere()?;
    for stream in &streams {
        let block = subject.get(&subject.stream, bytes(1000))?;
        let id = BlockId::of(&block);
        // SAFETY: no work uses the block, and nothing refers to its memory.
        let error = match unsafe { subject.resource.deallocate(stream, block) } {
            Ok(()) => return Err(Broken::new(format!("takes a block back on a stream of {}", device.id()))),
            Err(error) => error,
        };
        let typed = matches!(error.reason, DeallocReason::Driver(DriverError::WrongDevice { .. }));
        ensure!(typed, "a stream of another device is refused with another reason: {}", error.reason);
        let back = BlockId::of(&error.block);
        ensure!(back == id, "refused {id}, and returned {back}");
        subject.put(&subject.stream, error.block)?;
    }
    Ok(())
}

/// Gives `block` to a resource that did not make it, which must return it unchanged.
fn refused_as_foreign<R: MemoryResource>(resource: &R, stream: &Stream, block: Block) -> Result<Block, Broken> {
    let id = BlockId::of(&block);
    // SAFETY: no work uses the block, and nothing refers to its memory.
    let error = match unsafe { resource.deallocate(stream, block) } {
        Ok(()) => return Err(Broken::new(format!("takes a block that it did not make: {id}"))),
        Err(error) => error,
    };
    let typed = matches!(error.reason, DeallocReason::Foreign { .. } | DeallocReason::NotOutstanding { .. });
    ensure!(typed, "a foreign block is refused with another reason: {}", error.reason);
    let back = BlockId::of(&error.block);
    ensure!(back == id, "refused {id}, and returned {back}");
    Ok(error.block)
}

/// A device that no other object of the check belongs to, and streams of it.
fn elsewhere() -> Result<(Device, [Stream; 2]), Broken> {
    let device = Device::simulated(Profile::default())?;
    let streams = [Stream::new(&device)?, Stream::legacy_default(&device)];
    Ok((device, streams))
}

/// The reason under an error, if it is that a stream belongs elsewhere.
fn wrong_device(error: &AllocError) -> Option<&DriverError> {
    match error {
        AllocError::Driver(reason @ DriverError::WrongDevice { .. }) => Some(reason),
        AllocError::PrefetchFailed { source: reason @ DriverError::WrongDevice { .. }, .. } => Some(reason),
        _ => None,
    }
}
