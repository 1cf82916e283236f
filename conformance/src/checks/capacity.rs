use crate::broken::{Broken, Outcome, Verdict, ensure};
use crate::live::{BlockId, LiveBlocks};
use crate::subject::{Subject, bytes};
use cumem::{AllocError, MemoryKind, MemoryResource, kind, layout};
use std::alloc::Layout;

/// A request for 1 PiB is out of memory, also when repeated, and changes nothing.
pub(super) fn more_than_there_is<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    refuses(subject, bytes(1 << 50), |error| error.is_out_of_memory())
}

/// Requests of the largest sizes that a layout can have are refused. With unchecked arithmetic they wrap around to a
/// small number.
pub(super) fn nearly_the_address_space<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let largest = isize::MAX as usize;
    for (size, align) in [(largest, 1), (largest - 1, 2), (largest - 255, 256), (largest & !0xfff, 256)] {
        let layout =
            layout::aligned(size, align).map_err(|error| Broken::new("the request is not valid").because(error))?;
        // Rounding up may leave no valid layout; that error is accepted too.
        let fits = |error: &AllocError| error.is_out_of_memory() || matches!(error, AllocError::InvalidLayout { .. });
        refuses(subject, layout, fits)?;
    }
    Ok(())
}

/// Allocates large blocks until memory runs out, at most 100. Then frees one; its size must be available again.
///
/// Runs only if the memory is a simulated device's. A GPU is shared with other programs, and host memory belongs to the
/// whole process.
pub(super) fn until_there_is_no_more<R: MemoryResource>(subject: &Subject<'_, R>) -> Result<Verdict, Broken> {
    if !subject.device.is_simulated() {
        return Ok(Verdict::Skipped("a GPU's memory is shared"));
    }
    if R::Kind::NAME == kind::Host::NAME {
        return Ok(Verdict::Skipped("the memory is this process's own"));
    }
    let (stream, large) = (&subject.stream, bytes(subject.expectations.largest));
    let mut blocks = Vec::new();
    let mut live = LiveBlocks::new();
    while let Some(block) = (blocks.len() < 100).then(|| subject.try_get(stream, large)).transpose()?.flatten() {
        live.enter(BlockId::of(&block))?;
        blocks.push(block);
    }
    if let Some(block) = blocks.pop() {
        subject.put(stream, block)?;
        let again = subject.get(stream, large).map_err(|broken| broken.at("right after as much was freed"))?;
        blocks.push(again);
    }
    blocks.into_iter().try_for_each(|block| subject.put(stream, block))?;
    subject.round_trip(stream, bytes(1000)).map(Verdict::from)
}

fn refuses<R: MemoryResource>(subject: &Subject<'_, R>, layout: Layout, fits: impl Fn(&AllocError) -> bool) -> Outcome {
    let (stream, size) = (&subject.stream, layout.size());
    let kept = subject.get(stream, bytes(1000))?;
    let free = subject.device.memory_info()?.free;
    for attempt in 1..=3 {
        match subject.resource.allocate(stream, layout) {
            Ok(block) => {
                subject.put(stream, block)?;
                ensure!(!subject.expectations.runs_out, "{size} bytes were given");
            }
            Err(error) => {
                ensure!(fits(&error), "attempt {attempt} at {size} bytes is no out-of-memory: {}", error.report())
            }
        }
        if subject.device.is_simulated() {
            // No other program uses a simulated device, so its free memory is comparable.
            let now = subject.device.memory_info()?.free;
            ensure!(now >= free, "the refusal of {size} bytes cost {} bytes of the device", free - now);
        }
    }
    subject.round_trip(stream, bytes(1000))?;
    subject.put(stream, kept)
}
