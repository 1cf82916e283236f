//! [`Chunks`]: the device memory that backs managed memory, in eviction order.

use super::ids::BlockId;

/// The index of a chunk. A chunk backs one block.
pub(super) type ChunkId = u32;

const NONE: u32 = u32::MAX;

/// The eviction list of a chunk. Chunks are evicted from the first list that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictionList {
    /// No page of the block is resident in the chunk.
    Unused = 0,
    /// All resident pages are discarded.
    Discarded = 1,
    /// Some resident pages are in use.
    Used = 2,
}

/// Three eviction lists, each ordered by the last allocation or fault. An access without a fault does not reorder them.
#[derive(Debug)]
pub(super) struct Chunks {
    nodes: Vec<Node>,
    vacant: Vec<ChunkId>,
    ends: [Ends; 3],
}

#[derive(Debug)]
struct Node {
    block: BlockId,
    list: EvictionList,
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
    /// Adds a chunk for `block` at the end of the used list.
    pub(super) fn add(&mut self, block: BlockId) -> ChunkId {
        let node = Node { block, list: EvictionList::Used, earlier: NONE, later: NONE };
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
        self.append(id, EvictionList::Used);
        id
    }

    pub(super) fn remove(&mut self, id: ChunkId) {
        self.unlink(id);
        self.vacant.push(id);
    }

    /// Moves a chunk to the end of a list.
    pub(super) fn move_to(&mut self, id: ChunkId, list: EvictionList) {
        self.unlink(id);
        self.append(id, list);
    }

    pub(super) fn list(&self, id: ChunkId) -> EvictionList {
        self.nodes[id as usize].list
    }

    /// Returns the block whose chunk is evicted next. The chunk of block `except` is never chosen.
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

    fn append(&mut self, id: ChunkId, list: EvictionList) {
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
