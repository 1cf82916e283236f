//! [`Uses`]: the streams that use the blocks of one heap, besides the stream that frees them.
#![forbid(unsafe_code)]

use cumem::Stream;
use cumem::device::KeptStream;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// The streams of one block's uses.
pub(super) type Streams = SmallVec<[KeptStream; 2]>;

/// The uses of a heap's live blocks, by node.
#[derive(Debug)]
pub(super) struct Uses(BTreeMap<u32, Streams>);

impl Uses {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, node: u32, stream: &Stream) {
        let streams = self.0.entry(node).or_default();
        if streams.iter().all(|known| known.id() != stream.id()) {
            streams.push(stream.keep());
        }
    }

    pub(super) fn get(&self, node: u32) -> Streams {
        self.0.get(&node).cloned().unwrap_or_default()
    }

    pub(super) fn remove(&mut self, node: u32) -> Option<Streams> {
        self.0.remove(&node)
    }
}
