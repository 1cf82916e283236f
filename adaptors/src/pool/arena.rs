//! [`Arena`]: free memory that is in no stream's heap, ordered by address. Each piece has its fences.
//!
//! The arena is not on the hot path: a stream uses it only if its heap has nothing that fits. The arena is therefore a
//! plain ordered map, with an index by size for the best fit.
#![forbid(unsafe_code)]

use super::fence::Fences;
use super::request::{Piece, Request};
use super::units::{REGION_MAX, Region, align_up};
use cumem::device::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

#[derive(Debug)]
struct FreePiece {
    units: u64,
    boundary: bool,
    fences: Fences,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Arena {
    pieces: BTreeMap<u64, FreePiece>,
    by_size: BTreeSet<(u64, u64)>,
    units: u64,
}

impl Arena {
    pub(super) fn units(&self) -> u64 {
        self.units
    }

    /// Returns the number of pieces.
    pub(super) fn count(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn largest(&self) -> u64 {
        self.by_size.last().map_or(0, |&(units, _)| units)
    }

    /// Iterates over the pieces by address: address, units, and whether every stream may use the piece at once.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (u64, u64, bool)> {
        self.pieces.iter().map(|(&addr, piece)| (addr, piece.units, piece.fences.are_reached()))
    }

    /// Adds memory, and joins it with neighbours that have the same fences.
    pub(super) fn insert(&mut self, addr: u64, units: u64, boundary: bool, fences: Fences) {
        if units == 0 {
            return;
        }
        self.units += units;
        let (mut addr, mut units, mut boundary) = (addr, units, boundary);
        let before = self.pieces.range(..addr).next_back();
        if let Some((&start, piece)) = before
            && !boundary
            && start + piece.units == addr
            && piece.fences.same(&fences)
        {
            (addr, units, boundary) = (start, units + piece.units, piece.boundary);
            self.remove(start);
        }
        let end = addr + units;
        if let Some(piece) = self.pieces.get(&end)
            && !piece.boundary
            && piece.fences.same(&fences)
        {
            units += piece.units;
            self.remove(end);
        }
        self.by_size.insert((units, addr));
        self.pieces.insert(addr, FreePiece { units, boundary, fences });
    }

    /// Adds a region.
    pub(super) fn insert_region(&mut self, region: Region, fences: Fences) {
        self.insert(region.addr, u64::from(region.units), region.boundary, fences);
    }

    /// Takes the smallest piece that satisfies `request`. Without `wait`, only pieces that `stream` may use without
    /// waiting count. A piece counts only if `admits` returns true for its address and units.
    pub(super) fn take(
        &mut self,
        request: Request,
        stream: StreamId,
        wait: bool,
        admits: impl Fn(u64, u64) -> bool,
    ) -> Option<Piece> {
        let units = u64::from(request.units);
        let (_, addr) = self.by_size.range((units, 0)..).copied().find(|&(size, addr)| {
            let piece = &self.pieces[&addr];
            align_up(addr, request.align) + units <= addr + size
                && (piece.fences.usable_on(stream) || wait && request.may_wait_for(&piece.fences))
                && admits(addr, size)
        })?;
        Some(self.cut(addr, request))
    }

    /// Takes all memory that `stream` may use without waiting.
    pub(super) fn take_usable(&mut self, stream: StreamId) -> Vec<Region> {
        let mut regions = Vec::new();
        let usable: Vec<u64> =
            self.pieces.iter().filter(|(_, piece)| piece.fences.usable_on(stream)).map(|(&addr, _)| addr).collect();
        for mut addr in usable {
            let piece = self.remove(addr).expect("just seen");
            self.units -= piece.units;
            let (mut units, mut boundary) = (piece.units, piece.boundary);
            while units > 0 {
                let part = units.min(REGION_MAX);
                regions.push(Region { addr, units: part as u32, boundary });
                (addr, units, boundary) = (addr + part, units - part, false);
            }
        }
        regions
    }

    /// Takes the lowest run of adjacent pieces that together satisfy `request`, whatever their fences are. A piece
    /// counts only if `admits` returns true for its address and units.
    pub(super) fn take_run(&mut self, request: Request, admits: impl Fn(u64, u64) -> bool) -> Option<Piece> {
        let mut run = 0..0;
        let admits = |addr, piece: &FreePiece| admits(addr, piece.units) && request.may_wait_for(&piece.fences);
        let admitted = self.pieces.iter().filter(|(addr, piece)| admits(**addr, piece));
        let found = { admitted }.find_map(|(&addr, piece)| {
            if addr != run.end || piece.boundary {
                run.start = addr;
            }
            run.end = addr + piece.units;
            let start = align_up(run.start, request.align);
            (start + u64::from(request.units) <= run.end).then_some(run.start)
        })?;
        let (mut end, mut fences) = (found, Fences::default());
        let boundary = self.pieces[&found].boundary;
        let enough = align_up(found, request.align) + u64::from(request.units);
        while end < enough {
            let piece = self.remove(end).expect("the run was just seen");
            self.units -= piece.units;
            fences.join(&piece.fences);
            end += piece.units;
        }
        self.insert(found, end - found, boundary, fences);
        // `insert` may have joined the run with the piece before it, which has the same fences.
        let (&addr, _) = self.pieces.range(..=found).next_back().expect("just inserted");
        Some(self.cut(addr, request))
    }

