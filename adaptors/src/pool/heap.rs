//! [`Heap`]: which addresses are live and which are free, in constant time, without touching the memory.
//!
//! Two-level segregated fit (TLSF) on numbers. An address is counted in units of 256 bytes. The memory of a
//! heap is cut into *nodes* that lie end to end, live or free; two free nodes never touch. Nodes that touch
//! form a *span*, a ring closed by an *edge* node, so that every node has two neighbours and none of them
//! needs a check. A span never goes past the place where a chunk of the upstream begins (`head`). Spans are
//! found by address, in a tree, only when memory enters or leaves the heap.
//!
//! A live node keeps its number until it is freed: the number is what a block's tag holds.
//!
//! The node freed last is *at hand*: it is joined with its neighbours when the next call does not ask for
//! just its size. More of them would be faster still, and would break memory up: of the traces, one then
//! needs half as much again.
#![forbid(unsafe_code)]

use super::bins::{Bins, NIL, bin_of};
use std::collections::BTreeMap;

/// Free memory on its way: `units` from `addr` on. `head`: a chunk begins there, so that it never joins
/// what lies before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) addr: u64,
    pub(super) units: u32,
    pub(super) head: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    Live,
    Free,
    AtHand,
    Edge,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    addr: u64,
    units: u32,
    prev: u32,
    next: u32,
    bin_prev: u32,
    bin_next: u32,
    generation: u16,
    state: State,
    head: bool,
}

const _: () = assert!(size_of::<Node>() <= 32, "two nodes share a cache line");

