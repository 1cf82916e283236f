use crate::broken::{Broken, Outcome, ensure};
use crate::subject::{Subject, bytes};
use cumem::{AllocError, MemoryResource, layout};
use std::alloc::Layout;

/// 1 PiB is out of memory, each time it is asked for, and changes nothing.
pub(super) fn more_than_there_is<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    refuses(subject, bytes(1 << 50), |error| error.is_out_of_memory())
}

/// The largest sizes that a layout can have: where unchecked arithmetic wraps around to a small number.
pub(super) fn nearly_the_address_space<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let largest = isize::MAX as usize;
    for (size, align) in [(largest, 1), (largest - 1, 2), (largest - 255, 256), (largest & !0xfff, 256)] {
        let layout = layout::aligned(size, align).map_err(|error| Broken::new(error.to_string()))?;
        // Rounding up may leave no valid layout, which is as good an answer.
        let fits = |error: &AllocError| error.is_out_of_memory() || matches!(error, AllocError::InvalidLayout { .. });
        refuses(subject, layout, fits)?;
    }
    Ok(())
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
            Err(error) => ensure!(fits(&error), "attempt {attempt} at {size} bytes is no out-of-memory: {error}"),
        }
        if subject.device.is_simulated() {
            // Nobody else is on a simulated device.
            let now = subject.device.memory_info()?.free;
            ensure!(now >= free, "the refusal of {size} bytes cost {} bytes of the device", free - now);
        }
    }
    subject.round_trip(stream, bytes(1000))?;
    subject.put(stream, kept)
}
