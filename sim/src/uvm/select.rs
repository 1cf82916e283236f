//! Where a page goes that somebody faulted on (`block_select_processor_residency`).

use super::block::Block;
use super::policy::Policy;
use super::space::{Processor, Space};

/// What a fault leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// The page moves there; other copies end.
    Move(Processor),
    /// A copy is made there.
    Duplicate(Processor),
    /// The page stays, and the faulting processor maps it.
    Stay,
}

impl Space {
    /// Whether `by` can use memory of `at` where it is.
    pub(super) fn can_map(&self, by: Processor, at: Processor) -> bool {
        match (by.gpu(), at.gpu()) {
            _ if by == at => true,
            (_, None) => true,
            (None, Some(at)) => self.gpus[at].config.mapped_by_host,
            (Some(by), Some(at)) => self.gpus[by].config.peers && self.gpus[at].config.peers,
        }
    }

    /// The driver's order of preference, without access counters, which it does not use where the device has no access
    /// to the host's page tables.
    pub(super) fn select(
        &self,
        policy: &Policy,
        block: &Block,
        page: usize,
        by: Processor,
        write: bool,
    ) -> Destination {
        let holder = block.holder(page);
        if policy.read_mostly && !write {
            return Destination::Duplicate(by);
        }
        let copies = block.processors().filter(|p| block.resident(*p).contains(page)).count();
        if copies > 1 && write {
            return Destination::Move(by);
        }
        let preferred = policy.preferred.map(|preferred| preferred.processor);
        if preferred == Some(by) {
            return Destination::Move(by);
        }
        let preferred = preferred.filter(|at| self.can_map(by, *at));
        let Some(holder) = holder else {
            return Destination::Move(preferred.unwrap_or(by));
        };
        if policy.accessed_by.contains(by) && self.can_map(by, holder) {
            return Destination::Stay;
        }
        match preferred {
            Some(at) if at == holder => Destination::Stay,
            Some(at) => Destination::Move(at),
            None => Destination::Move(by),
        }
    }

    /// Where a page stays that was fought over, if there is such a place: where all who fought reach it. One with a
    /// preferred location that not all of them reach goes on moving.
    pub(super) fn pinned(&self, policy: &Policy, block: &Block, page: usize, by: Processor) -> Option<Destination> {
        let fighters = block.thrashing.processors(page);
        let all_reach = |at| block.processors().filter(|p| fighters.contains(*p)).all(|p| self.can_map(p, at));
        let holder = block.holder(page)?;
        let home = match policy.preferred.map(|preferred| preferred.processor) {
            Some(preferred) if all_reach(preferred) => preferred,
            Some(_) => return None,
            None if block.thrashing.pinned().contains(page) && self.can_map(by, holder) => holder,
            // A link with atomics, over which the host maps device memory too.
            None if self.gpus.iter().all(|gpu| gpu.config.mapped_by_host) && all_reach(holder) => holder,
            None => by,
        };
        Some(if home == holder && by != holder { Destination::Stay } else { Destination::Move(home) })
    }
}
