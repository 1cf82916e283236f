//! Unified memory: residency, hints, eviction.

use super::super::{JournalEvent, Profile, Simulator};
use super::{MIB, Rig};
use cumem_driver::{Advice, CudaErrorCode, Driver, DriverError, HostKernel, Location};
use std::ptr::NonNull;

impl Rig {
    fn here(&self) -> Location {
        self.sim.device_id(0).into()
    }

    fn prefetch(&self, ptr: NonNull<u8>, bytes: usize, to: Location) -> Result<(), DriverError> {
        // SAFETY: a prefetch moves pages and changes no byte.
        unsafe { self.sim.prefetch(0, ptr.as_ptr(), bytes, to, self.stream) }
    }

    fn advise(&self, ptr: NonNull<u8>, bytes: usize, advice: Advice) -> Result<(), DriverError> {
        // SAFETY: advice changes no byte.
        unsafe { self.sim.advise(0, ptr.as_ptr(), bytes, advice) }
    }

    fn at(&self, ptr: NonNull<u8>, bytes: usize, location: Location) -> u64 {
        self.sim.residency(ptr.as_ptr(), bytes).expect("an allocation").on(location)
    }
}

#[test]
fn pages_are_populated_at_first_touch_and_migrate_to_the_accessing_processor() {
    let rig = Rig::h100();
    let memory = rig.managed(8 * MIB);
    assert_eq!(rig.sim.residency(memory.as_ptr(), 8 * MIB).unwrap().nowhere(), 8 * MIB as u64);
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 80 << 30, "nothing is taken before the first touch");
    rig.sim.host_access(0, memory.as_ptr(), 4 * MIB, true).unwrap();
    assert_eq!(rig.at(memory, 8 * MIB, Location::Host), 4 * MIB as u64);
    rig.launch(HostKernel::new("touch", |_| ()).writes(memory.as_ptr() as u64, 8 * MIB), rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.at(memory, 8 * MIB, rig.here()), 8 * MIB as u64);
    let statistics = rig.sim.statistics(rig.sim.device_id(0)).unwrap();
    assert_eq!((statistics.faults, statistics.host_faults), (24, 12), "six in each block");
    assert_eq!((statistics.migrated_to_device, statistics.populated), (4 << 20, 8 << 20));
    rig.sim.host_access(0, memory.as_ptr(), 8 * MIB, false).unwrap();
    assert_eq!(rig.at(memory, 8 * MIB, Location::Host), 8 * MIB as u64);
}

#[test]
fn prefetch_moves_in_stream_order_and_is_remembered_at_the_call() {
    let rig = Rig::h100();
    let memory = rig.managed(16 * MIB);
    rig.sim.host_access(0, memory.as_ptr(), 16 * MIB, true).unwrap();
    rig.launch(HostKernel::new("long", |_| ()).operations(67_000_000_000_000), rig.stream).unwrap();
    rig.prefetch(memory, 16 * MIB, rig.here()).unwrap();
    let told = rig.sim.range_attributes(0, memory.as_ptr(), 16 * MIB).unwrap();
    assert_eq!(told.last_prefetch_location, Some(rig.here()));
    assert_eq!(rig.at(memory, 16 * MIB, rig.here()), 0, "the kernel before it takes a second");
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.at(memory, 16 * MIB, rig.here()), 16 * MIB as u64);
    assert_eq!(rig.sim.statistics(rig.sim.device_id(0)).unwrap().faults, 0);
}

#[test]
fn hints_are_refused_with_the_drivers_codes() {
    let rig = Rig::h100();
    let (device, managed, pinned) = (rig.device(4096), rig.managed(4096), rig.pinned(4096));
    let unknown = NonNull::new(pinned.as_mut_ptr()).unwrap();
    let own = NonNull::from(&mut [0_u8; 64]).cast();
    for ptr in [device, unknown, own] {
        for error in [
            rig.prefetch(ptr, 64, rig.here()).unwrap_err(),
            rig.advise(ptr, 64, Advice::SetReadMostly).unwrap_err(),
            rig.sim.range_attributes(0, ptr.as_ptr(), 64).unwrap_err(),
        ] {
            assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE), "{error}");
        }
    }
    assert_eq!(rig.prefetch(managed, 0, rig.here()).unwrap_err().code(), Some(CudaErrorCode::INVALID_VALUE));
    assert_eq!(rig.prefetch(managed, 4097, rig.here()).unwrap_err().code(), Some(CudaErrorCode::INVALID_VALUE));
    for missing in [rig.sim.device_id(7), Simulator::new([Profile::default()]).unwrap().device_id(0)] {
        let error = rig.advise(managed, 64, Advice::SetPreferredLocation(missing.into())).unwrap_err();
        assert_eq!(error.code(), Some(CudaErrorCode::INVALID_DEVICE), "{error}");
    }
    let node = Location::HostNuma(0);
    rig.advise(managed, 64, Advice::SetPreferredLocation(node)).unwrap();
    assert_eq!(rig.sim.range_attributes(0, managed.as_ptr(), 64).unwrap().preferred_location, Some(node));
    let error = rig.advise(managed, 64, Advice::SetAccessedBy(node)).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE));
    let error = rig.prefetch(managed, 64, Location::HostNuma(9)).unwrap_err();
    assert_eq!(error.code(), Some(CudaErrorCode::INVALID_VALUE));
}

