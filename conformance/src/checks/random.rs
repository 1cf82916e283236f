use crate::broken::Outcome;
use crate::effort::scaled;
use crate::program::Program;
use crate::subject::Subject;
use cumem::MemoryResource;

/// 200 steps that allocate or free up to 5 MiB on one stream (RMM's G-A5).
pub(super) fn mixed_random<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let program =
        Program::new(subject.seed).operations(scaled(200)).max_size(subject.expectations.largest.min(5 << 20));
    let stream = [subject.stream.clone()];
    program.run(&subject.resource, &stream, &subject.contents, |_| ()).map(drop)
}

/// A longer program on four streams, with blocks that are freed on other streams and alignments that may be refused.
pub(super) fn random_program<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let program = Program::new(subject.seed)
        .operations(scaled(2_000))
        .max_size(subject.expectations.largest.min(1 << 20))
        .max_align(subject.expectations.max_alignment.max(4096));
    program.run(&subject.resource, &subject.streams(4)?, &subject.contents, |_| ()).map(drop)
}
