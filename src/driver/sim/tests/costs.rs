//! The costs of the default profile against what was measured on an H100 80GB HBM3 (PCIe 5, driver 580.159).
//!
//! These figures are the ones that the profile was fitted to: this is calibration, not prediction.

use super::{MIB, Rig};
use crate::driver::Driver;
use crate::location::Location;

const KIB: usize = 1 << 10;

/// By size: microseconds measured.
type Measured<const N: usize> = [(usize, f64); N];

const UP: Measured<5> = sizes([8.4, 10.3, 29.1, 313.8, 4_914.0]);
const DOWN: Measured<5> = sizes([7.7, 9.1, 27.3, 311.7, 4_898.0]);
const PREFETCH_UP: Measured<6> = sizes([17.5, 21.3, 49.8, 362.9, 5_471.0, 21_793.0]);
const PREFETCH_CALL: Measured<6> = sizes([12.6, 15.3, 20.8, 184.5, 3_739.0, 14_954.0]);
const PREFETCH_DOWN: Measured<6> = sizes([15.0, 20.9, 97.9, 1_114.0, 24_803.0, 99_658.0]);

const fn sizes<const N: usize>(micros: [f64; N]) -> Measured<N> {
    const SIZES: [usize; 6] = [4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, 1024 * MIB];
    let mut measured = [(0, 0.0); N];
    let mut i = 0;
    while i < N {
        measured[i] = (SIZES[i], micros[i]);
        i += 1;
    }
    measured
}

fn compare<const N: usize>(what: &str, tolerance: f64, measured: Measured<N>, simulate: impl Fn(&Rig, usize) -> u64) {
    for (bytes, expected) in measured {
        let simulated = simulate(&Rig::h100(), bytes) as f64 / 1e3;
        let error = simulated / expected - 1.0;
        println!(
            "{what:24} {bytes:>11} B  measured {expected:>9.1} us  simulated {simulated:>9.1} us  {:+.1} %",
            error * 100.0
        );
        assert!(error.abs() <= tolerance, "{what} of {bytes} bytes: {simulated} us instead of {expected} us");
    }
}

#[test]
fn copies_take_what_they_took() {
    compare("pinned to device", 0.2, UP, |rig, bytes| {
        let (device, host) = (rig.device(bytes), rig.pinned(bytes).as_ptr());
        rig.time(|| timed_copy(rig, device.as_ptr(), host, bytes))
    });
    compare("device to pinned", 0.2, DOWN, |rig, bytes| {
        let (device, host) = (rig.device(bytes), rig.pinned(bytes).as_mut_ptr());
        rig.time(|| timed_copy(rig, host, device.as_ptr(), bytes))
    });
}

fn timed_copy(rig: &Rig, dst: *mut u8, src: *const u8, bytes: usize) {
    rig.copy(dst, src, bytes, rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
}

/// The time of a prefetch to its end, and that of the call alone.
fn prefetch(rig: &Rig, bytes: usize, from_host: bool, to_host: bool) -> (u64, u64) {
    let memory = rig.managed(bytes).as_ptr();
    let here = Location::Device(rig.sim.device_id(0));
    // SAFETY: memory and stream are alive.
    let go = |to| unsafe { rig.sim.prefetch(0, memory, bytes, to, rig.stream) }.unwrap();
    go(if from_host { Location::Host } else { here });
    rig.sync(rig.stream).unwrap();
    let mut call = 0;
    let all = rig.time(|| {
        call = rig.time(|| go(if to_host { Location::Host } else { here }));
        rig.sync(rig.stream).unwrap();
    });
    (all, call)
}

#[test]
fn prefetches_take_what_they_took() {
    compare("prefetch to device", 0.2, PREFETCH_UP, |rig, bytes| prefetch(rig, bytes, true, false).0);
    compare("the call alone", 0.2, PREFETCH_CALL, |rig, bytes| prefetch(rig, bytes, true, false).1);
    compare("prefetch to host", 0.25, PREFETCH_DOWN, |rig, bytes| prefetch(rig, bytes, false, true).0);
}

#[test]
fn a_prefetch_of_what_is_there_is_cheap_but_not_free() {
    for (bytes, expected) in [(MIB, 4.0), (256 * MIB, 347.0), (1024 * MIB, 1_426.0)] {
        let simulated = prefetch(&Rig::h100(), bytes, false, false).1 as f64 / 1e3;
        assert!((simulated / expected - 1.0).abs() < 0.2, "{bytes}: {simulated} us instead of {expected} us");
    }
}

#[test]
fn faults_take_what_they_took() {
    let rig = Rig::h100();
    let bytes = 256 * MIB;
    let memory = rig.managed(bytes);
    rig.sim.host_access(0, memory.as_ptr(), bytes, true).unwrap();
    let up = rig.time(|| {
        let kernel = crate::kernel::HostKernel::new("touch", |_| ()).writes(memory.as_ptr() as u64, bytes);
        rig.launch(kernel, rig.stream).unwrap();
        rig.sync(rig.stream).unwrap();
    });
    let down = rig.time(|| rig.sim.host_access(0, memory.as_ptr(), bytes, false).unwrap());
    let rate = |nanos: u64| bytes as f64 / nanos as f64;
    assert!((6.5..8.0).contains(&rate(up)), "a device's faults moved 7.2 GB/s, here {}", rate(up));
    assert!((4.8..5.8).contains(&rate(down)), "the host's faults moved 5.3 GB/s, here {}", rate(down));
}
