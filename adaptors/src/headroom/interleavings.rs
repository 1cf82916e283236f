//! Loom runs all interleavings of two threads with a shard each, whose amounts are moved, read and changed meanwhile.

use super::sync::ThisThread;
use super::{Headroom, Shortage, Side};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

type Counted = Headroom<1, u64>;

fn spawn<T: 'static>(number: usize, work: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        ThisThread::set(number);
        work()
    })
}

/// Runs every interleaving, and prints their number.
fn model(ceiling: u64, shortage: Shortage, body: fn(&Arc<Counted>)) {
    let mut model = loom::model::Builder::new();
    model.max_branches = 20_000;
    let count = std::sync::Arc::new(AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&count);
    model.check(move || {
        counted.fetch_add(1, Relaxed);
        body(&Arc::new(Headroom::new([ceiling], shortage)));
    });
    println!("{} interleavings", count.load(Relaxed));
}

fn allocate(counted: &Counted, amount: u64) -> bool {
    counted.mine().allocate([amount], |total| *total += amount).is_ok()
}

fn free(counted: &Counted, amount: u64) -> bool {
    counted.mine().free([amount]).is_ok()
}

/// Returns the ceiling, what is allocated, what is outstanding, and the sum of the tallies.
fn read(counted: &Counted) -> [u64; 4] {
    let mut total = 0;
    let totals = counted.read(|tally| total += tally);
    [totals.ceiling[0], totals.allocated[0], totals.outstanding[0], total]
}

/// Lets both shards keep amounts: 4 of 8 are outstanding.
fn warm(counted: &Arc<Counted>) {
    for number in [0, 1] {
        let counted = Arc::clone(counted);
        let warmed = spawn(number, move || {
            assert!(allocate(&counted, 2));
            assert!(allocate(&counted, 1) && free(&counted, 1));
        });
        warmed.join().unwrap();
    }
}

/// There is always room for both, wherever the headroom is.
#[test]
fn a_request_that_fits_is_never_refused() {
    model(8, Shortage::Refuses, |counted| {
        warm(counted);
        let other = Arc::clone(counted);
        let other = spawn(1, move || {
            assert!(allocate(&other, 2));
            assert!(free(&other, 1));
        });
        assert!(allocate(counted, 2));
        assert!(free(counted, 1));
        other.join().unwrap();
        assert_eq!(read(counted), [8, 6, 6, 10]);
    });
}

/// Of two requests that do not fit together exactly one is refused, with the figures of that moment.
#[test]
fn a_limit_is_reached_and_never_passed() {
    model(8, Shortage::Refuses, |counted| {
        warm(counted);
        let request = |counted: &Counted| counted.mine().allocate([3], |total| *total += 3);
        let other = Arc::clone(counted);
        let other = spawn(1, move || request(&other));
        let results = [request(counted), other.join().unwrap()];
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(refused.iter().map(|totals| (totals.ceiling, totals.allocated)).collect::<Vec<_>>(), [([8], [7])]);
        assert_eq!(read(counted), [8, 7, 7, 9]);
    });
}

/// A peak rises only if both threads have their block at the same time.
#[test]
fn a_peak_is_the_maximum() {
    model(0, Shortage::Raises, |counted| {
        warm(counted);
        assert_eq!(read(counted)[..3], [5, 4, 4]);
        let other = Arc::clone(counted);
        let other = spawn(1, move || assert!(free(&other, 2) && allocate(&other, 3)));
        assert!(free(counted, 2) && allocate(counted, 3));
        other.join().unwrap();
        // 4 at first. One thread is between 2 less and 1 more while the other one is.
        let [peak, allocated, outstanding, total] = read(counted);
        assert_eq!((allocated, outstanding, total), (6, 6, 12));
        assert_eq!(peak, 6);
    });
}

/// One thread has freed before the other one allocates, so the peak stays.
#[test]
fn a_block_that_another_thread_freed_makes_room() {
    model(0, Shortage::Raises, |counted| {
        warm(counted);
        let freed = Arc::new(loom::sync::Mutex::new(()));
        let turn = freed.lock().unwrap();
        let other = {
            let (counted, freed) = (Arc::clone(counted), Arc::clone(&freed));
            spawn(1, move || {
                drop(freed.lock().unwrap());
                assert!(allocate(&counted, 2));
            })
        };
        assert!(free(counted, 3));
        drop(turn);
        assert!(allocate(counted, 1));
        other.join().unwrap();
        assert_eq!(read(counted), [5, 4, 4, 9]);
    });
}

/// The amounts are read while they move between shards.
#[test]
fn counts_are_read_at_one_moment() {
    model(8, Shortage::Refuses, |counted| {
        warm(counted);
        let other = Arc::clone(counted);
        let other = spawn(1, move || {
            assert!(allocate(&other, 3));
            assert!(free(&other, 4));
        });
        let [ceiling, allocated, outstanding, total] = read(counted);
        assert_eq!((ceiling, allocated), (8, outstanding));
        assert!([(4, 6), (7, 9), (3, 9)].contains(&(allocated, total)), "{allocated} allocated, {total} in all");
        other.join().unwrap();
        assert_eq!(read(counted), [8, 3, 3, 9]);
    });
}

/// The limit falls below what is allocated. The debt is reduced by the frees, and only then something fits again.
#[test]
fn a_limit_may_change_while_threads_allocate() {
    model(8, Shortage::Refuses, |counted| {
        warm(counted);
        let other = Arc::clone(counted);
        let other = spawn(1, move || {
            assert!(free(&other, 2));
            allocate(&other, 1)
        });
        counted.set_ceiling([3]);
        let [ceiling, allocated, ..] = read(counted);
        assert!(ceiling == 3 && (2..=4).contains(&allocated), "{allocated} of {ceiling}");
        assert!(other.join().unwrap(), "2 of 8, or 2 of 3, are allocated");
        assert!(!allocate(counted, 1));
        assert!(allocate(counted, 0));
        assert!(free(counted, 3));
        assert_eq!(read(counted)[..3], [3, 0, 0]);
    });
}

/// A free in two steps: between them the amount is not outstanding, and there is no room for another block.
#[test]
fn a_free_makes_room_only_in_its_second_step() {
    model(5, Shortage::Refuses, |counted| {
        warm(counted);
        let other = Arc::clone(counted);
        let other = spawn(1, move || allocate(&other, 2));
        counted.mine().take(Side::Out, [2]).unwrap();
        let [ceiling, allocated, outstanding, _] = read(counted);
        assert_eq!((ceiling, allocated, outstanding), (5, 4, 2));
        assert!(!other.join().unwrap(), "4 of 5 are allocated");
        counted.mine().put(Side::Room, [2]);
        assert!(allocate(counted, 3));
        assert!(!free(counted, 6));
        assert_eq!(read(counted)[..3], [5, 5, 5]);
    });
}
