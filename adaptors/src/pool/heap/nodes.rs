//! [`Nodes`]: the table of a heap's nodes.
#![forbid(unsafe_code)]

use super::bins::NIL;
use std::ops::{Index, IndexMut};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum NodeState {
    Vacant,
    Live,
    /// Live, with a recorded use. The fast paths do not take such a node for a live one.
    Used,
    Free,
    Edge,
}

/// A node's state, whether a boundary lies at its start, and how often its number has been used. All three are in one
/// word, which is written and read as a whole: reading a word that was written in parts stalls the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u32);

const STATE: u32 = 0xff;
const BOUNDARY: u32 = 1 << 8;
const GENERATION: u32 = u16::BITS;

impl Mark {
    #[inline]
    pub(super) fn is(self, state: NodeState) -> bool {
        self.0 & STATE == state as u32
    }

    #[inline]
    pub(super) fn is_boundary(self) -> bool {
        self.0 & BOUNDARY != 0
    }

    #[inline]
    pub(super) fn generation(self) -> u16 {
        (self.0 >> GENERATION) as u16
    }

    /// Returns the mark with another state.
    #[inline]
    pub(super) fn with(self, state: NodeState) -> Self {
        Self(self.0 & !STATE | state as u32)
    }

    #[inline]
    pub(super) fn with_boundary(self, boundary: bool) -> Self {
        Self(if boundary { self.0 | BOUNDARY } else { self.0 & !BOUNDARY })
    }

    /// Returns the mark as live, with the next generation.
    #[inline]
    pub(super) fn next_generation(self) -> Self {
        Self(self.0.wrapping_add(1 << GENERATION)).with(NodeState::Live)
    }
}

/// A range of memory: its address, its neighbours in the span, and its neighbours in the bin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) addr: u64,
    pub(super) units: u32,
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) bin_prev: u32,
    pub(super) bin_next: u32,
    pub(super) mark: Mark,
}

const _: () = assert!(size_of::<Node>() == 32, "two nodes share a cache line");

impl Node {
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.addr + u64::from(self.units)
    }
}

/// The nodes by number. Numbers of removed nodes are reused, the last removed first.
#[derive(Debug)]
pub(super) struct Nodes {
    entries: Vec<Node>,
    vacant: u32,
}

impl Nodes {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), vacant: NIL }
    }

    #[inline]
    pub(super) fn get(&self, node: u32) -> Option<&Node> {
        self.entries.get(node as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, node: u32) -> Option<&mut Node> {
        self.entries.get_mut(node as usize)
    }

    /// Returns the number of table entries, including [`NIL`] and removed nodes.
    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Iterates over all table entries, including removed nodes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.entries.iter()
    }

    /// Adds a node without neighbours, and returns its number.
    #[inline]
    pub(super) fn add(&mut self, addr: u64, units: u32, boundary: bool, state: NodeState) -> u32 {
        if self.vacant == NIL {
            return self.grow(addr, units, boundary, state);
        }
        let node = self.vacant;
        let entry = &mut self[node];
        entry.addr = addr;
        entry.units = units;
        entry.mark = entry.mark.next_generation().with(state).with_boundary(boundary);
        self.vacant = entry.bin_next;
        node
    }

    #[cold]
    fn grow(&mut self, addr: u64, units: u32, boundary: bool, state: NodeState) -> u32 {
        if self.entries.is_empty() {
            // The entry of [`NIL`].
            let mark = Mark(0).with(NodeState::Vacant);
            self.entries.push(Node { addr: 0, units: 0, prev: NIL, next: NIL, bin_prev: NIL, bin_next: NIL, mark });
        }
        let node = u32::try_from(self.entries.len()).expect("2^32 nodes in one heap");
        let mark = Mark(0).with(state).with_boundary(boundary);
        if self.entries.len() == self.entries.capacity() {
            // Grows by an eighth, where a vector would double, because unused entries count as bookkeeping too.
            self.entries.reserve_exact((self.entries.len() / 8).max(32));
        }
        self.entries.push(Node { addr, units, prev: NIL, next: NIL, bin_prev: NIL, bin_next: NIL, mark });
        node
    }

    #[inline]
    pub(super) fn remove(&mut self, node: u32) {
        let vacant = self.vacant;
        let entry = &mut self[node];
        entry.mark = entry.mark.with(NodeState::Vacant);
        entry.bin_next = vacant;
        self.vacant = node;
    }

    /// Makes two nodes neighbours.
    #[inline]
    pub(super) fn link(&mut self, before: u32, after: u32) {
        self[before].next = after;
        self[after].prev = before;
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    #[inline]
    fn index(&self, node: u32) -> &Node {
        &self.entries[node as usize]
    }
}

impl IndexMut<u32> for Nodes {
    #[inline]
    fn index_mut(&mut self, node: u32) -> &mut Node {
        &mut self.entries[node as usize]
    }
}
