//! Experiments 8 to 13: virtual time against hardware.

use crate::rig::{BLOCK, KIB, MIB, Outcome, PAGE, Rig, touching, walk};
use crate::table::{Basis, Experiment, Row};
use cumem::kernel::{AccessMode, HostKernel, Pattern};
use cumem::sim::{FaultPrefetch, Figure, Profile};

const LISTINGS: &str = "nvprof listings of UVMSmart, GTX 1080 Ti";
const FIGURES: &str = "SC21 artifact tallendev/uvm-eval, Titan V, read off figures";
/// Faults that a kernel has outstanding: the batches of a matrix product without a prefetcher held 50 to 110.
const IN_FLIGHT: usize = 80;

pub(crate) fn rows() -> Outcome<Vec<Row>> {
    let experiments = [service()?, sequential()?, regular()?, sgemm()?, batches()?, evictions()?];
    Ok(experiments.into_iter().flat_map(Experiment::rows).collect())
}

fn titanv(prefetch: FaultPrefetch) -> Profile {
    let mut profile = Profile::titanv();
    profile.fault_prefetch = prefetch;
    profile
}

fn service() -> Outcome<Experiment> {
    let rig = Rig::new(Profile::gtx1080ti())?;
    let buffer = rig.unified(BLOCK)?;
    rig.host(&buffer, 0..BLOCK, AccessMode::Write)?;
    let touch = |at: usize| rig.micros(|| rig.device(&buffer, at..at + 1, AccessMode::Read));
    touch(0)?;
    let hit = touch(0)?;
    let mut experiment = Experiment::new(8, Basis::Calibrated, 15.0, LISTINGS);
    for (at, kib, expected) in
        [(64, 64, 24.5), (128, 128, 39.8), (256, 256, 52.7), (512, 512, 84.5), (1024, 1024, 157.2)]
    {
        let what = format!("us to serve a warm fault that moves {kib} KiB");
        experiment = experiment.row(what, expected, touch(at * KIB)? - hit);
    }
    Ok(experiment)
}

fn sequential() -> Outcome<Experiment> {
    let rig = Rig::new(Profile::gtx1080ti())?;
    let buffer = rig.unified(BLOCK)?;
    rig.host(&buffer, 0..BLOCK, AccessMode::Write)?;
    let micros = rig.micros(|| rig.device(&buffer, 0..BLOCK, AccessMode::Read))?;
    let share = BLOCK as f64 / micros / 1e3 / 11.2 * 100.0;
    Ok(Experiment::new(9, Basis::Calibrated, 15.0, LISTINGS)
        .row("us for 2 MiB on demand, one thread", 410.0, micros)
        .row("percent of the card's memcpy", 45.0, share))
}

fn regular() -> Outcome<Experiment> {
    let mut experiment = Experiment::new(10, Basis::Blind, 25.0, FIGURES);
    for (name, prefetch) in [("off", FaultPrefetch::Off), ("on", FaultPrefetch::Density)] {
        let on_demand = |bytes: usize| -> Outcome<f64> {
            let rig = Rig::new(titanv(prefetch))?;
            let buffer = rig.unified(bytes)?;
            rig.host(&buffer, 0..bytes, AccessMode::Write)?;
            rig.micros(|| rig.run(walk(&buffer, Pattern::Sequential, IN_FLIGHT)))
        };
        let direct = |bytes: usize| bytes as f64 / 12.8e3;
        let ratio = |bytes: usize| Ok::<_, Box<dyn std::error::Error>>(on_demand(bytes)? / direct(bytes));
        let what = |what: &str| format!("{what}, driver's prefetcher {name} (not stated which)");
        experiment = experiment
            .row(what("us for 256 KiB on demand"), 650.0, on_demand(256 * KIB)?)
            .row(what("us for 1 MiB"), 1200.0, on_demand(MIB)?)
            .between(what("4 MiB, times a direct copy"), (7.5, 8.0), ratio(4 * MIB)?)
            .between(what("64 MiB"), (8.6, 11.0), ratio(64 * MIB)?)
            .between(what("4 GiB"), (13.0, 14.0), ratio(4096 * MIB)?);
    }
    Ok(experiment)
}

