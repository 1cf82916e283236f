//! Declarations of kernels: access orders, threads in flight, and mistakes. Also the driver's answers to misuse.

use super::super::{FaultPrefetch, Figure, Profile, Simulator};
use super::{MIB, Rig};
use cumem_driver::{AccessMode, Advice, CudaErrorCode, Driver, DriverError, HostKernel, Location, Pattern};

fn run(profile: Profile, bytes: usize, in_flight: usize, pattern: Pattern) -> (Rig, u64) {
    let rig = Rig::new(profile);
    let memory = rig.managed(bytes);
    let kernel = HostKernel::new("walk", |_| ()).writes(memory.as_ptr() as u64, bytes);
    rig.launch(kernel.in_order(pattern).in_flight(in_flight), rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
    let resident = rig.sim.residency(memory.as_ptr(), bytes).unwrap().on(rig.sim.device_id(0));
    (rig, resident)
}

#[test]
fn the_access_pattern_decides_which_pages_fault_and_migrate() {
    let faults = |pattern, in_flight| {
        let (rig, resident) = run(Profile::gtx1080ti(), 8 * MIB, in_flight, pattern);
        let statistics = rig.sim.statistics(rig.sim.device_id(0)).unwrap();
        (statistics.faults, statistics.fault_batches, resident / (64 << 10))
    };
    assert_eq!(faults(Pattern::Sequential, 1), (24, 24, 128));
    assert_eq!(faults(Pattern::Strided { stride: 2 * MIB }, 1), (4, 4, 4));
    assert_eq!(faults(Pattern::Strided { stride: 2 * MIB }, 4), (4, 1, 4));
    assert_eq!(faults(Pattern::List([3 * MIB, 0, 3 * MIB + 1].into()), 1), (2, 2, 2));
    let random = |seed| faults(Pattern::Random { seed, touches: 50 }, 16);
    assert_eq!(random(1), random(1));
    assert_ne!(random(1), random(2));
}

#[test]
fn threads_in_flight_save_time() {
    let profile = || Profile { fault_prefetch: FaultPrefetch::Off, ..Profile::gtx1080ti() };
    let time = |in_flight| run(profile(), 8 * MIB, in_flight, Pattern::Sequential).0.nanos();
    assert!(time(256) * 3 < time(1), "{} and {} ns", time(256), time(1));
    assert_eq!(time(256), time(10_000), "the driver's batches hold 256");
    let small = Profile { fault_batch: Figure::from_source(32.0, "chosen by the test"), ..profile() };
    assert_eq!(run(small, 8 * MIB, 256, Pattern::Sequential).0.nanos(), time(32));
}

#[test]
fn invalid_access_patterns_are_refused() {
    let rig = Rig::h100();
    let memory = rig.managed(100);
    let kernel = || HostKernel::new("bad", |_| ()).reads(memory.as_ptr() as u64, 100);
    for (kernel, message) in [
        (kernel().in_flight(0), "kernel bad has no threads in flight: it must have at least 1"),
        (kernel().in_order(Pattern::Strided { stride: 0 }), "kernel bad accesses range 0 with a stride of 0"),
        (
            kernel().in_order(Pattern::List([1, 100].into())),
            "kernel bad touches the byte at 100 of its range 0, which has 100 bytes",
        ),
    ] {
        let error = rig.launch(kernel, rig.stream).unwrap_err();
        assert!(error.to_string().ends_with(message), "{error}");
    }
    rig.launch(kernel(), rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
}

#[test]
fn alternating_host_and_device_accesses_are_throttled_and_the_page_is_pinned() {
    let rig = Rig::new(Profile::gtx1080ti());
    let memory = rig.managed(MIB);
    let addr = memory.as_ptr();
    rig.sim.access_from_host(addr, MIB, AccessMode::Write).unwrap();
    let fight = |times| {
        for _ in 0..times {
            rig.launch(HostKernel::new("fight", |_| ()).writes(addr as u64, 1), rig.stream).unwrap();
            rig.sync(rig.stream).unwrap();
            rig.sim.access_from_host(addr, 1, AccessMode::Write).unwrap();
        }
        rig.sim.statistics(rig.sim.device_id(0)).unwrap()
    };
    let statistics = fight(40);
    assert!(statistics.throttles == 10 && statistics.pinned > 0, "{statistics:?}");
    let later = fight(20);
    assert_eq!((later.faults, later.host_faults), (statistics.faults, statistics.host_faults), "and then it is quiet");
    assert_eq!(rig.sim.residency(addr, 1).unwrap().on(Location::Host), 4096);
}

#[test]
fn discarded_memory_is_not_copied() {
    let rig = Rig::new(Profile::tiny(4 * MIB as u64));
    let memory = rig.managed(8 * MIB);
    let fill = |at: usize| {
        let start = memory.as_ptr() as u64 + at as u64;
        rig.launch(HostKernel::new("fill", |m| m.write::<u8>(0).fill(1)).writes(start, 4 * MIB), rig.stream).unwrap();
        rig.sync(rig.stream).unwrap();
    };
    fill(0);
    rig.sim.discard(memory.as_ptr(), 4 * MIB).unwrap();
    fill(4 * MIB);
    let statistics = rig.sim.statistics(rig.sim.device_id(0)).unwrap();
    assert_eq!((statistics.evictions, statistics.evicted), (2, 0));
    assert_eq!(rig.sim.residency(memory.as_ptr(), 4 * MIB).unwrap().nowhere(), 4 * MIB as u64);
}

/// The misuses of managed memory that this library's calls can express, with the error codes that the driver documents.
#[test]
fn each_misuse_has_the_drivers_answer_and_leaves_the_device_usable() {
    let rig = Rig::h100();
    let memory = rig.managed(MIB);
    let none = Rig::new(Profile { managed_memory: false, concurrent_managed_access: false, ..Profile::default() });
    let wsl = Rig::new(Profile::wsl());
    let (there, at) = (wsl.managed(MIB), memory.as_ptr());
    let here: Location = rig.sim.device_id(0).into();
    let other: Location = Simulator::new([Profile::default()]).unwrap().device_id(0).into();
    // SAFETY: a prefetch changes no byte.
    let prefetch = |sim: &Simulator, at, bytes, to| unsafe { sim.prefetch(0, at, bytes, to, super::RawStream::LEGACY) };
    // SAFETY: advice changes no byte.
    let advise = |sim: &Simulator, at, advice| unsafe { sim.advise(0, at, 64, advice) };
    let (invalid, device) = (Some(CudaErrorCode::INVALID_VALUE), Some(CudaErrorCode::INVALID_DEVICE));
    for (misuse, result, code) in [
        ("managed size 0", rig.sim.allocate_managed(0, 0).map(drop), invalid),
        ("a device without managed memory", none.sim.allocate_managed(0, 1).map(drop), None),
        ("prefetch of a range that is not managed", prefetch(&rig.sim, [0_u8].as_ptr(), 1, here), invalid),
        ("prefetch of a range that is partly managed", prefetch(&rig.sim, at, MIB + 1, here), invalid),
        ("prefetch of nothing", prefetch(&rig.sim, at, 0, here), invalid),
        ("prefetch to an unknown device", prefetch(&rig.sim, at, 1, other), device),
        (
            "prefetch without concurrent access",
            prefetch(&wsl.sim, there.as_ptr(), 1, wsl.sim.device_id(0).into()),
            device,
        ),
        ("advice without concurrent access", advise(&wsl.sim, there.as_ptr(), Advice::SetReadMostly), device),
        ("a host node that is not there", prefetch(&rig.sim, at, 1, Location::HostNuma(9)), invalid),
        ("accessed-by with a host node", advise(&rig.sim, at, Advice::SetAccessedBy(Location::HostNuma(0))), invalid),
        ("an attribute of nothing", rig.sim.range_attributes(0, at, 0).map(drop), invalid),
        ("discarding what is not managed", rig.sim.discard([0_u8].as_ptr(), 1), invalid),
        (
            "discarding without concurrent access",
            wsl.sim.discard(there.as_ptr(), 1),
            Some(CudaErrorCode::NOT_SUPPORTED),
        ),
    ] {
        let error = result.expect_err(misuse);
        assert_eq!(error.code(), code, "{misuse}: {error}");
    }
    let outside = HostKernel::new("outside", |_| ()).reads(at as u64 + MIB as u64, 64);
    assert!(
        matches!(rig.launch(outside, rig.stream), Err(DriverError::Simulation { .. })),
        "a kernel outside any range"
    );
    let plain = rig.device(64);
    let touched = rig.sim.access_from_host(plain.as_ptr(), 1, AccessMode::Read).unwrap_err();
    assert!(touched.to_string().contains("the host touched device memory"), "{touched}");
    rig.fill(memory, 1, MIB);
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.bytes(memory, MIB), vec![1; MIB], "and all goes on");
}

#[test]
fn an_invalid_profile_is_refused_and_the_error_names_the_field() {
    let figure = |value| Figure::uncalibrated(value, "chosen by the test");
    let with = |change: &dyn Fn(&mut Profile)| {
        let mut profile = Profile::default();
        change(&mut profile);
        Simulator::new([profile]).unwrap_err().to_string()
    };
    for (field, error) in [
        ("page_size", with(&|p| p.page_size = figure(0.0))),
        ("capacity", with(&|p| p.capacity = figure(3e6))),
        ("link_to_host", with(&|p| p.link_to_host = figure(-1.0))),
        ("device_memory", with(&|p| p.device_memory = figure(f64::NAN))),
        ("fault_batch", with(&|p| p.fault_batch = figure(0.0))),
        ("thrashing_threshold", with(&|p| p.thrashing_threshold = figure(0.5))),
        ("call_copy", with(&|p| p.call_copy = figure(f64::INFINITY))),
        ("name", with(&|p| p.name.clear())),
    ] {
        assert!(error.contains(&format!(": {field} is ")), "{error}");
    }
}

#[test]
fn the_same_program_leaves_the_same_digest() {
    let program = |seed: u64| {
        let rig = Rig::new(Profile::tiny(8 * MIB as u64));
        let memory = rig.managed(16 * MIB);
        for round in 0..4_u64 {
            let kernel = HostKernel::new("walk", |_| ()).writes(memory.as_ptr() as u64, 16 * MIB);
            let pattern = Pattern::Random { seed: seed + round, touches: 2000 };
            rig.launch(kernel.in_order(pattern).in_flight(100), rig.stream).unwrap();
            rig.sync(rig.stream).unwrap();
            rig.sim.access_from_host(memory.as_ptr(), MIB, AccessMode::Write).unwrap();
        }
        let statistics = rig.sim.statistics(rig.sim.device_id(0)).unwrap();
        assert!(statistics.evictions > 0 && statistics.fault_batches > 4);
        (rig.sim.digest(), rig.nanos(), statistics)
    };
    assert_eq!(program(1), program(1));
    assert_ne!(program(1).0, program(2).0);
}
