//! [`Chunks`]: the device memory that unified memory holds, in the order in which it would be taken back.

use super::space::BlockId;

/// The chunk of one block.
pub(super) type ChunkId = u32;

const NONE: u32 = u32::MAX;

/// Which list a chunk is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Allocated, with nothing resident: taken first.
    Unused = 0,
    /// With nothing but pages that were discarded.
    Discarded = 1,
    /// With pages.
    Used = 2,
}

/// Three lists in the order of last allocation or fault; an access that finds its page does not count.
#[derive(Debug)]
pub(super) struct Chunks {
    nodes: Vec<Node>,
    vacant: Vec<ChunkId>,
    ends: [Ends; 3],
}

#[derive(Debug)]
struct Node {
    block: BlockId,
    list: Use,
    earlier: u32,
    later: u32,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { nodes: Vec::new(), vacant: Vec::new(), ends: [Ends { first: NONE, last: NONE }; 3] }
    }
}

impl Chunks {
    /// A new chunk, last of the used.
    pub(super) fn add(&mut self, block: BlockId) -> ChunkId {
        let node = Node { block, list: Use::Used, earlier: NONE, later: NONE };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.append(id, Use::Used);
        id
    }

    pub(super) fn remove(&mut self, id: ChunkId) {
        self.unlink(id);
        self.vacant.push(id);
    }

    /// Makes it the last of a list.
    pub(super) fn move_to(&mut self, id: ChunkId, list: Use) {
        self.unlink(id);
        self.append(id, list);
    }

    pub(super) fn list(&self, id: ChunkId) -> Use {
        self.nodes[id as usize].list
    }

    /// The block whose chunk is taken next, other than `except`.
    pub(super) fn victim(&self, except: BlockId) -> Option<BlockId> {
        self.ends.iter().find_map(|ends| {
            let mut at = ends.first;
            while at != NONE {
                let node = &self.nodes[at as usize];
                if node.block != except {
                    return Some(node.block);
                }
                at = node.later;
            }
            None
        })
    }

    fn append(&mut self, id: ChunkId, list: Use) {
        let ends = &mut self.ends[list as usize];
        let earlier = std::mem::replace(&mut ends.last, id);
        if earlier == NONE {
            ends.first = id;
        } else {
            self.nodes[earlier as usize].later = id;
        }
        let node = &mut self.nodes[id as usize];
        (node.list, node.earlier, node.later) = (list, earlier, NONE);
    }

    fn unlink(&mut self, id: ChunkId) {
        let Node { list, earlier, later, .. } = self.nodes[id as usize];
        let ends = &mut self.ends[list as usize];
        if earlier == NONE {
            ends.first = later;
        } else {
            self.nodes[earlier as usize].later = later;
        }
        if later == NONE {
            self.ends[list as usize].last = earlier;
        } else {
            self.nodes[later as usize].earlier = earlier;
        }
    }
}
