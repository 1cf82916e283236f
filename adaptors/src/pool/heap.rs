//! [`Heap`]: records which addresses are live and which are free, in constant time, without touching the memory.
//!
//! The heap is a two-level segregated fit (TLSF) allocator on numbers. The heap counts addresses in units of 256 bytes.
//! The heap's memory is cut into *nodes* that lie end to end, live or free. Two free nodes are never adjacent. Adjacent
//! nodes form a *span*: a ring closed by an *edge* node, so that every node has two neighbours and no code checks for a
//! missing one. A span never crosses a *boundary*: a place where a chunk or a stitch begins that cannot be joined with
//! the memory before it. Spans are found by address, in a tree, only when memory enters or leaves the heap.
//!
//! A live node keeps its number until it is freed. A block's tag holds that number.
//!
//! The node freed last is not joined with its neighbours at once, but only if the next call does not request exactly
//! its size. Keeping more such nodes would be faster still, but would fragment the memory: with eight nodes of each of
//! the last sizes, one of the traces needs half as much memory again. An allocation of another size joins the node,
//! searches and cuts in one function (`allocate_other`), because calls in between took a twentieth of the time.
//!
//! A live block costs its node, 32 bytes. If no adjacent memory is in the same heap, the block also costs another 32
//! bytes for the edge of its span, and an entry in the tree.
#![forbid(unsafe_code)]

mod bins;
mod data;
mod nodes;
mod spans;

pub(super) use data::{Freed, Heap, Placed};

use super::units::{Region, align_up};
use bins::{NIL, bin_of};
use nodes::{Node, NodeState};

/// The number of nodes that the fast search tries in the request's own bin before it takes a larger bin.
const SCAN: usize = 4;
/// A whole chunk of at most this many units (2 MiB) is cut by the fast search for any request.
const CUT_AT_ONCE_MAX: u32 = 2 << 12;

impl Heap {
    pub(super) fn free_units(&self) -> u64 {
        self.held_units - self.live_units
    }

    pub(super) fn live_units(&self) -> u64 {
        self.live_units
    }

    /// Returns the units of the largest free node.
    pub(super) fn largest_free(&mut self) -> u32 {
        self.join_last();
        self.bins.highest().map_or(0, |bin| self.in_bin(bin).map(|n| self.nodes[n].units).max().unwrap_or(0))
    }

    /// Makes `units` at a multiple of `align` (a power of two, in units) live.
    #[inline]
    pub(super) fn allocate(&mut self, units: u32, align: u64) -> Option<Placed> {
        if self.last_is_free
            && let Some(entry) = self.nodes.get_mut(self.last)
            && entry.units == units
            && entry.addr & (align - 1) == 0
        {
            entry.mark = entry.mark.next_generation();
            self.last_is_free = false;
            self.live_units += u64::from(units);
            return Some(Placed { node: self.last, generation: entry.mark.generation(), addr: entry.addr });
        }
        let node = self.allocate_other(units, align);
        if node == NIL {
            return None;
        }
        Some(self.placed(node))
    }

    /// Makes another node than the last freed one live. Returns [`NIL`] if none fits.
    #[inline(never)]
    fn allocate_other(&mut self, units: u32, align: u64) -> u32 {
        if std::mem::take(&mut self.last_is_free) {
            self.join(self.last);
        }
        let node = if align == 1 { self.fit_fast(units) } else { self.fit_fast_aligned(units, align) };
        match node {
            Some(node) if !self.may_be_kept(node, units) => self.carve(node, units, align),
            _ => NIL,
        }
    }

    /// Reports whether a free node may be a whole chunk that the pool keeps for larger requests.
    #[inline(always)]
    fn may_be_kept(&self, node: u32, units: u32) -> bool {
        let &Node { units: free, prev, next, .. } = &self.nodes[node];
        free >> self.whole_shift >= units && free > CUT_AT_ONCE_MAX && prev == next
    }

    #[inline]
    fn placed(&self, node: u32) -> Placed {
        let entry = &self.nodes[node];
        Placed { node, generation: entry.mark.generation(), addr: entry.addr }
    }

    /// Like [`allocate`](Self::allocate), but tries every node that could fit before it returns `None`. A node that is
    /// a whole span is cut only if `admits` returns true for its address and units.
    pub(super) fn allocate_thorough(
        &mut self,
        units: u32,
        align: u64,
        admits: impl Fn(u64, u64) -> bool,
    ) -> Option<Placed> {
        self.join_last();
        let node = self.fit_thorough(units, align, admits)?;
        let node = self.carve(node, units, align);
        Some(self.placed(node))
    }