    /// Drops the fences that have been reached, and joins the pieces that only those fences kept apart.
    pub(super) fn drop_reached(&mut self) {
        let mut changed = false;
        for piece in self.pieces.values_mut() {
            changed |= piece.fences.prune();
        }
        if changed {
            let pieces = std::mem::take(self).pieces;
            for (addr, piece) in pieces {
                self.insert(addr, piece.units, piece.boundary, piece.fences);
            }
        }
    }

    /// Takes exactly `units` units from `addr` on. Returns their fences, or `None` if the arena does not hold all of
    /// them.
    pub(super) fn take_exactly(&mut self, addr: u64, units: u64) -> Option<Fences> {
        if units == 0 {
            return Some(Fences::default());
        }
        let (&first, _) = self.pieces.range(..=addr).next_back()?;
        let mut end = first;
        while end < addr + units {
            end += self.pieces.get(&end)?.units;
        }
        let (mut at, mut fences) = (first, Fences::default());
        while at < addr + units {
            let piece = self.remove(at).expect("just seen");
            self.units -= piece.units;
            fences.join(&piece.fences);
            let behind = (at + piece.units).saturating_sub(addr + units);
            if at < addr {
                self.insert(at, addr - at, piece.boundary, piece.fences.clone());
            }
            if behind > 0 {
                self.insert(addr + units, behind, false, piece.fences);
            }
            at += piece.units;
        }
        Some(fences)
    }

    /// Takes all pieces that begin in `addrs`. Returns the range and the fences of each.
    pub(super) fn take_within(&mut self, addrs: Range<u64>) -> Vec<(Range<u64>, Fences)> {
        let within: Vec<u64> = self.pieces.range(addrs).map(|(&addr, _)| addr).collect();
        let mut pieces = Vec::with_capacity(within.len());
        for addr in within {
            let piece = self.remove(addr).expect("just seen");
            self.units -= piece.units;
            pieces.push((addr..addr + piece.units, piece.fences));
        }
        pieces
    }

    /// Returns the runs of memory whose fences satisfy `usable`, by address. Pieces that only fences keep apart form
    /// one run. No run crosses a boundary.
    pub(super) fn runs(&self, usable: impl Fn(&Fences) -> bool) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (&addr, piece) in self.pieces.iter().filter(|(_, piece)| usable(&piece.fences)) {
            match runs.last_mut() {
                Some(run) if run.end == addr && !piece.boundary => run.end += piece.units,
                _ => runs.push(addr..addr + piece.units),
            }
        }
        runs
    }

    /// Returns the start of the unbroken memory that ends at `end`, or `end` itself if there is none. The search stops
    /// after `enough` units, and at a piece whose fences do not satisfy `usable`.
    pub(super) fn run_before(&self, end: u64, enough: u64, usable: impl Fn(&Fences) -> bool) -> u64 {
        let mut start = end;
        for (&addr, piece) in self.pieces.range(..end).rev() {
            if end - start >= enough || addr + piece.units != start || !usable(&piece.fences) {
                break;
            }
            start = addr;
            if piece.boundary {
                break;
            }
        }
        start
    }

    /// Returns the end of the unbroken memory that begins at `start`, in the same way.
    pub(super) fn run_after(&self, start: u64, enough: u64, usable: impl Fn(&Fences) -> bool) -> u64 {
        let mut end = start;
        for (&addr, piece) in self.pieces.range(start..) {
            if end - start >= enough || addr != end || piece.boundary || !usable(&piece.fences) {
                break;
            }
            end += piece.units;
        }
        end
    }

    fn cut(&mut self, addr: u64, request: Request) -> Piece {
        let piece = self.remove(addr).expect("the piece was just seen");
        self.units -= piece.units;
        let front = align_up(addr, request.align) - addr;
        let units = (piece.units - front).min(u64::from(request.preferred.max(request.units)));
        let behind = piece.units - front - units;
        let start = addr + front;
        if front > 0 {
            self.insert(addr, front, piece.boundary, piece.fences.clone());
        }
        if behind > 0 {
            self.insert(start + units, behind, false, piece.fences.clone());
        }
        let region = Region { addr: start, units: units as u32, boundary: piece.boundary && front == 0 };
        Piece { region, fences: piece.fences }
    }

    fn remove(&mut self, addr: u64) -> Option<FreePiece> {
        let piece = self.pieces.remove(&addr)?;
        self.by_size.remove(&(piece.units, addr));
        Some(piece)
    }
}