/// How many nodes of the request's own bin are looked at before a larger bin is taken.
const SCAN: usize = 4;
/// A node that has just become live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) node: u32,
    pub(super) generation: u16,
    pub(super) addr: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    vacant: u32,
    bins: Bins,
    at_hand: u32,
    spans: BTreeMap<u64, u32>,
    free_units: u64,
    live_units: u64,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            vacant: NIL,
            bins: Bins::new(),
            at_hand: NIL,
            spans: BTreeMap::new(),
            free_units: 0,
            live_units: 0,
        }
    }

    pub(super) fn free_units(&self) -> u64 {
        self.free_units
    }

    pub(super) fn live_units(&self) -> u64 {
        self.live_units
    }

    /// Units of the largest free node.
    pub(super) fn largest_free(&mut self) -> u32 {
        self.settle();
        self.bins.highest().map_or(0, |bin| self.in_bin(bin).map(|n| self.node(n).units).max().unwrap_or(0))
    }

    /// Makes `units` at a multiple of `align` (a power of two, in units) live.
    #[inline]
    pub(super) fn allocate(&mut self, units: u32, align: u64) -> Option<Placed> {
        if self.at_hand != NIL {
            let node = self.at_hand;
            self.at_hand = NIL;
            let entry = self.node_mut(node);
            if entry.units == units && entry.addr.is_multiple_of(align) {
                entry.state = State::Live;
                entry.generation = entry.generation.wrapping_add(1);
                let placed = Placed { node, generation: entry.generation, addr: entry.addr };
                self.live_units += u64::from(units);
                self.free_units -= u64::from(units);
                return Some(placed);
            }
            self.join(node);
        }
        let node = if align == 1 { self.fit(units) } else { self.fit_aligned(units, align) }?;
        Some(self.carve(node, units, align))
    }

    /// As [`allocate`](Self::allocate), but looks at every node that could fit before it gives up.
    pub(super) fn allocate_thorough(&mut self, units: u32, align: u64) -> Option<Placed> {
        self.settle();
        let node = self.find(units, align)?;
        Some(self.carve(node, units, align))
    }

    /// Whether [`allocate_thorough`](Self::allocate_thorough) would succeed.
    pub(super) fn has_room(&mut self, units: u32, align: u64) -> bool {
        self.settle();
        self.find(units, align).is_some()
    }

    /// Takes `region` in and makes `units` of it live, at a multiple of `align` that it contains.
    pub(super) fn attach_and_allocate(&mut self, region: Region, units: u32, align: u64) -> Placed {
        let node = self.attach(region);
        self.carve(node, units, align)
    }

    /// The address, units and generation of a live node.
    #[inline]
    pub(super) fn live(&self, node: u32) -> Option<(u64, u32, u16)> {
        let node = self.nodes.get(node as usize)?;
        (node.state == State::Live).then_some((node.addr, node.units, node.generation))
    }

    /// Frees a live node: it is at hand now.
    #[inline]
    pub(super) fn free(&mut self, node: u32) {
        let entry = self.node_mut(node);
        entry.state = State::AtHand;
        let units = u64::from(entry.units);
        self.live_units -= units;
        self.free_units += units;
        let before = std::mem::replace(&mut self.at_hand, node);
        if before != NIL {
            self.join(before);
        }
    }

    /// Frees a live node and joins it with its free neighbours at once. Whether nothing else is in its span.
    pub(super) fn free_and_join(&mut self, node: u32) -> bool {
        self.settle();
        let units = u64::from(self.node(node).units);
        self.live_units -= units;
        self.free_units += units;
        let node = self.join(node);
        let node = self.node(node);
        node.prev == node.next
    }

    /// Joins the node that is at hand.
    #[inline]
    fn settle(&mut self) {
        let node = std::mem::replace(&mut self.at_hand, NIL);
        if node != NIL {
            self.join(node);
        }
    }

    /// Takes free memory in; the number of the free node that it is in now.
    pub(super) fn attach(&mut self, region: Region) -> u32 {
        let Region { addr, units, head } = region;
        let end = addr + u64::from(units);
        let left = self
            .spans
            .range(..addr)
            .next_back()
            .map(|(_, &edge)| edge)
            .filter(|&edge| !head && self.end(self.node(edge).prev) == addr);
        let right = self.spans.get(&end).copied().filter(|&edge| !self.node(self.node(edge).next).head);
        let new = self.new_node(addr, units, head, State::Live);
        self.free_units += u64::from(units);
        match (left, right) {
            (None, None) => {
                let edge = self.new_node(addr, 0, true, State::Edge);
                self.link(edge, new);
                self.link(new, edge);
                self.spans.insert(addr, edge);
            }
            (Some(edge), None) => {
                self.link(self.node(edge).prev, new);
                self.link(new, edge);
            }
            (None, Some(edge)) => {
                self.link(new, self.node(edge).next);
                self.link(edge, new);
                self.spans.remove(&end);
                self.spans.insert(addr, edge);
            }
            (Some(edge), Some(gone)) => {
                self.link(self.node(edge).prev, new);
                self.link(new, self.node(gone).next);
                self.link(self.node(gone).prev, edge);
                self.spans.remove(&end);
                self.vacate(gone);
            }
        }
        self.join(new)
    }

    /// Lets a live node go: the memory is the caller's.
    pub(super) fn detach(&mut self, node: u32) -> Region {
        let &Node { addr, units, prev, next, head, .. } = self.node(node);
        let (&start, &edge) = self.spans.range(..=addr).next_back().expect("every node is in a span");
        match (prev == edge, next == edge) {
            (true, true) => {
                self.spans.remove(&start);
                self.vacate(edge);
            }
            (true, false) => {
                self.link(edge, next);
                self.spans.remove(&start);
                self.spans.insert(self.node(next).addr, edge);
            }
            (false, true) => self.link(prev, edge),
            (false, false) => {
                let last = self.node(edge).prev;
                self.link(prev, edge);
                let right = self.new_node(addr, 0, true, State::Edge);
                self.link(right, next);
                self.link(last, right);
                self.spans.insert(self.node(next).addr, right);
            }
        }
        self.live_units -= u64::from(units);
        self.vacate(node);
        Region { addr, units, head }
    }

    /// Lets all free memory go.
    pub(super) fn drain(&mut self) -> Vec<Region> {
        self.settle();
        let mut regions = Vec::new();
        while let Some(bin) = self.bins.highest() {
            let node = self.bins.head(bin);
            let (units, align) = (self.node(node).units, 1);
            let whole = self.carve(node, units, align);
            regions.push(self.detach(whole.node));
        }
        regions
    }

    /// The fast search: a few nodes of the bin that `units` falls in, else any node of a larger bin.
    #[inline]
    fn fit(&self, units: u32) -> Option<u32> {
        let bin = bin_of(units);
        let mut at = self.bins.head(bin);
        for _ in 0..SCAN {
            if at == NIL {
                break;
            }
            let node = self.node(at);
            if node.units >= units {
                return Some(at);
            }
            at = node.bin_next;
        }
        self.bins.at_or_above(bin + 1).map(|bin| self.bins.head(bin))
    }

    fn fit_aligned(&self, units: u32, align: u64) -> Option<u32> {
        let padded = u32::try_from(u64::from(units) + align - 1).ok()?;
        self.bins.at_or_above(bin_of(padded) + 1).map(|bin| self.bins.head(bin))
    }

    fn find(&self, units: u32, align: u64) -> Option<u32> {
        let mut bin = self.bins.at_or_above(bin_of(units));
        while let Some(at) = bin {
            let fits = self.in_bin(at).find(|&n| {
                let node = self.node(n);
                node.addr.next_multiple_of(align) + u64::from(units) <= node.addr + u64::from(node.units)
            });
            if fits.is_some() {
                return fits;
            }
            bin = self.bins.at_or_above(at + 1);
        }
        None
    }

    fn in_bin(&self, bin: u32) -> impl Iterator<Item = u32> {
        let first = self.bins.head(bin);
        std::iter::successors((first != NIL).then_some(first), |&n| {
            let next = self.node(n).bin_next;
            (next != NIL).then_some(next)
        })
    }

    /// Makes `units` of a free node live, which holds them at a multiple of `align`. What lies before and
    /// after stays free. The free node shrinks in place, mostly without changing its bin.
    #[inline]
    fn carve(&mut self, node: u32, units: u32, align: u64) -> Placed {
        // Field by field: copying a node that has just been written would stall the processor.
        let &Node { addr, units: free, prev, head, .. } = self.node(node);
        self.live_units += u64::from(units);
        self.free_units -= u64::from(units);
        let front = (addr.next_multiple_of(align) - addr) as u32;
        if front > 0 {
            return self.carve_behind(node, front, units);
        }
        if free == units {
            self.unbin(node, bin_of(units));
            let entry = self.node_mut(node);
            entry.state = State::Live;
            entry.generation = entry.generation.wrapping_add(1);
            return Placed { node, generation: entry.generation, addr };
        }
        let live = self.new_node(addr, units, head, State::Live);
        self.link(prev, live);
        self.link(live, node);
        let rest = self.node_mut(node);
        rest.addr = addr + u64::from(units);
        rest.head = false;
        self.resize(node, free, free - units);
        Placed { node: live, generation: self.node(live).generation, addr }
    }

    /// The same, with `front` units left free before the live node.
    fn carve_behind(&mut self, node: u32, front: u32, units: u32) -> Placed {
        let &Node { addr, units: free, next, .. } = self.node(node);
        let start = addr + u64::from(front);
        let live = self.new_node(start, units, false, State::Live);
        self.link(live, next);
        self.link(node, live);
        let behind = free - front - units;
        if behind > 0 {
            let rest = self.new_node(start + u64::from(units), behind, false, State::Free);
            self.link(rest, next);
            self.link(live, rest);
            self.bin(rest, bin_of(behind));
        }
        self.resize(node, free, front);
        Placed { node: live, generation: self.node(live).generation, addr: start }
    }

    /// Turns a live node into free memory, joined with its free neighbours; the node that it is in now.
    #[inline]
    fn join(&mut self, node: u32) -> u32 {
        let &Node { addr, units, prev, next, head, .. } = self.node(node);
        let (before, after) = (self.free_at(prev), self.free_at(next));
        // A node counts its units in 32 bits: past that, neighbours stay apart.
        let with_before = before.and_then(|before| units.checked_add(before));
        let with_after = after.and_then(|after| units.checked_add(after));
        match (before.zip(with_before), after.zip(with_after)) {
            (Some((before, total)), behind) => {
                let all = behind.and_then(|(after, _)| Some((after, total.checked_add(after)?)));
                if let Some((after, all)) = all {
                    self.unbin(next, bin_of(after));
                    self.link(prev, self.node(next).next);
                    self.vacate(next);
                    self.resize(prev, before, all);
                } else {
                    self.link(prev, next);
                    self.resize(prev, before, total);
                }
                self.vacate(node);
                prev
            }
            (None, Some((after, total))) => {
                self.link(prev, next);
                let joined = self.node_mut(next);
                joined.addr = addr;
                joined.head = head;
                self.resize(next, after, total);
                self.vacate(node);
                next
            }
            (None, None) => {
                self.node_mut(node).state = State::Free;
                self.bin(node, bin_of(units));
                node
            }
        }
    }

    /// The units of a node if it is free.
    #[inline]
    fn free_at(&self, node: u32) -> Option<u32> {
        let node = self.node(node);
        (node.state == State::Free).then_some(node.units)
    }

    /// Gives a free node another size, and its bin if that changes.
    #[inline]
    fn resize(&mut self, node: u32, from: u32, to: u32) {
        let (old, new) = (bin_of(from), bin_of(to));
        if old != new {
            self.unbin(node, old);
            self.bin(node, new);
        }
        self.node_mut(node).units = to;
    }

    #[inline]
    fn bin(&mut self, node: u32, bin: u32) {
        let head = self.bins.head(bin);
        let entry = self.node_mut(node);
        entry.bin_prev = NIL;
        entry.bin_next = head;
        if head != NIL {
            self.node_mut(head).bin_prev = node;
        }
        self.bins.set_head(bin, node);
    }

    #[inline]
    fn unbin(&mut self, node: u32, bin: u32) {
        let &Node { bin_prev, bin_next, .. } = self.node(node);
        if bin_next != NIL {
            self.node_mut(bin_next).bin_prev = bin_prev;
        }
        if bin_prev != NIL {
            self.node_mut(bin_prev).bin_next = bin_next;
        } else {
            self.bins.set_head(bin, bin_next);
        }
    }

    #[inline]
    fn link(&mut self, before: u32, after: u32) {
        self.node_mut(before).next = after;
        self.node_mut(after).prev = before;
    }

    #[inline]
    fn end(&self, node: u32) -> u64 {
        let node = self.node(node);
        node.addr + u64::from(node.units)
    }

    #[inline]
    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    #[inline]
    fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    #[inline]
    fn new_node(&mut self, addr: u64, units: u32, head: bool, state: State) -> u32 {
        let node = self.vacant;
        if node == NIL {
            return self.grow_table(addr, units, head, state);
        }
        let entry = &mut self.nodes[node as usize];
        self.vacant = entry.bin_next;
        entry.addr = addr;
        entry.units = units;
        entry.head = head;
        entry.state = state;
        entry.generation = entry.generation.wrapping_add(1);
        node
    }

    #[cold]
    fn grow_table(&mut self, addr: u64, units: u32, head: bool, state: State) -> u32 {
        let node = u32::try_from(self.nodes.len()).ok().filter(|&n| n != NIL).expect("2^32 - 1 nodes in one heap");
        self.nodes.push(Node {
            addr,
            units,
            prev: NIL,
            next: NIL,
            bin_prev: NIL,
            bin_next: NIL,
            generation: 0,
            state,
            head,
        });
        node
    }

    #[inline]
    fn vacate(&mut self, node: u32) {
        let vacant = self.vacant;
        let entry = self.node_mut(node);
        entry.state = State::Vacant;
        entry.bin_next = vacant;
        self.vacant = node;
    }
}

#[cfg(test)]
#[path = "heap_tests.rs"]
mod tests;