    /// Returns the units of the node that [`allocate_thorough`](Self::allocate_thorough) would cut the request from.
    pub(super) fn room_for(&mut self, units: u32, align: u64, admits: impl Fn(u64, u64) -> bool) -> Option<u32> {
        self.join_last();
        self.fit_thorough(units, align, admits).map(|node| self.nodes[node].units)
    }

    /// Adds `region`, and makes `units` of it live at a multiple of `align`. The region must contain such a place.
    pub(super) fn attach_and_allocate(&mut self, region: Region, units: u32, align: u64) -> Placed {
        let node = self.attach(region);
        let node = self.carve(node, units, align);
        self.placed(node)
    }

    /// Returns the address, units and generation of a live node.
    #[inline]
    pub(super) fn live(&self, number: u32) -> Option<(u64, u32, u16)> {
        let node = self.nodes.get(number)?;
        let free = self.last_is_free && number == self.last;
        (node.mark.is(NodeState::Live) && !free).then_some((node.addr, node.units, node.mark.generation()))
    }

    /// Reports whether a node is live, and no use by another stream is recorded.
    #[inline(always)]
    pub(super) fn is_live(&self, number: u32) -> bool {
        let free = self.last_is_free && number == self.last;
        self.nodes.get(number).is_some_and(|node| node.mark.is(NodeState::Live)) && !free
    }

    /// Marks a live node as used by another stream, or as not used any more.
    pub(super) fn set_used(&mut self, node: u32, used: bool) {
        let state = if used { NodeState::Used } else { NodeState::Live };
        self.nodes[node].mark = self.nodes[node].mark.with(state);
    }

    /// Returns the address, units and generation of a node with a recorded use.
    pub(super) fn used(&self, number: u32) -> Option<(u64, u32, u16)> {
        let node = self.nodes.get(number)?;
        node.mark.is(NodeState::Used).then_some((node.addr, node.units, node.mark.generation()))
    }

    /// Returns the generation of a live node.
    #[inline]
    pub(super) fn generation(&self, node: u32) -> u16 {
        self.nodes[node].mark.generation()
    }

    /// Frees a live node, without joining it with its neighbours yet.
    #[inline(always)]
    pub(super) fn free(&mut self, node: u32) {
        self.live_units -= u64::from(self.nodes[node].units);
        // If the same node is freed again, it is compared and not written. The next allocation then does not stall on
        // the `Block` that it came in: that was written in words and copied in pairs of words, so the processor cannot
        // read it for a while.
        if node != self.last {
            self.join_last();
            self.last = node;
        }
        self.last_is_free = true;
    }

    /// Frees a live node and joins it with its free neighbours at once.
    pub(super) fn free_and_join(&mut self, node: u32) -> Freed {
        self.join_last();
        let units = u64::from(self.nodes[node].units);
        self.live_units -= units;
        let node = self.join_outlined(node);
        let node = &self.nodes[node];
        Freed { units: node.addr..node.end(), alone: node.prev == node.next }
    }

    /// Joins the node freed last with its free neighbours.
    fn join_last(&mut self) {
        if std::mem::take(&mut self.last_is_free) {
            self.join_outlined(self.last);
        }
    }

    #[inline(never)]
    fn join_outlined(&mut self, node: u32) -> u32 {
        self.join(node)
    }

    /// The fast search: a few nodes of the bin of `units`, or else any node of a larger bin.
    #[inline]
    fn fit_fast(&self, units: u32) -> Option<u32> {
        let bin = bin_of(units);
        let mut at = self.bins.head(bin);
        for _ in 0..SCAN {
            if at == NIL {
                break;
            }
            let node = &self.nodes[at];
            if node.units >= units {
                return Some(at);
            }
            at = node.bin_next;
        }
        self.bins.at_or_above(bin + 1).map(|bin| self.bins.head(bin))
    }

    #[inline(never)]
    fn fit_fast_aligned(&self, units: u32, align: u64) -> Option<u32> {
        let padded = u32::try_from(u64::from(units) + align - 1).ok()?;
        self.bins.at_or_above(bin_of(padded) + 1).map(|bin| self.bins.head(bin))
    }