#[test]
fn without_concurrent_access_hints_and_early_host_accesses_are_refused() {
    let rig = Rig::new(Profile::wsl());
    let memory = rig.managed(4 * MIB);
    assert_eq!(rig.at(memory, 4 * MIB, rig.here()), 4 * MIB as u64, "populated at allocation");
    assert_eq!(rig.prefetch(memory, 64, rig.here()).unwrap_err().code(), Some(CudaErrorCode::INVALID_DEVICE));
    rig.sim.host_access(0, memory.as_ptr(), 4 * MIB, true).unwrap();
    assert_eq!(rig.at(memory, 4 * MIB, Location::Host), 4 * MIB as u64);
    rig.launch(HostKernel::new("any", |_| ()).operations(1 << 40), rig.stream).unwrap();
    let error = rig.sim.host_access(0, memory.as_ptr(), 1, false).unwrap_err();
    assert!(error.to_string().contains("unfinished work"), "{error}");
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.at(memory, 4 * MIB, rig.here()), 4 * MIB as u64, "a launch takes all of it back");
    rig.sim.host_access(0, memory.as_ptr(), 1, false).unwrap();
    let tiny = Rig::new(Profile { concurrent_managed_access: false, ..Profile::tiny(4 * MIB as u64) });
    assert!(tiny.sim.allocate_managed(0, 6 * MIB).unwrap_err().is_out_of_memory(), "no oversubscription");
}

#[test]
fn oversubscription_evicts_and_bytes_survive() {
    let rig = Rig::new(Profile::tiny(8 * MIB as u64));
    let memory = rig.managed(24 * MIB);
    for part in 0..12_u8 {
        let at = memory.as_ptr() as u64 + u64::from(part) * 2 * MIB as u64;
        let kernel = HostKernel::new("fill", move |memory| memory.write::<u8>(0).fill(part));
        rig.launch(kernel.writes(at, 2 * MIB), rig.stream).unwrap();
    }
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.at(memory, 24 * MIB, rig.here()), 8 * MIB as u64);
    assert_eq!(rig.at(memory, 24 * MIB, Location::Host), 16 * MIB as u64);
    assert_eq!(rig.sim.statistics(rig.sim.device_id(0)).unwrap().evictions, 8);
    // Device memory can take all chunks of the unified memory, and no more than that.
    let plain = rig.device(8 * MIB);
    assert_eq!(rig.at(memory, 24 * MIB, Location::Host), 24 * MIB as u64);
    assert!(rig.sim.allocate_device(0, 1).unwrap_err().is_out_of_memory());
    rig.sim.host_access(0, memory.as_ptr(), 24 * MIB, false).unwrap();
    // SAFETY: the host has just been given access, and no work is enqueued.
    let bytes = unsafe { std::slice::from_raw_parts(memory.as_ptr(), 24 * MIB) };
    assert!(bytes.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i / (2 * MIB)));
    let kernel = HostKernel::new("starved", |_| panic!("must not run")).reads(memory.as_ptr() as u64, 64);
    rig.launch(kernel, rig.stream).unwrap();
    let error = rig.sync(rig.stream).unwrap_err();
    assert!(error.to_string().contains("found no device memory"), "{error}");
    rig.free(plain).unwrap();
}

#[test]
fn operations_are_recorded_on_request() {
    let rig = Rig::h100();
    rig.sim.record(true);
    let memory = rig.managed(2 * MIB);
    rig.sim.host_access(0, memory.as_ptr(), 1, true).unwrap();
    let records: Vec<_> = rig.sim.take_records().into_iter().map(|record| record.event).collect();
    assert_eq!(
        records,
        [
            JournalEvent::Allocated { allocation: 1, bytes: 2 << 20 },
            JournalEvent::Fault { by: Location::Host, allocation: 1, offset: 0 },
        ]
    );
}

#[test]
fn devices_of_one_machine_share_unified_memory() {
    let sim = Simulator::new([Profile::default(), Profile::default()]).unwrap();
    let (first, second) = (sim.device_id(0), sim.device_id(1));
    let memory = sim.allocate_managed(0, 4 * MIB).unwrap();
    for (d, id) in [(0, first), (1, second)] {
        let stream = sim.create_stream(d, false).unwrap();
        // SAFETY: the memory stays allocated.
        unsafe { sim.fill_async(d, memory.as_ptr(), 1, 4 * MIB, stream) }.unwrap();
        sim.synchronize_device(d).unwrap();
        assert_eq!(sim.residency(memory.as_ptr(), 4 * MIB).unwrap().on(id), 4 * MIB as u64);
    }
    assert_eq!(sim.statistics(second).unwrap().migrated_from_peers, 4 << 20);
    assert_eq!(sim.pointer_info(1, memory.as_ptr()).unwrap().device, first);
}
