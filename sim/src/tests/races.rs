//! The race detector with many streams: destroyed streams cost no memory, and every race is found.

use super::Rig;
use crate::RaceKind;
use cumem_driver::{BlockEvent, Driver, HostKernel, Model, RawStream};

const STREAMS: usize = 4000;

impl Rig {
    fn write(&self, addr: u64, stream: RawStream) {
        self.launch(HostKernel::new("write", |_| ()).writes(addr, 64), stream).expect("a kernel");
    }

    fn destroy(&self, stream: RawStream) {
        // SAFETY: the stream is live and is not used afterwards.
        unsafe { self.sim.destroy_stream(0, stream) }.expect("a stream that ends");
    }

    /// Returns the number of clocks that the detector keeps.
    fn clocks(&self) -> usize {
        self.sim.machine().lock().races.as_ref().expect("the detector is on").streams.len()
    }
}

#[test]
fn streams_that_are_gone_are_forgotten_when_the_host_knows_their_work() {
    let rig = Rig::h100();
    rig.sim.detect_races(true);
    let addr = rig.device(4096).as_ptr() as u64;
    for _ in 0..STREAMS {
        let stream = rig.second_stream();
        rig.write(addr, stream);
        rig.sync(stream).unwrap();
        rig.destroy(stream);
    }
    assert!(rig.sim.take_races().is_empty());
    assert!(rig.clocks() <= 64, "{} clocks", rig.clocks());
}

#[test]
fn a_wait_for_the_device_makes_the_work_of_gone_streams_known() {
    let rig = Rig::h100();
    rig.sim.detect_races(true);
    let addr = rig.device(64 * STREAMS).as_ptr() as u64;
    for round in 0..20 {
        for n in 0..100 {
            let stream = rig.second_stream();
            rig.write(addr + 64 * n, stream);
            rig.destroy(stream);
        }
        assert!(rig.sim.take_races().is_empty(), "{round}");
        rig.sim.synchronize_device(0).unwrap();
    }
    assert!(rig.clocks() <= 400, "{} clocks", rig.clocks());
}

/// A stream that takes the place of another one is not ordered after the waits of the other one.
#[test]
fn a_race_with_a_gone_stream_is_still_found_and_named_by_its_stream() {
    let rig = Rig::h100();
    rig.sim.detect_races(true);
    let addr = rig.device(4096).as_ptr() as u64;
    for _ in 0..100 {
        let first = rig.second_stream();
        rig.write(addr, first);
        rig.destroy(first);
        let second = rig.second_stream();
        rig.write(addr, second);
        let races = rig.sim.take_races();
        assert_eq!(races.len(), 1, "{races:#?}");
        assert_eq!((races[0].kind, races[0].first.stream), (RaceKind::Unordered, Some(first.0)));
        assert_eq!((races[0].second.stream, races[0].first.number, races[0].second.number), (Some(second.0), 1, 1));
        rig.sync(second).unwrap();
        rig.sim.synchronize_device(0).unwrap();
        rig.destroy(second);
    }
}

#[test]
fn memory_that_is_gone_is_forgotten() {
    let rig = Rig::h100();
    rig.sim.detect_races(true);
    let stream = rig.second_stream();
    for _ in 0..1000 {
        let memory = rig.device(1 << 20);
        let addr = memory.as_ptr() as u64;
        for block in 0..10 {
            let declare = |event| rig.sim.declare(0, addr + 1024 * block, 1000, Some(stream), event);
            declare(BlockEvent::HandedOut);
            rig.write(addr + 1024 * block, stream);
            declare(BlockEvent::Kept);
        }
        rig.sync(stream).unwrap();
        // SAFETY: no work uses the memory any more.
        unsafe { rig.sim.free(0, memory) }.unwrap();
    }
    assert!(rig.sim.take_races().is_empty());
    let (blocks, uses) = rig.sim.machine().lock().races.as_ref().expect("the detector is on").entries();
    assert_eq!(blocks, 0);
    assert!(uses <= 128, "{uses} runs of bytes");
}
