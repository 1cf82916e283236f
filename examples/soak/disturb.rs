//! Changes options while the threads of a round work: limits, trims, scopes of statistics, reports.

use super::worker::{Done, Shared};
use cumem::unified::accounting::Ledger;
use cumem::{CudaResource, Layer, LayerExt, current};
use cumem_adaptors::{LimiterState, LoggingState, PoolState, ResourceExt, StatisticsState, TrackingState};
use cumem_conformance::Rng;
use std::thread;
use std::time::{Duration, Instant};

/// Works until the end of the round. Returns the errors, which the caller judges.
pub(crate) fn disturb(shared: &Shared<'_>, ledger: &Ledger, mut rng: Rng) {
    while Instant::now() < shared.until {
        thread::sleep(Duration::from_micros(200 + rng.below(3000) as u64));
        let stacks = [Some(shared.stack as &dyn Layer), shared.managed.map(|managed| managed as &dyn Layer)];
        for stack in stacks.into_iter().flatten() {
            if let Err(error) = change(shared, stack, ledger, &mut rng) {
                shared.judge("changing options", &*error);
            }
        }
    }
}

fn change(shared: &Shared<'_>, stack: &dyn Layer, ledger: &Ledger, rng: &mut Rng) -> Done {
    match rng.below(9) {
        0 => {
            let _quiet = shared.no_capture();
            let _freed = stack.trim_stack(rng.below(64) << 20)?;
        }
        1 => {
            let limits = stack.find_all::<LimiterState>();
            let limit = limits[rng.below(limits.len())];
            limit.set_bytes((32 + rng.below(224)) << 20);
        }
        2 => statistics(stack),
        3 => drop(stack.find::<TrackingState>().map(|tracking| (tracking.report(), tracking.profile()))),
        4 => stack.find::<LoggingState>().map_or(Ok(()), LoggingState::flush)?,
        5 => {
            for pool in stack.find_all::<PoolState>() {
                let _classes = pool.snapshot().classes();
                pool.reset_peaks();
            }
        }
        6 => {
            let _phase = ledger.phase("disturbed");
            let _report = ledger.report();
        }
        7 => {
            let _quiet = shared.no_capture();
            shared.device.trim_staging();
            let _other = current::scoped(shared.device, CudaResource::new(shared.device).statistics())?;
            shared.device.simulator().into_iter().for_each(|it| it.pass_time(Duration::from_micros(50)));
            thread::sleep(Duration::from_micros(300));
        }
        _ => {
            let _text = format!("{}", stack.layers_beneath().count());
            let _memory = shared.device.memory_info()?;
        }
    }
    Ok(())
}

/// Turns the profile of the statistics on for a while.
fn statistics(stack: &dyn Layer) {
    for counters in stack.find_all::<StatisticsState>() {
        let (scope, named) = (counters.scope(), counters.named_scope("disturbed"));
        thread::sleep(Duration::from_micros(100));
        drop(named);
        let (_counts, _profile) = (scope.end(), counters.profile());
        counters.clear_profile();
    }
}
