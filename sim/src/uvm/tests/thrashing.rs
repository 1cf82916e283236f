//! Experiment 6: processors that migrate the same page back and forth.

use super::*;
use crate::uvm::FaultPrefetch;

const US: u64 = 1_000;

/// A machine, the contended page's range, and the virtual time.
struct Fight {
    space: Space,
    range: RangeId,
    now: u64,
    /// The processor that writes next.
    next: Processor,
}

impl Fight {
    fn new(mapped_by_host: bool) -> Self {
        let config = GpuConfig { capacity: 8 * BLOCK, mapped_by_host, peers: true, second_pass: true };
        let mut space = Space::new([config], Rules::default());
        let range = space.add(BLOCK, ManagedMode::Concurrent);
        touch(&mut space, range, 0..512, HOST, true);
        Self { space, range, now: 0, next: GPU }
    }

    /// Writes the first page, `micros` microseconds after the last write.
    fn write(&mut self, by: Processor, micros: u64) -> MigrationWork {
        self.now += micros * US;
        let mut work = MigrationWork { at: self.now, ..recorded() };
        self.space.touch(self.range, 0..1, by, true, &mut work).expect("there is memory");
        self.now = work.at;
        work
    }

    /// Lets the next processor write, and checks that it faults once.
    fn turn(&mut self, micros: u64, throttles: u64, pinned: u64) {
        let work = self.both(1, micros);
        assert_eq!((work.faults, work.throttles, work.pinned), (1, throttles, pinned));
    }

    fn both(&mut self, times: u32, micros: u64) -> MigrationWork {
        let mut all = MigrationWork::default();
        for _ in 0..times {
            let work = self.write(self.next, micros);
            self.next = if self.next == GPU { HOST } else { GPU };
            all.faults += work.faults;
            all.throttles += work.throttles;
            all.pinned += work.pinned;
        }
        all
    }
}

#[test]
fn experiment_6_throttled_after_three_events_and_pinned_after_ten_throttles() {
    let mut fight = Fight::new(false);
    // The second migration starts the count. The fourth event after it exceeds the threshold of 3.
    // Each throttle restarts the count.
    for (throttle, calm) in [6].into_iter().chain([4; 9]).enumerate() {
        let work = fight.both(calm, 100);
        assert_eq!((work.faults, work.throttles), (u64::from(calm), 0), "before throttle {throttle}");
        fight.turn(100, 1, 0);
    }
    fight.both(4, 100);
    // The page moves to the faulting processor and is pinned there.
    fight.turn(100, 0, 1);
    let last = fight.next;
    let work = fight.both(2, 100);
    assert_eq!(
        (work.throttles, last),
        (0, HOST),
        "over PCIe the host cannot map the device's page: it moves once more"
    );
    assert_eq!(resident(&fight.space, fight.range, 0..1), [1, 0]);
    assert_eq!(fight.both(50, 100).faults, 0, "and all is quiet: the device uses the host's page");
}

#[test]
fn experiment_6_a_pin_ends_after_150_ms() {
    let mut fight = Fight::new(false);
    fight.both(60, 100);
    assert_eq!(fight.both(20, 100).faults, 0);
    assert_eq!(fight.write(GPU, 140_000).faults, 0);
    let work = fight.write(GPU, 10_000);
    assert_eq!((work.faults, work.to_device.bytes > 0, work.throttles), (1, true, 0), "it moves again");
}

#[test]
fn experiment_6_slower_than_the_window_is_no_thrashing() {
    let mut fight = Fight::new(false);
    let work = fight.both(40, 600);
    assert_eq!((work.faults, work.throttles, work.pinned), (40, 0, 0));
}

#[test]
fn experiment_6_a_preferred_device_is_never_given_up() {
    let mut fight = Fight::new(false);
    let device = Location::Device(DeviceId::cuda(0));
    let range = fight.range;
    advise(&mut fight.space, range, 0..512, Advice::SetPreferredLocation(device), GPU);
    let work = fight.both(100, 100);
    assert_eq!((work.faults, work.pinned), (100, 0), "it goes on thrashing, as documented");
    assert!(work.throttles > 10, "{}", work.throttles);
}

#[test]
fn experiment_6_where_the_host_maps_device_memory_the_page_stays() {
    let mut fight = Fight::new(true);
    fight.both(60, 100);
    let before = resident(&fight.space, fight.range, 0..1);
    assert_eq!(fight.both(30, 100).faults, 0);
    assert_eq!(resident(&fight.space, fight.range, 0..1), before);
}

#[test]
fn a_prefetch_and_advice_reset_the_history() {
    for reset in [true, false] {
        let mut fight = Fight::new(false);
        fight.both(6, 100);
        let range = fight.range;
        if reset {
            prefetch(&mut fight.space, range, 0..1, HOST);
        }
        assert_eq!(fight.write(GPU, 100).throttles, u64::from(!reset));
    }
}

#[test]
fn a_pause_resets_the_thrashing_count_of_a_block() {
    let mut fight = Fight::new(false);
    for round in 0..6 {
        assert_eq!(fight.both(7, 100).throttles, 1, "round {round}");
        fight.both(1, 2_000_000);
    }
}

#[test]
fn thrashing_pages_are_left_out_of_prefetches() {
    let mut fight = Fight::new(false);
    fight.space.rules.prefetch = FaultPrefetch::Off;
    fight.both(6, 100);
    fight.space.rules.prefetch = FaultPrefetch::Density;
    let range = fight.range;
    let mut work = MigrationWork { at: fight.now, ..recorded() };
    fight.space.touch(range, 1..2, GPU, true, &mut work).expect("there is memory");
    assert_eq!(resident(&fight.space, range, 0..16)[1], 1, "its 64 KiB hold a page that thrashes");
}