    fn fit_thorough(&self, units: u32, align: u64, admits: impl Fn(u64, u64) -> bool) -> Option<u32> {
        let mut bin = self.bins.at_or_above(bin_of(units));
        while let Some(at) = bin {
            let fits = self.in_bin(at).find(|&n| {
                let node = &self.nodes[n];
                align_up(node.addr, align) + u64::from(units) <= node.end()
                    && (node.prev != node.next || admits(node.addr, u64::from(node.units)))
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
            let next = self.nodes[n].bin_next;
            (next != NIL).then_some(next)
        })
    }

    /// Makes `units` of a free node live, at a multiple of `align` that the node contains. The memory before and after
    /// stays free. The free node shrinks in place, mostly without changing its bin.
    #[inline(always)]
    fn carve(&mut self, node: u32, units: u32, align: u64) -> u32 {
        // Read field by field, because copying a node that has just been written would stall the processor.
        let &Node { addr, units: free, prev, mark, .. } = &self.nodes[node];
        self.live_units += u64::from(units);
        let front = (align_up(addr, align) - addr) as u32;
        if front > 0 {
            return self.carve_after(node, front, units);
        }
        if free == units {
            self.unbin(node, bin_of(units));
            let entry = &mut self.nodes[node];
            entry.mark = entry.mark.next_generation();
            return node;
        }
        let live = self.nodes.add(addr, units, mark.is_boundary(), NodeState::Live);
        self.nodes.link(prev, live);
        self.nodes.link(live, node);
        let rest = &mut self.nodes[node];
        rest.addr = addr + u64::from(units);
        rest.mark = mark.with_boundary(false);
        self.resize(node, free, free - units);
        live
    }

    /// Like [`carve`](Self::carve), but leaves `front` units free before the live node.
    #[inline(never)]
    fn carve_after(&mut self, node: u32, front: u32, units: u32) -> u32 {
        let &Node { addr, units: free, next, .. } = &self.nodes[node];
        let start = addr + u64::from(front);
        let live = self.nodes.add(start, units, false, NodeState::Live);
        self.nodes.link(live, next);
        self.nodes.link(node, live);
        let behind = free - front - units;
        if behind > 0 {
            let rest = self.nodes.add(start + u64::from(units), behind, false, NodeState::Free);
            self.nodes.link(rest, next);
            self.nodes.link(live, rest);
            self.bin(rest, bin_of(behind));
        }
        self.resize(node, free, front);
        live
    }

    /// Turns a live node into free memory and joins it with its free neighbours. Returns the node that now holds the
    /// memory.
    #[inline(always)]
    fn join(&mut self, node: u32) -> u32 {
        let &Node { addr, units, prev, mut next, mark, .. } = &self.nodes[node];
        if let Some((before, mut total)) = self.sum_if_free(prev, units) {
            if let Some((after, all)) = self.sum_if_free(next, total) {
                self.unbin(next, bin_of(after));
                self.nodes.remove(next);
                next = self.nodes[next].next;
                total = all;
            }
            self.nodes.link(prev, next);
            self.nodes.remove(node);
            self.resize(prev, before, total);
            return prev;
        }
        if let Some((after, total)) = self.sum_if_free(next, units) {
            self.nodes.link(prev, next);
            self.nodes.remove(node);
            let joined = &mut self.nodes[next];
            joined.addr = addr;
            joined.mark = joined.mark.with_boundary(mark.is_boundary());
            self.resize(next, after, total);
            return next;
        }
        self.nodes[node].mark = mark.with(NodeState::Free);
        self.bin(node, bin_of(units));
        node
    }

    /// Returns the units of a free neighbour, and the sum of both. A node counts its units in 32 bits: if the sum does
    /// not fit, the neighbours stay apart.
    #[inline]
    fn sum_if_free(&self, neighbour: u32, units: u32) -> Option<(u32, u32)> {
        let neighbour = &self.nodes[neighbour];
        if neighbour.mark.is(NodeState::Free) {
            Some((neighbour.units, units.checked_add(neighbour.units)?))
        } else {
            None
        }
    }

    /// Changes the size of a free node, and its bin if necessary.
    #[inline(always)]
    fn resize(&mut self, node: u32, from: u32, to: u32) {
        let (old, new) = (bin_of(from), bin_of(to));
        if old != new {
            self.unbin(node, old);
            self.bin(node, new);
        }
        self.nodes[node].units = to;
    }

    #[inline(always)]
    fn bin(&mut self, node: u32, bin: u32) {
        let head = self.bins.head(bin);
        let entry = &mut self.nodes[node];
        entry.bin_prev = NIL;
        entry.bin_next = head;
        self.nodes[head].bin_prev = node;
        self.bins.push(bin, node);
    }

    #[inline(always)]
    fn unbin(&mut self, node: u32, bin: u32) {
        let &Node { bin_prev, bin_next, .. } = &self.nodes[node];
        self.nodes[bin_next].bin_prev = bin_prev;
        self.nodes[bin_prev].bin_next = bin_next;
        if bin_prev == NIL {
            self.bins.pop(bin, bin_next);
        }
    }
}

#[cfg(test)]
mod tests;
