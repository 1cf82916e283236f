//! Selection of the processor to which a fault moves a page (`block_select_processor_residency`).

use super::block::Block;
use super::ids::Processor;
use super::policy::Policy;
use super::space::Space;

/// The effect of a fault on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// The page moves to this processor; other copies are dropped.
    Move(Processor),
    /// This processor gets a copy.
    Duplicate(Processor),
    /// The page stays, and the faulting processor maps it.
    Stay,
}

impl Space {
    /// Reports whether `by` can map memory that is resident on `at`.
    pub(super) fn can_map(&self, by: Processor, at: Processor) -> bool {
        match (by.gpu(), at.gpu()) {
            _ if by == at => true,
            (_, None) => true,
            (None, Some(at)) => self.gpus[at].config.mapped_by_host,
            (Some(by), Some(at)) => self.gpus[by].config.peers && self.gpus[at].config.peers,
        }
    }

    /// Selects the destination of `page` in the driver's order of preference. Access counters are left out, because the
    /// driver does not use them on a device without access to the host's page tables.
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

    /// Returns the destination of a thrashing page that is to be pinned, or `None` if the page keeps moving.
    ///
    /// - With a preferred location, the page goes there if all contending processors can map it; else it keeps moving.
    /// - Without one, a page that is already pinned stays with its holder if the faulting processor can map it there.
    /// - It also stays if the host can map all device memory and all contending processors can map the holder's memory.
    /// - Otherwise the page moves to the faulting processor.
    pub(super) fn pinned(&self, policy: &Policy, block: &Block, page: usize, by: Processor) -> Option<Destination> {
        let contenders = block.thrashing.processors(page);
        let all_reach = |at| block.processors().filter(|p| contenders.contains(*p)).all(|p| self.can_map(p, at));
        let holder = block.holder(page)?;
        let home = match policy.preferred.map(|preferred| preferred.processor) {
            Some(preferred) if all_reach(preferred) => preferred,
            Some(_) => return None,
            None if block.thrashing.pinned().contains(page) && self.can_map(by, holder) => holder,
            // All links have atomics, so the host maps device memory, too.
            None if self.gpus.iter().all(|gpu| gpu.config.mapped_by_host) && all_reach(holder) => holder,
            None => by,
        };
        Some(if home == holder && by != holder { Destination::Stay } else { Destination::Move(home) })
    }
}
