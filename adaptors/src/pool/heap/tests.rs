use super::bins::bin_of;
use super::data::{Freed, Heap, Placed};
use super::nodes::NodeState;
use crate::pool::units::Region;
use proptest::prelude::*;

impl Heap {
    /// Asserts everything that must hold between two calls.
    fn audit(&self) {
        let (mut free, mut live, mut seen) = (0, 0, 0);
        let mut last_end = 0;
        for (&start, &edge) in &self.spans {
            assert!(start >= last_end, "spans are apart");
            let mut at = self.nodes[edge].next;
            let mut addr = start;
            let mut previous = edge;
            assert_ne!(at, edge, "no span is empty");
            while at != edge {
                let node = &self.nodes[at];
                assert_eq!((node.addr, node.prev), (addr, previous), "nodes lie end to end");
                assert!(!node.mark.is_boundary() || previous == edge, "only the first node of a span begins a chunk");
                match node.mark {
                    mark if mark.is(NodeState::Free) => {
                        assert!(!self.nodes[previous].mark.is(NodeState::Free), "free neighbours are joined");
                        assert!(self.in_bin(bin_of(node.units)).any(|n| n == at), "a free node is in its bin");
                        free += u64::from(node.units);
                        seen += 1;
                    }
                    mark if mark.is(NodeState::Live) && self.live(at).is_none() => {
                        assert_eq!((at, self.last_is_free), (self.last, true));
                        free += u64::from(node.units);
                    }
                    mark if mark.is(NodeState::Live) => live += u64::from(node.units),
                    mark => panic!("{mark:?} within a span"),
                }
                addr += u64::from(node.units);
                previous = at;
                at = node.next;
            }
            assert_eq!(self.nodes[edge].prev, previous);
            last_end = addr;
        }
        let binned: usize = (0..464).map(|bin| self.in_bin(bin).count()).sum();
        assert_eq!((binned, free, live), (seen, self.free_units(), self.live_units));
    }

    fn spans(&self) -> usize {
        self.spans.len()
    }
}

fn region(addr: u64, units: u32) -> Region {
    Region { addr, units, boundary: false }
}

#[test]
fn two_adjacent_freed_blocks_merge_into_one_node() {
    let mut heap = Heap::new(u32::BITS - 1);
    heap.attach(region(1000, 100));
    let (a, b) = (heap.allocate(10, 1).unwrap(), heap.allocate(20, 1).unwrap());
    assert_eq!((a.addr, b.addr), (1000, 1010));
    assert_eq!(heap.free_and_join(a.node), Freed { units: 1000..1010, alone: false });
    assert_eq!(heap.free_and_join(b.node), Freed { units: 1000..1100, alone: true });
    assert_eq!((heap.free_units(), heap.live_units(), heap.largest_free()), (100, 0, 100));
    assert_eq!(heap.live(a.node), None);
    heap.audit();
}

#[test]
fn the_last_freed_node_is_reused_for_an_equal_size() {
    let mut heap = Heap::new(u32::BITS - 1);
    heap.attach(region(1000, 100));
    let (a, _b) = (heap.allocate(10, 1).unwrap(), heap.allocate(20, 1).unwrap());
    heap.free(a.node);
    heap.audit();
    assert_eq!((heap.free_units(), heap.live_units(), heap.live(a.node)), (80, 20, None));
    let again = heap.allocate(10, 1).unwrap();
    assert_eq!((again.node, again.addr), (a.node, 1000));
    assert_ne!(again.generation, a.generation);
    heap.free(again.node);
    assert_eq!(heap.allocate(11, 1).unwrap().addr, 1030);
    heap.audit();
}

#[test]
fn the_index_of_the_last_freed_node_may_be_reused() {
    let mut heap = Heap::new(u32::BITS - 1);
    heap.attach(region(1000, 100));
    let (a, b) = (heap.allocate(10, 1).unwrap(), heap.allocate(20, 1).unwrap());
    heap.free(a.node);
    let again = heap.allocate(10, 1).unwrap();
    assert_eq!(heap.detach(again.node), region(1000, 10));
    let c = heap.allocate(5, 1).unwrap();
    assert_eq!((c.node, c.addr), (a.node, 1030), "its number is given out again");
    heap.audit();
    for freed in [c, b, c] {
        heap.free(freed.node);
        heap.audit();
        assert_eq!(heap.live(freed.node), None);
        let units = if freed.node == b.node { 20 } else { 5 };
        let taken = heap.allocate(units, 1).unwrap();
        assert_eq!((taken.node, taken.addr), (freed.node, freed.addr));
        assert_ne!(taken.generation, freed.generation);
        heap.audit();
    }
    assert_eq!((heap.free_units(), heap.live_units()), (65, 25));
}

