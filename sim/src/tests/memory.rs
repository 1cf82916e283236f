//! Addresses, capacity, poison, and calls that are rejected.

use super::{MIB, Rig};
use crate::{POISON, Profile, ProfileError, Simulator};
use cumem_driver::{CudaErrorCode, Driver, DriverError, HostKernel};
use std::collections::BTreeSet;
use std::ptr::NonNull;

#[test]
fn fresh_memory_is_poison_and_so_is_recycled_memory() {
    let rig = Rig::h100();
    for bytes in [256, 4096, 100_000, MIB, 3 * MIB] {
        for _ in 0..3 {
            let memory = rig.device(bytes);
            assert!(rig.bytes(memory, bytes).chunks_exact(4).all(|word| word == POISON), "{bytes} bytes");
            rig.fill(memory, 0, bytes);
            rig.free(memory).unwrap();
        }
    }
    assert!(f32::from_le_bytes(POISON).is_nan());
    assert!(f64::from_le_bytes([POISON, POISON].concat().try_into().unwrap()).is_nan());
}

#[test]
fn capacity_is_what_the_profile_says() {
    let rig = Rig::new(Profile::tiny(64 * MIB as u64));
    let info = || rig.sim.memory_info(0).unwrap();
    assert_eq!((info().free, info().total), (64 * MIB, 64 * MIB));
    let most = rig.device(48 * MIB);
    assert_eq!(info().free, 16 * MIB);
    let error = rig.sim.allocate_device(0, 17 * MIB).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    let rest = rig.device(16 * MIB);
    assert_eq!(info().free, 0);
    assert!(rig.sim.allocate_device(0, 1).unwrap_err().is_out_of_memory());
    rig.free(most).unwrap();
    rig.free(rest).unwrap();
    assert_eq!(info().free, 64 * MIB);
}

#[test]
fn a_request_larger_than_all_memory_is_out_of_memory() {
    let rig = Rig::h100();
    for bytes in [1 << 50, usize::MAX, usize::MAX >> 1, usize::MAX - 4095] {
        for error in [
            rig.sim.allocate_device(0, bytes).unwrap_err(),
            rig.sim.allocate_managed(0, bytes).unwrap_err(),
            rig.sim.allocate_pinned(0, bytes).unwrap_err(),
        ] {
            assert!(error.is_out_of_memory(), "{bytes}: {error}");
        }
    }
    assert!(rig.sim.live_allocations().no_memory());
}

#[test]
fn thousands_of_live_blocks_do_not_overlap() {
    let rig = Rig::h100();
    let mut seen = BTreeSet::new();
    let blocks: Vec<_> =
        (0..16_000).map(|i| (rig.device(1 + i * 37 % (300 << 10)), 1 + i * 37 % (300 << 10))).collect();
    for (block, bytes) in &blocks {
        let start = block.as_ptr() as u64;
        assert_eq!(start % 256, 0);
        assert!(seen.range(..start + *bytes as u64).next_back().is_none_or(|end: &u64| *end <= start));
        seen.insert(start + *bytes as u64 - 1);
    }
    assert_eq!(rig.sim.live_allocations().device.blocks, 16_000);
    for (block, _) in blocks {
        rig.free(block).unwrap();
    }
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 80 << 30);
}

#[test]
fn freed_addresses_are_not_handed_out_at_once() {
    let rig = Rig::h100();
    for bytes in [512, 4 * MIB] {
        let first = rig.device(bytes);
        rig.free(first).unwrap();
        assert_ne!(rig.device(bytes), first);
    }
}

#[test]
fn bad_frees_are_refused_and_harmless() {
    let rig = Rig::h100();
    let memory = rig.device(MIB);
    let pinned = rig.pinned(4096);
    rig.free(memory).unwrap();
    let mut own = 0_u8;
    let second = rig.device(4096);
    for bad in [memory.as_ptr(), &raw mut own, second.as_ptr().wrapping_add(256), pinned.as_mut_ptr()] {
        let error = rig.free(NonNull::new(bad).unwrap()).unwrap_err();
        assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
    }
    // SAFETY: the call is rejected, because the memory is not pinned.
    let error = unsafe { rig.sim.free_pinned(0, second) }.unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE));
    rig.free(second).unwrap();
}

