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

    /// The driver's order of preference, without thrashing and access counters.
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
}