#[test]
fn chunks_that_touch_by_chance_never_join() {
    let mut heap = Heap::new(u32::BITS - 1);
    heap.attach(region(0, 10));
    heap.attach(Region { addr: 10, units: 10, boundary: true });
    assert_eq!((heap.largest_free(), heap.spans()), (10, 2));
    heap.attach(region(20, 10));
    assert_eq!((heap.largest_free(), heap.spans()), (20, 2));
    heap.audit();
    let mut regions = heap.drain();
    regions.sort_by_key(|r| r.addr);
    assert_eq!(regions, [region(0, 10), Region { addr: 10, units: 20, boundary: true }]);
}

#[test]
fn the_front_that_alignment_skips_stays_free() {
    let mut heap = Heap::new(u32::BITS - 1);
    heap.attach(region(3, 61));
    assert_eq!(heap.allocate_thorough(8, 16, |_, _| true).unwrap().addr, 16);
    assert_eq!((heap.free_units(), heap.largest_free()), (53, 40));
    assert!(heap.allocate_thorough(1, 64, |_, _| true).is_none(), "64 lies past the end");
    heap.audit();
}

#[test]
fn the_last_fit_of_the_own_bin_is_found_by_the_thorough_search() {
    let mut heap = Heap::new(u32::BITS - 1);
    heap.attach(region(0, 271));
    for i in 0..8 {
        heap.attach(region(1000 * (i + 1), 256));
    }
    assert!(heap.allocate(270, 1).is_none());
    assert!(heap.allocate_thorough(270, 1, |_, _| true).is_some());
}

#[derive(Debug, Clone)]
enum Op {
    Allocate { units: u32, align: u32, thorough: bool },
    Free { victim: usize, join: bool },
    Detach(usize),
    Attach(usize),
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1u32..80, 0u32..6, any::<bool>()).prop_map(|(units, align, thorough)| Op::Allocate {
            units,
            align: if align < 3 { 0 } else { align },
            thorough
        }),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(victim, join)| Op::Free { victim, join }),
        1 => any::<usize>().prop_map(Op::Detach),
        1 => any::<usize>().prop_map(Op::Attach),
        1 => Just(Op::Drain),
    ]
}

proptest! {
    #[test]
    fn programs_agree_with_a_naive_model(ops in prop::collection::vec(op(), 1..200)) {
        // Three chunks, two of which are adjacent.
        let chunks = [
            Region { addr: 7, units: 500, boundary: true },
            Region { addr: 507, units: 300, boundary: true },
            Region { addr: 5000, units: 1000, boundary: true },
        ];
        let total = 1800;
        let mut heap = Heap::new(u32::BITS - 1);
        for chunk in chunks {
            heap.attach(chunk);
        }
        let mut live: Vec<(u32, u64, u32)> = Vec::new();
        let mut outside: Vec<Region> = Vec::new();
        for op in ops {
            match op {
                Op::Allocate { units, align, thorough } => {
                    let align = 1u64 << align;
                    let node = if thorough {
                        heap.allocate_thorough(units, align, |_, _| true)
                    } else {
                        heap.allocate(units, align)
                    };
                    if thorough && align == 1 {
                        prop_assert!(node.is_some() || heap.largest_free() < units);
                    }
                    if let Some(Placed { node, addr, generation }) = node {
                        prop_assert_eq!(heap.live(node), Some((addr, units, generation)));
                        prop_assert_eq!(addr % align, 0);
                        prop_assert!(live.iter().all(|&(_, a, u)| addr + u64::from(units) <= a || a + u64::from(u) <= addr));
                        live.push((node, addr, units));
                    }
                }
                Op::Free { victim, join } if !live.is_empty() => {
                    let (node, addr, units) = live.swap_remove(victim % live.len());
                    let found = heap.live(node).unwrap();
                    prop_assert_eq!((found.0, found.1), (addr, units));
                    if join {
                        heap.free_and_join(node);
                    } else {
                        heap.free(node);
                    }
                }
                Op::Detach(i) if !live.is_empty() => {
                    let (node, addr, units) = live.swap_remove(i % live.len());
                    let region = heap.detach(node);
                    prop_assert_eq!((region.addr, region.units), (addr, units));
                    outside.push(region);
                }
                Op::Attach(i) if !outside.is_empty() => {
                    let region = outside.swap_remove(i % outside.len());
                    heap.attach(region);
                }
                Op::Drain => outside.extend(heap.drain()),
                _ => {}
            }
            heap.audit();
            let away: u64 = outside.iter().map(|r| u64::from(r.units)).sum();
            let held: u64 = live.iter().map(|l| u64::from(l.2)).sum();
            prop_assert_eq!(heap.live_units(), held);
            prop_assert_eq!(heap.free_units() + held + away, total);
        }
        for (node, ..) in live {
            heap.free(node);
        }
        for region in outside {
            heap.attach(region);
        }
        heap.audit();
        let mut regions = heap.drain();
        regions.sort_by_key(|r| r.addr);
        prop_assert_eq!(regions, chunks);
        prop_assert_eq!(heap.spans(), 0);
    }
}
