//! [`Futile`]: a request that all memory of the pool together could not serve, so that the next one like it is refused
//! without a search.
#![forbid(unsafe_code)]

use super::request::Request;
use super::units::UNIT;

/// The pool at one moment, from counts that are read without any slot's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// How many blocks were ever freed.
    pub(super) frees: u64,
    /// Bytes that the pool holds from its upstream.
    pub(super) reserved: usize,
    /// Bytes that were requested for live blocks.
    pub(super) requested: usize,
}

/// A request that was refused although all free memory was joined and every free chunk was freed to the upstream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Futile {
    units: u32,
    align: u64,
    /// The pool before the search began: a block that was freed meanwhile may have been overlooked.
    before: Moment,
    /// Bytes that the pool held after the search.
    reserved: usize,
    /// Bytes of the pool's smallest chunk. With less free memory, no chunk is free.
    smallest_chunk: usize,
}

impl Futile {
    pub(super) fn new(request: Request, before: Moment, reserved: usize, smallest_chunk: usize) -> Self {
        Self { units: request.units, align: request.align, before, reserved, smallest_chunk }
    }

    /// Reports whether a search for `request` would fail too, whatever is joined and freed: the pool has the same
    /// chunks, and either nothing was freed since and the request is no smaller, or all free memory together is too
    /// little.
    pub(super) fn rules_out(&self, request: Request, now: Moment) -> bool {
        if now.reserved != self.reserved {
            return false;
        }
        let no_smaller = request.units >= self.units && request.align >= self.align;
        // Rounding makes blocks larger than what was requested, so this is at least what is free.
        let free_at_most = now.reserved.saturating_sub(now.requested);
        let too_little = free_at_most < (request.units as usize * UNIT).min(self.smallest_chunk);
        (no_smaller && now.frees == self.before.frees) || too_little
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn request(bytes: usize, align: u64) -> Request {
        let units = (bytes / UNIT) as u32;
        Request { units, align, preferred: units, cuts_kept: false, waits_for_uses: false }
    }

    #[test]
    fn nothing_freed_and_no_smaller_request() {
        let before = Moment { frees: 7, reserved: 12 * MIB, requested: 4 * MIB };
        let now = Moment { reserved: 10 * MIB, ..before };
        let futile = Futile::new(request(4 * MIB, 2), before, 10 * MIB, 2 * MIB);
        assert!(futile.rules_out(request(4 * MIB, 2), now) && futile.rules_out(request(5 * MIB, 4), now));
        assert!(!futile.rules_out(request(3 * MIB, 2), now) && !futile.rules_out(request(4 * MIB, 1), now));
        assert!(!futile.rules_out(request(4 * MIB, 2), Moment { frees: 8, ..now }));
        assert!(!futile.rules_out(request(4 * MIB, 2), Moment { reserved: 12 * MIB, ..now }), "other chunks");
    }

    #[test]
    fn less_free_than_the_request_and_than_any_chunk() {
        let before = Moment { frees: 7, reserved: 12 * MIB, requested: 12 * MIB };
        let futile = Futile::new(request(4 * MIB, 1), before, 12 * MIB, 2 * MIB);
        let freed = |bytes: usize| Moment { frees: 9, reserved: 12 * MIB, requested: 12 * MIB - bytes };
        assert!(futile.rules_out(request(MIB, 1), freed(MIB - UNIT)));
        assert!(!futile.rules_out(request(MIB, 1), freed(MIB)));
        assert!(futile.rules_out(request(4 * MIB, 1), freed(2 * MIB - UNIT)));
        assert!(!futile.rules_out(request(4 * MIB, 1), freed(2 * MIB)), "a chunk may be free");
    }
}
