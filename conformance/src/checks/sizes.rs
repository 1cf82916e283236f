use crate::broken::Outcome;
use crate::subject::{Subject, bytes};
use cumem::{MemoryResource, layout};

/// A request for zero bytes gives a block without memory, which is freed like any other.
/// Two of them may be live at once.
pub(super) fn zero_bytes<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let stream = &subject.stream;
    let first = subject.get(stream, bytes(0))?;
    let second = subject.get(stream, bytes(0))?;
    subject.put(stream, first)?;
    subject.put(stream, second)?;
    for align in [1, 2, 16, 128] {
        subject.round_trip(stream, layout::aligned(0, align).expect("a valid layout"))?;
    }
    // Blocks of zero bytes must not disturb blocks with bytes.
    subject.round_trip(stream, bytes(1024))
}

/// 4 bytes, 1 KiB and 1 MiB succeed. The largest expected size succeeds or is out of memory.
pub(super) fn usual_sizes<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    for size in [4, 1 << 10, 1 << 20] {
        subject.round_trip(&subject.stream, bytes(size.min(subject.expectations.largest)))?;
    }
    if let Some(block) = subject.try_get(&subject.stream, bytes(subject.expectations.largest))? {
        subject.touch(&subject.stream, &block)?;
        subject.put(&subject.stream, block)?;
    }
    Ok(())
}

/// Sizes around powers of two, where wrong rounding shows.
pub(super) fn odd_sizes<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    for shift in [0, 3, 8, 9, 12, 16, 21] {
        for size in [(1_usize << shift) - 1, 1 << shift, (1 << shift) + 1] {
            subject.round_trip(&subject.stream, bytes(size.min(subject.expectations.largest)))?;
        }
    }
    Ok(())
}
