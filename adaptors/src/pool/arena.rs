//! [`Arena`]: the memory that no stream's heap holds, by address, each piece with its fences.
//!
//! Not on the common path: heaps come here when they have nothing that fits. So it is a plain ordered map,
//! with the sizes beside it for the best fit.
#![forbid(unsafe_code)]

use super::fence::Fences;
use super::request::{Need, Taken};
use super::units::{REGION_MAX, Region, align_up};
use cumem::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

#[derive(Debug)]
struct Lot {
    units: u64,
    head: bool,
    fences: Fences,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Arena {
    lots: BTreeMap<u64, Lot>,
    by_size: BTreeSet<(u64, u64)>,
    units: u64,
}

impl Arena {
    pub(super) fn units(&self) -> u64 {
        self.units
    }

    /// How many pieces there are.
    pub(super) fn count(&self) -> usize {
        self.lots.len()
    }

    pub(super) fn largest(&self) -> u64 {
        self.by_size.last().map_or(0, |&(units, _)| units)
    }

    /// The pieces, by address, each with whether every stream may use it at once.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (u64, u64, bool)> {
        self.lots.iter().map(|(&addr, lot)| (addr, lot.units, lot.fences.are_reached()))
    }

    /// Takes memory in. It joins neighbours that wait for the same fences.
    pub(super) fn insert(&mut self, addr: u64, units: u64, head: bool, fences: Fences) {
        if units == 0 {
            return;
        }
        self.units += units;
        let (mut addr, mut units, mut head) = (addr, units, head);
        let before = self.lots.range(..addr).next_back();
        if let Some((&start, lot)) = before
            && !head
            && start + lot.units == addr
            && lot.fences.same(&fences)
        {
            (addr, units, head) = (start, units + lot.units, lot.head);
            self.forget(start);
        }
        let end = addr + units;
        if let Some(lot) = self.lots.get(&end)
            && !lot.head
            && lot.fences.same(&fences)
        {
            units += lot.units;
            self.forget(end);
        }
        self.by_size.insert((units, addr));
        self.lots.insert(addr, Lot { units, head, fences });
    }

    /// Takes a region in.
    pub(super) fn insert_region(&mut self, region: Region, fences: Fences) {
        self.insert(region.addr, u64::from(region.units), region.head, fences);
    }

    /// Takes the smallest piece that serves `need` and that `stream` may use without waiting; or any, if
    /// it may `wait`.
    pub(super) fn take(&mut self, need: Need, stream: StreamId, wait: bool) -> Option<Taken> {
        let units = u64::from(need.units);
        let (_, addr) = self.by_size.range((units, 0)..).copied().find(|&(size, addr)| {
            let lot = &self.lots[&addr];
            align_up(addr, need.align) + units <= addr + size && (wait || lot.fences.pass(stream))
        })?;
        Some(self.cut(addr, need))
    }

    /// Takes everything that `stream` may use without waiting.
    pub(super) fn take_all(&mut self, stream: StreamId) -> Vec<Region> {
        let mut regions = Vec::new();
        let passable: Vec<u64> =
            self.lots.iter().filter(|(_, lot)| lot.fences.pass(stream)).map(|(&addr, _)| addr).collect();
        for mut addr in passable {
            let lot = self.forget(addr).expect("just seen");
            self.units -= lot.units;
            let (mut units, mut head) = (lot.units, lot.head);
            while units > 0 {
                let part = units.min(REGION_MAX);
                regions.push(Region { addr, units: part as u32, head });
                (addr, units, head) = (addr + part, units - part, false);
            }
        }
        regions
    }

    /// Takes the lowest run of touching pieces that together serve `need`, whatever they wait for.
    pub(super) fn take_run(&mut self, need: Need) -> Option<Taken> {
        let mut run = 0..0;
        let found = self.lots.iter().find_map(|(&addr, lot)| {
            if addr != run.end || lot.head {
                run.start = addr;
            }
            run.end = addr + lot.units;
            let start = align_up(run.start, need.align);
            (start + u64::from(need.units) <= run.end).then_some(run.start)
        })?;
        let (mut end, mut fences) = (found, Fences::default());
        let head = self.lots[&found].head;
        let enough = align_up(found, need.align) + u64::from(need.units);
        while end < enough {
            let lot = self.forget(end).expect("the run was just seen");
            self.units -= lot.units;
            fences.join(&lot.fences);
            end += lot.units;
        }
        self.insert(found, end - found, head, fences);
        // It may have joined a piece before it that waits for the same.
        let (&addr, _) = self.lots.range(..=found).next_back().expect("just inserted");
        Some(self.cut(addr, need))
    }

