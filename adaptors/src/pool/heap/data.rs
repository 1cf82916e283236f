//! [`Heap`], its fields, and the types that its methods return.
#![forbid(unsafe_code)]

use super::bins::{Bins, NIL};
use super::nodes::Nodes;
use std::collections::BTreeMap;
use std::ops::Range;

/// A node that has just become live.
#[derive(Debug, Clone, Copy)]
pub(in crate::pool) struct Placed {
    pub(in crate::pool) node: u32,
    pub(in crate::pool) generation: u16,
    pub(in crate::pool) addr: u64,
}

/// The free memory that contains a block that was just freed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pool) struct Freed {
    pub(in crate::pool) units: Range<u64>,
    /// The span contains nothing else.
    pub(in crate::pool) alone: bool,
}

/// A TLSF allocator over one stream's memory; see `pool/heap.rs`.
#[derive(Debug)]
pub(in crate::pool) struct Heap {
    pub(super) nodes: Nodes,
    pub(super) bins: Bins,
    /// The node freed last.
    pub(super) last: u32,
    /// `last` is free although its node is still marked live. The mark is not written because the next allocation
    /// usually reuses the node at once and would stall on that write.
    pub(super) last_is_free: bool,
    pub(super) spans: BTreeMap<u64, u32>,
    /// Live and free units.
    pub(super) held_units: u64,
    pub(super) live_units: u64,
    /// See [`Heap::new`].
    pub(super) whole_shift: u32,
}

impl Heap {
    /// Creates an empty heap. The fast search does not cut a span that is one free node, and may thus be a whole chunk,
    /// for a request of at most the span's units shifted right by `whole_shift`. The pool decides whether such
    /// a chunk is cut.
    pub(in crate::pool) const fn new(whole_shift: u32) -> Self {
        Self {
            nodes: Nodes::new(),
            bins: Bins::new(),
            last: NIL,
            last_is_free: false,
            spans: BTreeMap::new(),
            held_units: 0,
            live_units: 0,
            whole_shift,
        }
    }
}
