//! Captures: memory of a graph, and launches whose results are verified.

use super::held::same;
use super::worker::{Done, Worker};
use cumem::kernel::CaptureMode;
use cumem::{Buffer, LayerExt, Stream};
use cumem_adaptors::GraphPoolsState;
use cumem_adaptors::graph_pools::GraphPoolId;
use std::sync::PoisonError;

/// Captures a fill of scratch memory and a copy of it. Launches the graph twice, with other work between.
pub(crate) fn capture(worker: &mut Worker<'_, '_>) -> Done {
    let shared = worker.shared;
    let Some(state) = shared.stack.find::<GraphPoolsState>() else { return Ok(()) };
    let (len, value) = (1 + worker.rng.below(100_000), worker.rng.next_u64() as u32);
    let (stream, mut output) = {
        let _quiet = shared.no_capture();
        let stream = Stream::new(shared.device)?;
        let output = Buffer::<u32, _>::zeroed(len, &stream, shared.stack)?;
        stream.synchronize()?;
        (stream, output)
    };
    let graph = {
        let _alone = shared.captures.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the output is read only after a launch, and the scratch memory is the graph's.
        let capture = unsafe { state.capture(&stream, CaptureMode::Relaxed, GraphPoolId::unique()) }?;
        {
            // SAFETY: captured work fills the scratch memory before the copy.
            let mut scratch = unsafe { Buffer::<u32, _>::uninit(len, &stream, shared.stack) }?;
            scratch.fill(value)?;
            output.copy_from_buffer(&scratch)?;
        }
        capture.end()?
    };
    let _quiet = shared.no_capture();
    for _ in 0..2 {
        output.fill(!value)?;
        // SAFETY: the output and the graph outlive the launch, which the read below waits for.
        unsafe { graph.launch(&stream) }?;
        same(&output.to_vec()?, &vec![value; len])?;
        shared.figures.count_verified(len * 4);
    }
    Ok(())
}
