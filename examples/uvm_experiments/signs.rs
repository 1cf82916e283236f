//! Experiments 18 to 21: the sign of a difference, or the order of results.

use crate::rig::{MIB, Outcome, Rig};
use crate::table::{Basis, Experiment, Row};
use cumem::kernel::AccessMode;
use cumem::resources::CudaAsyncOptions;
use cumem::sim::Profile;
use cumem::unified::Advice;
use cumem::{Buffer, CudaAsyncResource, Location};

const BYTES: usize = 64 * MIB;

pub(crate) fn rows() -> Outcome<Vec<Row>> {
    Ok([prefetch()?, integrated()?, hinted()?, pools()?].into_iter().flat_map(Experiment::rows).collect())
}

fn signs(number: u8, source: &'static str) -> Experiment {
    Experiment::new(number, Basis::Qualitative, 0.0, source)
}

/// Virtual microseconds of a pass of the device over data that the host wrote, and of reading it back.
fn unified(profile: Profile, hints: &[Advice], prefetched: bool, back: bool) -> Outcome<f64> {
    let rig = Rig::new(profile)?;
    let buffer = rig.unified(BYTES)?;
    rig.host(&buffer, 0..BYTES, AccessMode::Write)?;
    for hint in hints {
        rig.advise(&buffer, *hint)?;
    }
    rig.rest();
    rig.micros(|| {
        if prefetched {
            rig.prefetch(&buffer, 0..BYTES, rig.here())?;
        }
        rig.device(&buffer, 0..BYTES, AccessMode::Write)?;
        match back {
            true => rig.host(&buffer, 0..BYTES, AccessMode::Read),
            false => Ok(()),
        }
    })
}

/// The same with copies and plain memory.
fn explicit(profile: Profile, back: bool) -> Outcome<f64> {
    let rig = Rig::new(profile)?;
    let plain = rig.plain(BYTES)?;
    let copies = rig.explicit(BYTES, back)?;
    let kernel = cumem::kernel::HostKernel::new("pass", |_| ()).writes(plain.device_address(), BYTES);
    Ok(copies + rig.micros(|| rig.run(kernel))?)
}

fn prefetch() -> Outcome<Experiment> {
    let mut experiment = signs(18, "kokkos/kokkos#2915; arXiv 1910.09598");
    for profile in [Profile::gtx1080ti(), Profile::a100(), Profile::h100_pcie5()] {
        let name = profile.name.clone();
        let on_demand = unified(profile.clone(), &[], false, false)?;
        let prefetched = unified(profile.clone(), &[], true, false)?;
        let copied = explicit(profile.clone(), false)?;
        let advised = unified(
            profile,
            &[Advice::SetPreferredLocation(Location::Host), Advice::UnsetPreferredLocation],
            false,
            false,
        )?;
        experiment = experiment
            .at_least(format!("{name}: on demand, times a prefetch"), 2.0, on_demand / prefetched)
            .between(format!("{name}: a prefetch, times a copy: close"), (0.9, 1.25), prefetched / copied)
            .between(format!("{name}: advice that asks for nothing, times none"), (0.95, 1.05), advised / on_demand);
    }
    Ok(experiment)
}

fn integrated() -> Outcome<Experiment> {
    let gain = |profile: Profile| {
        Ok::<_, Box<dyn std::error::Error>>(explicit(profile.clone(), true)? / unified(profile, &[], false, true)?)
    };
    Ok(signs(19, "kornia/kornia-rs#1034: GTX 1650 0.57 to 0.66, Orin Nano 1.38 to 1.72")
        .between("gtx1080ti: copies, times unified memory on demand: below 1", (0.0, 1.0), gain(Profile::gtx1080ti())?)
        .at_least("integrated: above 1", 1.0, gain(Profile::integrated())?))
}

fn hinted() -> Outcome<Experiment> {
    let profile = Profile::h100_pcie5();
    let ratio = unified(profile.clone(), &[], true, false)? / explicit(profile, false)?;
    Ok(signs(20, "cms-patatrack/pixeltrack-standalone#53: within 0 to 4 %; uvm_calibrate measured 8 % on the H100")
        .between("h100-pcie5: a prefetch and a pass, times a copy and a pass", (0.96, 1.04), ratio))
}

fn pools() -> Outcome<Experiment> {
    let time = |threshold: u64| -> Outcome<f64> {
        let rig = Rig::new(Profile::h100_pcie5())?;
        let options = CudaAsyncOptions::default().release_threshold(threshold);
        let pool = CudaAsyncResource::with_options(&rig.device, options)?;
        rig.micros(|| {
            for _ in 0..100 {
                drop(Buffer::<u8, _>::with_capacity(BYTES, &rig.stream, &pool)?);
                rig.stream.synchronize()?;
            }
            Ok(())
        })
    };
    Ok(signs(21, "rapidsai/rmm#2510: a stall at each synchronisation").at_least(
        "release threshold 0, times the largest",
        2.0,
        time(0)? / time(u64::MAX)?,
    ))
}
