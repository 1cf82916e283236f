//! The records of each operation: in the journal, for the watchers, in the statistics and in the snapshots.
#![forbid(unsafe_code)]

use super::journal::JournalEvent;
use super::memory::{Allocation, AllocationKind};
use super::snapshots::{Resident, Snapshot, Snapshots};
use super::state::MachineState;
use super::uvm::{BLOCK, MigrationStep, MigrationWork, PAGE, Processor, pages_of};
use cumem_driver::{Location, Movement};
use std::time::Duration;

impl MachineState {
    /// Creates the counters for work on unified memory. They collect the single steps if a list is kept or a watcher
    /// exists.
    pub(super) fn new_work(&self) -> MigrationWork {
        let wanted = self.journal.recording() || !self.watchers.is_empty();
        MigrationWork { steps: wanted.then(Vec::new), ..MigrationWork::default() }
    }

    /// Passes the steps of `work` to the watchers, and records them.
    pub(super) fn record_steps(&mut self, at: u64, work: &mut MigrationWork) {
        self.notify_watchers(work);
        for step in work.steps.take().into_iter().flatten() {
            let event = match step {
                MigrationStep::Fault { by, range, page } => JournalEvent::Fault {
                    by: self.location(by),
                    allocation: self.memory.serial_of(range),
                    offset: page * PAGE,
                },
                MigrationStep::Eviction { .. } => continue,
                MigrationStep::Transfer { from, to, range, page, pages, .. } => JournalEvent::Transfer {
                    from: self.location(from),
                    to: self.location(to),
                    allocation: self.memory.serial_of(range),
                    offset: page * PAGE,
                    bytes: pages * PAGE,
                },
            };
            self.journal.add(at, event);
        }
    }

    /// Returns the public name of a processor.
    pub(super) fn location(&self, processor: Processor) -> Location {
        match processor.gpu() {
            None => Location::Host,
            Some(gpu) => Location::Device(self.devices[gpu].id),
        }
    }

    pub(super) fn record_allocation(&mut self, allocation: u64, bytes: u64) {
        self.journal.mix(allocation ^ bytes.rotate_left(32));
        self.journal.add(self.now, JournalEvent::Allocated { allocation, bytes });
        self.snapshot_if_due();
    }

    pub(super) fn record_free(&mut self, allocation: u64) {
        self.journal.mix(!allocation);
        self.journal.add(self.now, JournalEvent::Freed { allocation });
        self.snapshot_if_due();
    }

    /// Notifies the watchers of the movements of unified memory in `work`.
    pub(super) fn notify_watchers(&mut self, work: &MigrationWork) {
        if self.watchers.is_empty() {
            return;
        }
        let movement = |step: &MigrationStep| match *step {
            MigrationStep::Fault { by, range, page } => {
                Movement::Fault { by: self.location(by), addr: self.memory.base_of(range) + page * PAGE, bytes: PAGE }
            }
            MigrationStep::Transfer { cause, from, to, range, page, pages } => Movement::Migrated {
                cause,
                from: self.location(from),
                to: self.location(to),
                addr: self.memory.base_of(range) + page * PAGE,
                bytes: pages * PAGE,
            },
            MigrationStep::Eviction { range, page } => {
                Movement::Evicted { addr: self.memory.base_of(range) + page * PAGE, bytes: BLOCK }
            }
        };
        let movements: Vec<_> = work.steps.iter().flatten().map(movement).collect();
        self.watchers.notify(movements);
    }

    /// Adds `work`, which processor `by` did for or on device `d`.
    pub(super) fn add_statistics(&mut self, d: u32, by: Processor, work: &MigrationWork) {
        let used = self.profile(d).capacity.value as u64 - self.space.free_bytes(d);
        let statistics = &mut self.devices[d as usize].statistics;
        statistics.peak_used = statistics.peak_used.max(used);
        match by {
            Processor::HOST => statistics.host_faults += work.faults,
            _ => {
                statistics.faults += work.faults;
                statistics.fault_batches += work.batches;
            }
        }
        statistics.throttles += work.throttles;
        statistics.pinned += work.pinned;
        statistics.migrations += work.copies();
        statistics.migrated_to_device += work.to_device.bytes;
        statistics.migrated_to_host += work.to_host.bytes;
        statistics.migrated_from_peers += work.peer.bytes;
        statistics.populated += work.populated;
        statistics.evictions += work.evictions;
        statistics.evicted += work.evicted;
        statistics.collapsed += work.collapsed;
        statistics.accessed_remotely += work.remote;
        let moved = [work.to_device.bytes, work.to_host.bytes, work.peer.bytes, work.copies(), work.populated];
        for value in [work.faults, work.batches, work.throttles, work.evictions].into_iter().chain(moved) {
            self.journal.mix(value);
        }
        self.snapshot_if_due();
    }
}

impl MachineState {
    pub(super) fn keep_snapshots(&mut self, on: bool) {
        self.snapshots = on.then(Snapshots::default);
    }

    /// Returns the kept snapshots, and one of the present state.
    pub(super) fn take_snapshots(&mut self) -> Vec<Snapshot> {
        let Some(kept) = &mut self.snapshots else { return Vec::new() };
        let mut taken = std::mem::take(kept).taken;
        taken.push(self.snapshot());
        taken
    }

    /// Takes a snapshot if one is due. Called whenever memory was allocated, freed or moved.
    pub(super) fn snapshot_if_due(&mut self) {
        let now = self.now.max(self.time);
        if self.snapshots.as_ref().is_some_and(|snapshots| now >= snapshots.due) {
            let snapshot = self.snapshot();
            self.snapshots.as_mut().into_iter().for_each(|snapshots| snapshots.add(snapshot.clone(), now));
        }
    }

    fn snapshot(&self) -> Snapshot {
        let has_memory = |allocation: &&Allocation| !matches!(allocation.kind, AllocationKind::Alias(_));
        let resident = |allocation: &Allocation| {
            let mut on = vec![0; self.devices.len() + 1];
            let kind = match allocation.kind {
                AllocationKind::Managed(range) => {
                    on = self.space.resident_bytes(range, pages_of(0, allocation.bytes)).0;
                    "managed"
                }
                AllocationKind::Pinned => {
                    on[0] = allocation.counted;
                    "pinned"
                }
                plain => {
                    on[allocation.device as usize + 1] = allocation.counted;
                    match plain {
                        AllocationKind::Segment(_) => "pool",
                        AllocationKind::Mapped(_) => "mapped",
                        _ => "device",
                    }
                }
            };
            let (on_host, on_devices) = (on[0], on[1..].to_vec());
            Resident { allocation: allocation.serial, kind, bytes: allocation.bytes, on_host, on_devices }
        };
        let mut allocations: Vec<_> = self.memory.allocations().filter(has_memory).map(resident).collect();
        allocations.sort_unstable_by_key(|resident| resident.allocation);
        Snapshot { at: Duration::from_nanos(self.now.max(self.time)), allocations }
    }
}