#[test]
fn ranges_that_cross_or_were_freed_are_named() {
    let rig = Rig::h100();
    let (small, gone) = (rig.device(1000), rig.device(4096));
    rig.free(gone).unwrap();
    let mut out = vec![0; 4096];
    let crossing = rig.copy(out.as_mut_ptr(), small.as_ptr(), 1001, rig.stream).unwrap_err();
    assert!(
        matches!(&crossing, DriverError::Simulation { message, .. } if message.contains("1000 bytes at")),
        "{crossing}"
    );
    let freed = rig.copy(gone.as_ptr(), out.as_ptr(), 16, rig.stream).unwrap_err();
    assert!(freed.to_string().contains("which was freed"), "{freed}");
    let kernel = HostKernel::new("stray", |_| panic!("must not run"));
    let stray = rig.launch(kernel.reads(out.as_ptr() as u64, 64), rig.stream).unwrap_err();
    assert!(stray.to_string().contains("no memory of the device"), "{stray}");
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.bytes(small, 1000).len(), 1000, "the device is as usable as before");
}

#[test]
fn written_ranges_must_not_overlap() {
    let rig = Rig::h100();
    let memory = rig.device(4096);
    let base = memory.as_ptr() as u64;
    let kernel = HostKernel::new("aliasing", |_| panic!("must not run")).writes(base, 128).reads(base + 64, 128);
    let error = rig.launch(kernel, rig.stream).unwrap_err();
    assert!(error.to_string().contains("overlaps its range 1"), "{error}");
    let beside = HostKernel::new("beside", |_| ()).writes(base, 128).reads(base + 128, 128).reads(base + 128, 64);
    rig.launch(beside, rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
}

#[test]
fn pinned_memory_freed_under_a_copy_is_reported() {
    let rig = Rig::h100();
    let device = rig.device(64 * MIB);
    let pinned = rig.sim.allocate_pinned(0, 64 * MIB).unwrap();
    rig.copy(device.as_ptr(), pinned.as_ptr(), 64 * MIB, rig.stream).unwrap();
    // SAFETY: a copy still uses the memory; the test checks that the simulator reports it.
    unsafe { rig.sim.free_pinned(0, pinned) }.unwrap();
    rig.copy(device.as_ptr(), vec![7; 16].as_ptr(), 16, rig.stream).unwrap();
    let error = rig.sync(rig.stream).unwrap_err();
    assert!(error.to_string().contains("freed"), "{error}");
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.bytes(device, 16), [7; 16]);
}

#[test]
fn an_invalid_profile_is_an_error_that_names_its_field() {
    type Spoil = fn(&mut Profile);
    let spoiled: [(&str, Spoil); 6] = [
        ("capacity", |p| p.capacity.value = 3e6),
        ("capacity", |p| p.capacity.value = 0.0),
        ("link_to_device", |p| p.link_to_device.value = -1.0),
        ("copy_latency", |p| p.copy_latency.value = f64::NAN),
        ("name", |p| p.name.clear()),
        ("concurrent_managed_access", |p| p.managed_memory = false),
    ];
    for (field, spoil) in spoiled {
        let mut profile = Profile::default();
        spoil(&mut profile);
        let error = Simulator::new([Profile::default(), profile]).unwrap_err();
        assert!(matches!(&error, ProfileError::Unsound { ordinal: 1, reason } if reason.contains(field)), "{error}");
    }
    assert!(Simulator::new([]).is_err());
}

#[test]
fn every_named_profile_works_and_prints_its_sources() {
    for profile in [
        Profile::h100_pcie5(),
        Profile::gtx1080ti(),
        Profile::a100(),
        Profile::maxwell(),
        Profile::wsl(),
        Profile::integrated(),
        Profile::tiny(2 * MIB as u64),
    ] {
        let text = profile.to_string();
        assert!(text.contains("capacity") && text.contains("uncalibrated"), "{text}");
        let rig = Rig::new(profile);
        let memory = rig.managed(MIB);
        rig.fill(memory, 9, MIB);
        assert_eq!(rig.bytes(memory, MIB), vec![9; MIB]);
        rig.free(memory).unwrap();
    }
}

#[test]
fn words_are_filled_whole_and_aligned() {
    let rig = Rig::h100();
    let memory = rig.device(4096);
    rig.fill(memory, 7, 4096);
    // SAFETY: only the test uses the memory.
    let fill = |offset: usize, words| unsafe {
        rig.sim.fill_words_async(0, memory.as_ptr().wrapping_add(offset), 0x0403_0201, words, rig.stream)
    };
    fill(8, 3).unwrap();
    let code = |filled: Result<(), DriverError>| filled.unwrap_err().code();
    assert_eq!(code(fill(2, 1)), Some(CudaErrorCode::INVALID_VALUE), "not aligned");
    assert!(fill(0, 1025).is_err(), "longer than the memory");
    assert!(fill(0, usize::MAX).is_err());
    rig.sync(rig.stream).unwrap();
    let bytes = rig.bytes(memory, 24);
    assert_eq!(bytes[..8], [7; 8]);
    assert_eq!(bytes[8..20], [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]);
    assert_eq!(bytes[20..], [7; 4]);
}