/// A matrix of `n` rows, tile by tile: the first page of each row, then the second, ... Products of matrices go over
/// their operands like this; that is assumed.
fn tiles(n: usize) -> Pattern {
    let row = n * 4;
    Pattern::List((0..row).step_by(PAGE).flat_map(|column| (0..n).map(move |i| i * row + column)).collect())
}

/// Virtual microseconds of a product of two matrices of `n` rows, each operand touched once, from the host's memory.
fn product(profile: Profile, n: usize) -> Outcome<f64> {
    let rig = Rig::new(profile)?;
    let bytes = n * n * 4;
    let all = rig.unified(3 * bytes)?;
    rig.host(&all, 0..3 * bytes, AccessMode::Write)?;
    let mut kernel = HostKernel::new("sgemm", |_| ()).in_flight(IN_FLIGHT).operations(2 * (n as u64).pow(3));
    for (i, mode) in [AccessMode::Read, AccessMode::Read, AccessMode::Write].into_iter().enumerate() {
        kernel = touching(kernel, &all, i * bytes..(i + 1) * bytes, mode).in_order(tiles(n));
    }
    rig.micros(|| rig.run(kernel))
}

fn sgemm() -> Outcome<Experiment> {
    let mut experiment = Experiment::new(11, Basis::Blind, 25.0, FIGURES);
    for (n, expected) in [(4096, 1.7), (16_384, 3.3), (28_672, 3.1), (32_768, 2.7)] {
        let gain = product(titanv(FaultPrefetch::Off), n)? / product(titanv(FaultPrefetch::Density), n)?;
        experiment =
            experiment.row(format!("sgemm of {n} rows, times faster with the driver's prefetcher"), expected, gain);
    }
    Ok(experiment)
}

fn batches() -> Outcome<Experiment> {
    let count = |size: u32| -> Outcome<(f64, f64)> {
        let mut profile = titanv(FaultPrefetch::Off);
        profile.fault_batch = Figure::from_source(f64::from(size), "experiment 12");
        let rig = Rig::new(profile)?;
        let buffer = rig.unified(256 * MIB)?;
        rig.host(&buffer, 0..256 * MIB, AccessMode::Write)?;
        let micros = rig.micros(|| rig.run(walk(&buffer, Pattern::Sequential, IN_FLIGHT)))?;
        Ok((rig.statistics().fault_batches as f64, micros))
    };
    let (most, _) = count(1024)?;
    let mut experiment = Experiment::new(12, Basis::Blind, 25.0, FIGURES);
    // In thousands; a batch there holds duplicates, of which the model knows nothing, so only the ratios compare.
    for (size, thousands) in [(32, 310.0), (64, 218.0), (128, 142.0), (256, 102.0), (512, 93.0)] {
        let what = format!("batches of up to {size} faults, times those of up to 1024");
        experiment = experiment.row(what, thousands / 93.0, count(size)?.0 / most);
    }
    let gain = count(256)?.1 / count(512)?.1;
    Ok(experiment.row("gain of 512 over 256 faults in a batch: none", 1.0, gain))
}

fn evictions() -> Outcome<Experiment> {
    let mut profile = titanv(FaultPrefetch::Density);
    profile.capacity = Figure::uncalibrated(4.0 * BLOCK as f64, "experiment 13");
    let rig = Rig::new(profile)?;
    let buffer = rig.unified(8 * BLOCK)?;
    rig.host(&buffer, 0..8 * BLOCK, AccessMode::Write)?;
    let touch =
        |block: usize| rig.micros(|| rig.device(&buffer, block * BLOCK..(block + 1) * BLOCK, AccessMode::Write));
    let free: f64 = (0..4).map(touch).collect::<Outcome<Vec<_>>>()?[3];
    let evicting = touch(4)?;
    Ok(Experiment::new(13, Basis::Calibrated, 15.0, FIGURES)
        .row("us that evicting a chunk adds", 190.0, evicting - free)
        .missing("us that unmapping from the host adds to a batch", (100.0, 150.0), "contained in the time of pages"))
}
