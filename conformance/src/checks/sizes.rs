use crate::broken::Outcome;
use crate::subject::{Subject, bytes};
use cumem::{MemoryResource, layout};

/// Zero bytes give a block without memory, which is given back like any other; two at once too.
pub(super) fn zero_bytes<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let stream = &subject.stream;
    let first = subject.get(stream, bytes(0))?;
    let second = subject.get(stream, bytes(0))?;
    subject.put(stream, first)?;
    subject.put(stream, second)?;
    for align in [1, 2, 16, 128] {
        subject.round_trip(stream, layout::aligned(0, align).expect("a valid layout"))?;
    }
    // What zero bytes did must not disturb what has some.
    subject.round_trip(stream, bytes(1024))
}

/// 4 bytes, 1 KiB and 1 MiB are given; the largest that may be hoped for too, or it is out of memory.
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

/// Sizes around powers of two, where rounding goes wrong.
pub(super) fn odd_sizes<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    for shift in [0, 3, 8, 9, 12, 16, 21] {
        for size in [(1_usize << shift) - 1, 1 << shift, (1 << shift) + 1] {
            subject.round_trip(&subject.stream, bytes(size.min(subject.expectations.largest)))?;
        }
    }
    Ok(())
}
