//! Checks of an adaptor whose upstream keeps failing, or refuses a block: nothing is lost, nothing is counted, and the
//! next request succeeds. (Failures of single driver calls are a check of every resource.)

use crate::broken::{BoxError, Broken, Outcome, ensure};
use crate::checks::faults::SIZES;
use crate::contents::Contents;
use crate::effort::{scaled, seed};
use crate::fail_nth::Faults;
use crate::ledger::LedgerBook;
use crate::live::BlockId;
use crate::program::Program;
use crate::subject::{bytes, check, get, put};
use crate::upstream::{TestUpstream, test_upstream};
use cumem::error::ErrorReport;
use cumem::kind::Managed;
use cumem::{Block, Device, MemoryResource, Stream};

type Make<'a, R> = &'a dyn Fn(TestUpstream) -> Result<R, BoxError>;

/// A check and its name.
pub(crate) struct FaultCheck<R> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Device, Make<'_, R>) -> Outcome,
}

/// Returns the checks that only adaptors must pass.
pub(crate) fn fault_checks<R: MemoryResource<Kind = Managed>>() -> [FaultCheck<R>; 3] {
    [
        FaultCheck { name: "upstream_runs_dry", run: upstream_runs_dry },
        FaultCheck { name: "upstream_refuses_a_block", run: upstream_refuses_a_block },
        FaultCheck { name: "random_program_with_failures", run: random_program_with_failures },
    ]
}

/// All upstream allocations fail from the `n`-th on, until memory is available again.
fn upstream_runs_dry<R: MemoryResource<Kind = Managed>>(device: &Device, make: Make<'_, R>) -> Outcome {
    for n in 1..=8 {
        let run = with_upstream(device, |upstream, faults, stream| {
            let resource = make(upstream).map_err(|error| Broken::new("the resource was not made").because(error))?;
            faults.fail_allocations_from(n);
            let mut blocks = Vec::new();
            for size in SIZES {
                // Tried twice, because the first attempt may leave a changed state for the second.
                for _ in 0..2 {
                    match resource.allocate(stream, bytes(size)) {
                        Ok(block) => blocks.push(check(&block, bytes(size)).map(|()| block)?),
                        Err(error) => {
                            ensure!(error.is_out_of_memory(), "no longer an out-of-memory: {}", error.report())
                        }
                    }
                }
            }
            put_all(&resource, stream, blocks)?;
            faults.disarm();
            let again: Result<Vec<_>, _> = SIZES.iter().map(|&size| get(&resource, stream, bytes(size))).collect();
            put_all(&resource, stream, again.map_err(|broken| broken.at("with memory there again"))?)
        });
        run.map_err(|broken| broken.at(format_args!("all upstream allocations from {n} on failed")))?;
    }
    Ok(())
}

/// The upstream refuses a block once. The adaptor returns the block unchanged, or did not pass it to the upstream.
fn upstream_refuses_a_block<R: MemoryResource<Kind = Managed>>(device: &Device, make: Make<'_, R>) -> Outcome {
    with_upstream(device, |upstream, faults, stream| {
        let resource = make(upstream).map_err(|error| Broken::new("the resource was not made").because(error))?;
        let kept = get(&resource, stream, bytes(1000))?;
        for size in SIZES {
            let block = get(&resource, stream, bytes(size))?;
            let id = BlockId::of(&block);
            faults.fail_deallocation(1);
            // SAFETY: no work uses the block, and nothing refers to its memory.
            if let Err(error) = unsafe { resource.deallocate(stream, block) } {
                let back = BlockId::of(&error.block);
                ensure!(faults.fired() > 0, "refused {id} without a reason: {}", ErrorReport::of(&error.reason));
                ensure!(back == id, "refused {id}, and returned {back}");
                put(&resource, stream, error.block).map_err(|broken| broken.at("the second time"))?;
            }
            faults.disarm();
        }
        put(&resource, stream, kept)
    })
}

/// A random program runs to its end while one upstream allocation in seven fails.
fn random_program_with_failures<R: MemoryResource<Kind = Managed>>(device: &Device, make: Make<'_, R>) -> Outcome {
    with_upstream(device, |upstream, faults, stream| {
        let resource = make(upstream).map_err(|error| Broken::new("the resource was not made").because(error))?;
        faults.fail_one_allocation_in(7, seed());
        let streams = [stream.clone(), Stream::new(device)?];
        let program = Program::new(seed()).operations(scaled(1000));
        program.run(&resource, &streams, &Contents::through_host(), |_| ()).map(drop)
    })
}

/// Runs with a new upstream. Its ledger must balance after everything has been dropped.
fn with_upstream<T>(
    device: &Device,
    run: impl FnOnce(TestUpstream, &Faults, &Stream) -> Result<T, Broken>,
) -> Result<T, Broken> {
    let upstream = test_upstream(device).map_err(|error| Broken::new("the upstream was not made").because(error))?;
    let (book, faults): (LedgerBook, Faults) = (upstream.upstream().book(), upstream.faults());
    let answer = run(upstream, &faults, &Stream::new(device)?)?;
    book.settle().map_err(|unsettled| Broken::new("the adaptor used its upstream wrongly").because(unsettled))?;
    Ok(answer)
}

fn put_all<R: MemoryResource>(resource: &R, stream: &Stream, blocks: Vec<Block>) -> Outcome {
    blocks.into_iter().try_for_each(|block| put(resource, stream, block))
}
