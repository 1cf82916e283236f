//! Memory that enters and leaves a heap, and the iterators over it. Only this file searches nodes by address.
#![forbid(unsafe_code)]

use super::data::Heap;
use super::nodes::{Node, NodeState};
use crate::pool::units::Region;

impl Heap {
    /// Adds free memory. Returns the number of the free node that now holds it.
    pub(in crate::pool) fn attach(&mut self, region: Region) -> u32 {
        let Region { addr, units, boundary } = region;
        let end = addr + u64::from(units);
        let left = self
            .spans
            .range(..addr)
            .next_back()
            .map(|(_, &edge)| edge)
            .filter(|&edge| !boundary && self.nodes[self.nodes[edge].prev].end() == addr);
        let right = self.spans.get(&end).copied().filter(|&edge| !self.nodes[self.nodes[edge].next].mark.is_boundary());
        let new = self.nodes.add(addr, units, boundary, NodeState::Live);
        self.held_units += u64::from(units);
        match (left, right) {
            (None, None) => {
                let edge = self.nodes.add(addr, 0, true, NodeState::Edge);
                self.nodes.link(edge, new);
                self.nodes.link(new, edge);
                self.spans.insert(addr, edge);
            }
            (Some(edge), None) => {
                self.nodes.link(self.nodes[edge].prev, new);
                self.nodes.link(new, edge);
            }
            (None, Some(edge)) => {
                self.nodes.link(new, self.nodes[edge].next);
                self.nodes.link(edge, new);
                self.spans.remove(&end);
                self.spans.insert(addr, edge);
            }
            (Some(edge), Some(gone)) => {
                self.nodes.link(self.nodes[edge].prev, new);
                self.nodes.link(new, self.nodes[gone].next);
                self.nodes.link(self.nodes[gone].prev, edge);
                self.spans.remove(&end);
                self.nodes.remove(gone);
            }
        }
        self.join_outlined(new)
    }

    /// Removes a free piece that has room for `units` at a multiple of `align`: exactly these units, or, without an
    /// alignment, the whole piece if it is at most about twice as large, because the rest would be of little use.
    /// A piece that is a whole span is cut only if `admits` returns true for its address and units.
    pub(in crate::pool) fn take(
        &mut self,
        units: u32,
        align: u64,
        admits: impl Fn(u64, u64) -> bool,
    ) -> Option<Region> {
        self.join_last();
        let node = self.fit_thorough(units, align, admits)?;
        let all = self.nodes[node].units;
        let whole = align == 1 && all / 2 <= units;
        let piece = self.carve(node, if whole { all } else { units }, align);
        Some(self.detach(piece))
    }

    /// Removes a live node. The caller owns its memory.
    pub(in crate::pool) fn detach(&mut self, node: u32) -> Region {
        let &Node { addr, units, prev, next, mark, .. } = &self.nodes[node];
        let (&start, &edge) = self.spans.range(..=addr).next_back().expect("every node is in a span");
        match (prev == edge, next == edge) {
            (true, true) => {
                self.spans.remove(&start);
                self.nodes.remove(edge);
            }
            (true, false) => {
                self.nodes.link(edge, next);
                self.spans.remove(&start);
                self.spans.insert(self.nodes[next].addr, edge);
            }
            (false, true) => self.nodes.link(prev, edge),
            (false, false) => {
                let last = self.nodes[edge].prev;
                self.nodes.link(prev, edge);
                let right = self.nodes.add(addr, 0, true, NodeState::Edge);
                self.nodes.link(right, next);
                self.nodes.link(last, right);
                self.spans.insert(self.nodes[next].addr, right);
            }
        }
        self.held_units -= u64::from(units);
        self.live_units -= u64::from(units);
        self.nodes.remove(node);
        Region { addr, units, boundary: mark.is_boundary() }
    }

    /// Iterates over all memory of the heap in no order: address, units, and whether it is live.
    pub(in crate::pool) fn pieces(&mut self) -> impl Iterator<Item = (u64, u32, bool)> {
        self.join_last();
        let pieces = self.nodes.iter().filter(|node| {
            [NodeState::Live, NodeState::Used, NodeState::Free].iter().any(|&state| node.mark.is(state))
        });
        pieces.map(|node| (node.addr, node.units, !node.mark.is(NodeState::Free)))
    }

    /// Iterates over the units of each live node, in no order.
    pub(in crate::pool) fn live_sizes(&self) -> impl Iterator<Item = u32> {
        (0..self.nodes.len()).filter_map(|node| self.live(node).or_else(|| self.used(node))).map(|(_, units, _)| units)
    }

    /// Removes all free memory.
    pub(in crate::pool) fn drain(&mut self) -> Vec<Region> {
        self.join_last();
        let mut regions = Vec::new();
        while let Some(bin) = self.bins.highest() {
            let node = self.bins.head(bin);
            let (units, align) = (self.nodes[node].units, 1);
            let whole = self.carve(node, units, align);
            regions.push(self.detach(whole));
        }
        regions
    }
}
