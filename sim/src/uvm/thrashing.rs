//! Thrashing: processors migrate the same pages back and forth (`uvm_perf_thrashing.c`).
//!
//! A processor that faults on a thrashing page is throttled: it waits first. After enough throttles the page is pinned
//! at a location that all contending processors can map. A throttle outlasts the window in which migrations count as
//! events. The event count therefore starts again after it, but the throttle count continues. An H100 does the same
//! (`uvm_calibrate --fight`). The simulator runs one processor's operation at a time, so the processor that holds the
//! page is never the one that waits. The driver's adaptive window keeps its start value,
//! because the driver's rules for changing it are not documented.

use super::ids::Processor;
use super::pages::{PAGES_PER_BLOCK, PageSet};
use super::policy::Processors;
use super::rules::ThrashingRules;

/// How thrashing affects a fault on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThrashingResponse {
    None,
    /// The faulting processor waits first.
    Throttle,
    /// The page has been throttled often enough and is to be pinned.
    Pin,
}

/// The thrashing history of a block.
#[derive(Debug, Default)]
pub(super) struct Thrashing {
    /// The processor to which pages of the block last migrated, and when.
    last: Option<(Processor, u64)>,
    /// The history of each page. Kept from the first migration that follows another processor's within the lapse.
    tracked: Option<Box<Tracked>>,
}

#[derive(Debug)]
struct Tracked {
    pages: [History; PAGES_PER_BLOCK],
    thrashing: PageSet,
    pinned: PageSet,
    last_event: u64,
    resets: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct History {
    last: u64,
    by: Option<Processor>,
    events: u32,
    throttles: u32,
    /// The processors that contend for the page.
    processors: Processors,
    pinned_at: u64,
}

impl Default for Tracked {
    fn default() -> Self {
        Self {
            pages: [History::default(); PAGES_PER_BLOCK],
            thrashing: PageSet::EMPTY,
            pinned: PageSet::EMPTY,
            last_event: 0,
            resets: 0,
        }
    }
}

impl Thrashing {
    /// Reports whether the history of each page is kept.
    pub(super) fn is_tracked(&self) -> bool {
        self.tracked.is_some()
    }

    /// Returns the thrashing pages. The prefetcher leaves these out.
    pub(super) fn pages(&self) -> PageSet {
        self.tracked.as_ref().map_or(PageSet::EMPTY, |tracked| tracked.thrashing)
    }

    /// Returns the pinned pages.
    pub(super) fn pinned(&self) -> PageSet {
        self.tracked.as_ref().map_or(PageSet::EMPTY, |tracked| tracked.pinned)
    }

    /// Records that a fault of `to` moved `pages` there: the faulted pages and those fetched with them.
    pub(super) fn migrated(&mut self, rules: &ThrashingRules, to: Processor, pages: &PageSet, at: u64) {
        let before = self.last.replace((to, at));
        let soon = |then: u64| at.saturating_sub(then) <= rules.lapse;
        if self.tracked.is_none() && before.is_none_or(|(by, then)| by == to || !soon(then)) {
            return;
        }
        let tracked = self.tracked.get_or_insert_default();
        for page in pages.iter() {
            let history = &mut tracked.pages[page];
            let first = history.by.is_none();
            if !first && soon(history.last) {
                if history.by != Some(to) {
                    history.events += 1;
                    tracked.last_event = at;
                }
            } else {
                // After a pause the event count starts again. A throttle is such a pause. The throttle count is kept.
                history.events = 0;
                tracked.thrashing = tracked.thrashing.minus(&PageSet::one(page).minus(&tracked.pinned));
            }
            if first && let Some((by, _)) = before {
                history.processors = history.processors.with(by);
            }
            (history.last, history.by) = (at, Some(to));
            history.processors = history.processors.with(to);
            if history.events > rules.threshold {
                tracked.thrashing = tracked.thrashing.or(&PageSet::one(page));
            }
        }
    }

    /// Returns how thrashing affects a fault on `page`.
    pub(super) fn response(&self, rules: &ThrashingRules, page: usize, at: u64) -> ThrashingResponse {
        let Some(tracked) = self.tracked.as_ref().filter(|tracked| tracked.thrashing.contains(page)) else {
            return ThrashingResponse::None;
        };
        let history = &tracked.pages[page];
        if tracked.pinned.contains(page) {
            return ThrashingResponse::Pin;
        }
        match (at.saturating_sub(history.last) > rules.lapse, history.throttles >= rules.pin_threshold) {
            (true, _) => ThrashingResponse::None,
            (false, true) => ThrashingResponse::Pin,
            (false, false) => ThrashingResponse::Throttle,
        }
    }

    /// Counts a throttle of a processor that faults on `page`.
    pub(super) fn throttle(&mut self, page: usize) {
        if let Some(tracked) = &mut self.tracked {
            tracked.pages[page].throttles += 1;
        }
    }

    /// Returns the processors that contend for a page.
    pub(super) fn processors(&self, page: usize) -> Processors {
        self.tracked.as_ref().map_or(Processors::default(), |tracked| tracked.pages[page].processors)
    }

    /// Pins `page`.
    pub(super) fn pin(&mut self, page: usize, at: u64) {
        if let Some(tracked) = &mut self.tracked
            && !tracked.pinned.contains(page)
        {
            tracked.pinned = tracked.pinned.or(&PageSet::one(page));
            tracked.pages[page].pinned_at = at;
        }
    }

    /// Ends pins that have expired by `at`, and returns their pages.
    /// Also clears the history after a long time without events.
    pub(super) fn expire_pins(&mut self, rules: &ThrashingRules, at: u64) -> PageSet {
        let Some(tracked) = &mut self.tracked else { return PageSet::EMPTY };
        let mut freed = PageSet::EMPTY;
        for page in tracked.pinned.iter() {
            if at.saturating_sub(tracked.pages[page].pinned_at) >= rules.pin {
                freed = freed.or(&PageSet::one(page));
            }
        }
        tracked.forget(&freed);
        let quiet = at.saturating_sub(tracked.last_event) > rules.epoch;
        if quiet && tracked.pinned.is_empty() && !tracked.thrashing.is_empty() && tracked.resets < rules.max_resets {
            **tracked = Tracked { resets: tracked.resets + 1, ..Tracked::default() };
        }
        freed
    }

    /// Forgets the history of `pages`, for example because a prefetch or advice has set their location.
    pub(super) fn reset(&mut self, pages: &PageSet) {
        if let Some(tracked) = &mut self.tracked {
            tracked.forget(pages);
        }
    }
}

impl Tracked {
    fn forget(&mut self, pages: &PageSet) {
        for page in pages.iter() {
            self.pages[page] = History::default();
        }
        self.thrashing = self.thrashing.minus(pages);
        self.pinned = self.pinned.minus(pages);
    }
}
