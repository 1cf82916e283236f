use crate::broken::{Broken, Outcome, ensure};
use crate::subject::{Subject, bytes, check};
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::{AllocError, MemoryResource, layout};

/// Every alignment up to 256 is given; every block is aligned to at least 256.
pub(super) fn alignments_up_to_256<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    for shift in 0..=CUDA_ALLOCATION_ALIGNMENT.ilog2() {
        for size in [1, 100, 4097] {
            let layout = layout::aligned(size, 1 << shift).expect("a valid layout");
            subject.round_trip(&subject.stream, layout)?;
        }
    }
    Ok(())
}

/// Larger alignments are given, or refused with the largest alignment that the resource supports.
pub(super) fn larger_alignments<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let promised = subject.expectations.max_alignment;
    for shift in CUDA_ALLOCATION_ALIGNMENT.ilog2() + 1..=21 {
        let asked = layout::aligned(1000, 1 << shift).expect("a valid layout");
        match subject.resource.allocate(&subject.stream, asked) {
            Ok(block) => {
                check(&block, asked)?;
                subject.touch(&subject.stream, &block)?;
                subject.put(&subject.stream, block)?;
            }
            Err(AllocError::UnsupportedAlignment { alignment, maximum, .. }) => {
                ensure!(asked.align() > promised, "alignment {} is refused, {promised} was promised", asked.align());
                ensure!(alignment == asked.align(), "was asked for alignment {}, refused {alignment}", asked.align());
                ensure!(maximum < alignment, "refused alignment {alignment}, though it gives {maximum}");
            }
            Err(error) => {
                return Err(
                    Broken::new(format!("alignment {} is refused for another reason", asked.align())).because(error)
                );
            }
        }
    }
    subject.round_trip(&subject.stream, bytes(1000))
}
