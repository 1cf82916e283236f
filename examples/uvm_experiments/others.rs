//! Experiments 14 to 16: another simulator's output (GPGPU-Sim UVMSmart, 1 GB card). The order should be the same, and
//! figures within 30 %; nothing is tuned to them.

use crate::rig::{BLOCK, Outcome, PAGE, Rig};
use crate::table::{Basis, Experiment, Row};
use cumem::kernel::{AccessMode, HostKernel, Pattern};
use cumem::sim::{FaultPrefetch, Figure, Profile};

const LOGS: &str = "logs of GPGPU-Sim UVMSmart";

pub(crate) fn rows() -> Outcome<Vec<Row>> {
    Ok([ablation()?, four_kib(), cliff()?].into_iter().flat_map(Experiment::rows).collect())
}

/// Their link (`BW(S) = (2a/pi) atan(0.07292 S)` with a = 12 GB/s, which is 1.4 us and 13 GB/s for a copy), and faults
/// whose service is hidden behind those of other warps.
fn theirs(prefetch: FaultPrefetch, capacity: usize) -> Profile {
    let figure = |value| Figure::scaled(value, "GPGPU-Sim UVMSmart");
    let mut profile = Profile::gtx1080ti();
    profile.fault_prefetch = prefetch;
    profile.capacity = figure(capacity as f64);
    (profile.link_to_device, profile.link_to_host) = (figure(13e9), figure(13e9));
    profile.fault_copy = figure(1400.0);
    for hidden in [
        &mut profile.device_fault,
        &mut profile.fault_page,
        &mut profile.fault_new_block,
        &mut profile.fault_further_block,
        &mut profile.eviction,
    ] {
        *hidden = figure(0.0);
    }
    profile
}

/// One of their programs, and their figures of it.
struct Program {
    name: &'static str,
    /// As its transfers without prefetching say.
    pages: usize,
    /// Assumed.
    order: Pattern,
    /// Microseconds without prefetching, with 64 KiB, with the tree.
    times: [f64; 3],
    /// Transfers with 64 KiB, with the tree.
    transfers: [f64; 2],
}

fn programs() -> [Program; 4] {
    let program = |name, pages, order, times, transfers| Program { name, pages, order, times, transfers };
    let random = Pattern::Random { seed: 1, touches: 30_000 };
    [
        program("backprop", 6785, Pattern::Sequential, [12_023.0, 3168.0, 2821.0], [881.0, 193.0]),
        program("bfs, at random", 2502, random, [4847.0, 1629.0, 1460.0], [317.0, 133.0]),
        program("fdtd", 4224, Pattern::Sequential, [8077.0, 2581.0, 2274.0], [542.0, 113.0]),
        program("hotspot", 3072, Pattern::Sequential, [5986.0, 1980.0, 1778.0], [384.0, 72.0]),
    ]
}

/// Virtual microseconds and transfers of one pass over pages that are on the host.
fn pass(prefetch: FaultPrefetch, pages: usize, pattern: &Pattern) -> Outcome<(f64, f64)> {
    let rig = Rig::new(theirs(prefetch, 512 * BLOCK))?;
    let buffer = rig.unified(pages * PAGE)?;
    rig.host(&buffer, 0..pages * PAGE, AccessMode::Write)?;
    let before = rig.statistics().migrations;
    let kernel = HostKernel::new("pass", |_| ()).reads(buffer.device_address(), pages * PAGE);
    let micros = rig.micros(|| rig.run(kernel.in_order(pattern.clone())))?;
    Ok((micros, (rig.statistics().migrations - before) as f64))
}

fn ablation() -> Outcome<Experiment> {
    let mut experiment = Experiment::new(14, Basis::Blind, 30.0, LOGS);
    for Program { name, pages, order, times, transfers } in programs() {
        let kinds =
            [("4 KiB", FaultPrefetch::Off), ("64 KiB", FaultPrefetch::BigPage), ("tree", FaultPrefetch::Density)];
        for (i, (kind, prefetch)) in kinds.into_iter().enumerate() {
            let (micros, copies) = pass(prefetch, pages, &order)?;
            experiment = experiment.row(format!("{name}, {kind}: us"), times[i], micros);
            if i > 0 {
                experiment = experiment.row(format!("{name}, {kind}: transfers"), transfers[i - 1], copies);
            }
        }
    }
    Ok(experiment)
}

fn four_kib() -> Experiment {
    let why = "no driver evicts single pages";
    Experiment::new(15, Basis::Blind, 30.0, LOGS)
        .missing("4 KiB eviction, bfs at 110 %, times its time in memory", (7.4, 7.4), why)
        .missing("bfs at 125 %", (12.7, 12.7), why)
        .missing("fdtd at 110 %", (5.4, 5.4), why)
        .missing("backprop at 110 %", (1.1, 1.1), why)
        .missing("backprop at 125 %", (1.4, 1.4), why)
}

/// Times the time in memory of so many passes over `pages` pages, on a device of which they are `percent`; and MB
/// written back.
fn oversubscribed(pages: usize, passes: usize, percent: usize) -> Outcome<(f64, f64)> {
    let run = |capacity: usize| -> Outcome<(f64, f64)> {
        let rig = Rig::new(theirs(FaultPrefetch::Density, capacity))?;
        let buffer = rig.unified(pages * PAGE)?;
        rig.host(&buffer, 0..pages * PAGE, AccessMode::Write)?;
        let mut micros = 0.0;
        for _ in 0..passes {
            micros += rig.micros(|| rig.device(&buffer, 0..pages * PAGE, AccessMode::Write))?;
        }
        Ok((micros, rig.statistics().evicted as f64 / 1e6))
    };
    let (small, evicted) = run((pages * PAGE * 100 / percent).next_multiple_of(BLOCK))?;
    Ok((small / run(512 * BLOCK)?.0, evicted))
}

fn cliff() -> Outcome<Experiment> {
    let why = "the logs do not record how often, and in which order, the program reads its data";
    let mut experiment = Experiment::new(16, Basis::Blind, 30.0, LOGS);
    for (percent, ratio, written) in [(110, 4.7, 56.0), (125, 5.6, 76.0)] {
        let (streaming, _) = oversubscribed(6785, 1, percent)?;
        // Its 18 MB are written back about three times, so it goes over them about four times.
        let (repeated, evicted) = oversubscribed(4394, 4, percent)?;
        experiment = experiment
            .row(format!("2 MiB eviction, backprop at {percent} %, times its time in memory"), 1.0, streaming)
            .row(format!("fdtd at {percent} %, 4 passes assumed"), ratio, repeated)
            .row(format!("MB that fdtd writes back at {percent} %, 4 passes assumed"), written, evicted);
    }
    Ok(experiment
        .missing("bfs at 110 %", (3.4, 3.4), why)
        .missing("bfs at 125 %", (4.0, 4.0), why)
        .missing("hotspot at 110 %", (2.0, 2.0), why)
        .missing("hotspot at 125 %", (2.9, 2.9), why))
}
