use crate::broken::Outcome;
use crate::effort::scaled;
use crate::program::{Load, Program};
use crate::subject::Subject;
use cumem::{MemoryResource, Stream};

const THREADS: usize = 4;

fn load<R: MemoryResource>(subject: &Subject<'_, R>) -> Load {
    let max_size = subject.expectations.largest.min(1 << 20);
    Load::new(Program::new(subject.seed).operations(scaled(300)).max_live(25).max_size(max_size), THREADS)
}

/// Four threads at once, each with its own stream.
pub(super) fn own_streams<R: MemoryResource + Sync>(subject: &Subject<'_, R>) -> Outcome {
    let streams = subject.streams(THREADS)?;
    apart(subject, |thread| streams[thread].clone())
}

/// Four threads at once on one stream.
pub(super) fn one_shared_stream<R: MemoryResource + Sync>(subject: &Subject<'_, R>) -> Outcome {
    let stream = &subject.stream;
    apart(subject, |_| stream.clone())
}

/// Four threads at once on the legacy default stream.
pub(super) fn default_stream_of_all<R: MemoryResource + Sync>(subject: &Subject<'_, R>) -> Outcome {
    let device = &subject.device;
    apart(subject, |_| Stream::legacy_default(device))
}

/// Four threads at once, each on its per-thread default stream.
pub(super) fn own_default_streams<R: MemoryResource + Sync>(subject: &Subject<'_, R>) -> Outcome {
    let device = &subject.device;
    apart(subject, |_| Stream::per_thread_default(device))
}

/// Four threads on four streams. Every thread uses every stream and frees blocks that other threads allocated.
pub(super) fn threads_exchange_blocks<R: MemoryResource + Sync>(subject: &Subject<'_, R>) -> Outcome {
    load(subject).run(&subject.resource, &subject.streams(THREADS)?, &subject.contents).map(drop)
}

fn apart<R: MemoryResource + Sync>(subject: &Subject<'_, R>, stream: impl Fn(usize) -> Stream + Sync) -> Outcome {
    load(subject).run_apart(&subject.resource, stream, &subject.contents).map(drop)
}
