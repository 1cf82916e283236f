use crate::broken::{Broken, Outcome, Verdict, ensure};
use crate::live::BlockId;
use crate::subject::{Subject, bytes, get, put};
use cumem::error::{DeallocReason, ErrorReport};
use cumem::resource::MakerId;
use cumem::sim::Profile;
use cumem::{AllocError, Block, Device, DeviceError, MemoryResource, Stream};
use std::ptr::NonNull;

/// A block of another instance is refused and returned, and the instance that made it still accepts it.
pub(super) fn foreign_block<R: MemoryResource>(subject: &Subject<'_, R>) -> Result<Verdict, Broken> {
    if !subject.expectations.refuses_foreign {
        return Ok(Verdict::Skipped("its instances share their state"));
    }
    let (stream, other) = (&subject.stream, subject.another()?);
    for size in [0, 1000] {
        // While one of its blocks is live, a resource cannot recognize the foreign block by its counters alone.
        let own = subject.get(stream, bytes(4096))?;
        let foreign = get(&other, stream, bytes(size))?;
        let foreign = refused_as_foreign(&subject.resource, stream, foreign)?;
        put(&other, stream, foreign)?;
        subject.put(stream, own)?;
    }
    subject.round_trip(stream, bytes(1000)).map(Verdict::from)
}

/// A block that no resource made is refused, whatever its tag is.
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
    // Leaves free memory in a suballocator, which must check the stream before it reuses that memory.
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
        ensure!(found.is_some(), "a stream of another device is refused with another reason: {}", error.report());
    }
    subject.round_trip(&subject.stream, bytes(1000))
}

/// A block cannot be freed on a stream of another device. The block is returned, and its maker still accepts it.
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
        let typed = matches!(error.reason, DeallocReason::Device(DeviceError::WrongDevice { .. }));
        ensure!(typed, "a stream of another device is refused with another reason: {}", ErrorReport::of(&error.reason));
        let back = BlockId::of(&error.block);
        ensure!(back == id, "refused {id}, and returned {back}");
        subject.put(&subject.stream, error.block)?;
    }
    Ok(())
}

/// Passes `block` to a resource that did not make it, which must return it unchanged.
fn refused_as_foreign<R: MemoryResource>(resource: &R, stream: &Stream, block: Block) -> Result<Block, Broken> {
    let id = BlockId::of(&block);
    // SAFETY: no work uses the block, and nothing refers to its memory.
    let error = match unsafe { resource.deallocate(stream, block) } {
        Ok(()) => return Err(Broken::new(format!("takes a block that it did not make: {id}"))),
        Err(error) => error,
    };
    let typed = matches!(error.reason, DeallocReason::Foreign { .. } | DeallocReason::NotOutstanding { .. });
    ensure!(typed, "a foreign block is refused with another reason: {}", ErrorReport::of(&error.reason));
    let back = BlockId::of(&error.block);
    ensure!(back == id, "refused {id}, and returned {back}");
    Ok(error.block)
}

/// Creates a device that no other object of the check uses, and two of its streams.
fn elsewhere() -> Result<(Device, [Stream; 2]), Broken> {
    let device = Device::simulated(Profile::default())?;
    let streams = [Stream::new(&device)?, Stream::legacy_default(&device)];
    Ok((device, streams))
}

/// Returns the reason of an error, if it is that a stream belongs to another device.
fn wrong_device(error: &AllocError) -> Option<&DeviceError> {
    match error {
        AllocError::Device(reason @ DeviceError::WrongDevice { .. }) => Some(reason),
        AllocError::PrefetchFailed { source: reason @ DeviceError::WrongDevice { .. }, .. } => Some(reason),
        AllocError::NotPrepared { source, .. } => {
            Some(&**source).filter(|reason| matches!(reason, DeviceError::WrongDevice { .. }))
        }
        _ => None,
    }
}