    /// Forgets the fences that have been reached, and joins what they kept apart.
    pub(super) fn settle(&mut self) {
        let mut changed = false;
        for lot in self.lots.values_mut() {
            changed |= lot.fences.prune();
        }
        if changed {
            let lots = std::mem::take(self).lots;
            for (addr, lot) in lots {
                self.insert(addr, lot.units, lot.head, lot.fences);
            }
        }
    }

    /// Takes out exactly `units` from `addr` on, if all of that is here.
    pub(super) fn take_exactly(&mut self, addr: u64, units: u64) -> Option<Fences> {
        if units == 0 {
            return Some(Fences::default());
        }
        let (&first, _) = self.lots.range(..=addr).next_back()?;
        let mut end = first;
        while end < addr + units {
            end += self.lots.get(&end)?.units;
        }
        let (mut at, mut fences) = (first, Fences::default());
        while at < addr + units {
            let lot = self.forget(at).expect("just seen");
            self.units -= lot.units;
            fences.join(&lot.fences);
            let behind = (at + lot.units).saturating_sub(addr + units);
            if at < addr {
                self.insert(at, addr - at, lot.head, lot.fences.clone());
            }
            if behind > 0 {
                self.insert(addr + units, behind, false, lot.fences);
            }
            at += lot.units;
        }
        Some(fences)
    }

    /// Takes all that begins in `addrs`: where it is, and what it waits for.
    pub(super) fn take_within(&mut self, addrs: Range<u64>) -> Vec<(Range<u64>, Fences)> {
        let within: Vec<u64> = self.lots.range(addrs).map(|(&addr, _)| addr).collect();
        let mut lots = Vec::with_capacity(within.len());
        for addr in within {
            let lot = self.forget(addr).expect("just seen");
            self.units -= lot.units;
            lots.push((addr..addr + lot.units, lot.fences));
        }
        lots
    }

    /// The memory that `pass` lets through, by address, without the breaks that only fences make. No run goes past the
    /// beginning of a chunk that is apart.
    pub(super) fn runs(&self, pass: impl Fn(&Fences) -> bool) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (&addr, lot) in self.lots.iter().filter(|(_, lot)| pass(&lot.fences)) {
            match runs.last_mut() {
                Some(run) if run.end == addr && !lot.head => run.end += lot.units,
                _ => runs.push(addr..addr + lot.units),
            }
        }
        runs
    }

    /// Where the memory begins that ends at `end` and has no break: `end` itself if there is none. Looks for no more
    /// than `enough` units, and at none that `pass` refuses.
    pub(super) fn run_before(&self, end: u64, enough: u64, pass: impl Fn(&Fences) -> bool) -> u64 {
        let mut start = end;
        for (&addr, lot) in self.lots.range(..end).rev() {
            if end - start >= enough || addr + lot.units != start || !pass(&lot.fences) {
                break;
            }
            start = addr;
            if lot.head {
                break;
            }
        }
        start
    }

    /// Where the memory ends that begins at `start`, in the same way.
    pub(super) fn run_after(&self, start: u64, enough: u64, pass: impl Fn(&Fences) -> bool) -> u64 {
        let mut end = start;
        for (&addr, lot) in self.lots.range(start..) {
            if end - start >= enough || addr != end || lot.head || !pass(&lot.fences) {
                break;
            }
            end += lot.units;
        }
        end
    }

    fn cut(&mut self, addr: u64, need: Need) -> Taken {
        let lot = self.forget(addr).expect("the lot was just seen");
        self.units -= lot.units;
        let front = align_up(addr, need.align) - addr;
        let units = (lot.units - front).min(u64::from(need.bite.max(need.units)));
        let behind = lot.units - front - units;
        let start = addr + front;
        if front > 0 {
            self.insert(addr, front, lot.head, lot.fences.clone());
        }
        if behind > 0 {
            self.insert(start + units, behind, false, lot.fences.clone());
        }
        let region = Region { addr: start, units: units as u32, head: lot.head && front == 0 };
        Taken { region, fences: lot.fences }
    }

    fn forget(&mut self, addr: u64) -> Option<Lot> {
        let lot = self.lots.remove(&addr)?;
        self.by_size.remove(&(lot.units, addr));
        Some(lot)
    }
}
