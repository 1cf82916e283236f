//! Thrashing: pages that processors take from each other again and again (`uvm_perf_thrashing.c`).
//!
//! Whoever asks for a thrashing page waits first; after enough waits the page is pinned where all of them reach it. A
//! wait lasts long enough to end a spell of thrashing: the count of events starts again, that of waits goes on, as on
//! an H100 (`uvm_calibrate --fight`). One processor's operation is simulated at a time, so the one that has the page is
//! never the one that waits. The driver's adaptive window, whose votes are not documented, is left at its start value.

use super::pages::{PAGES_PER_BLOCK, PageSet};
use super::policy::Processors;
use super::rules::ThrashingRules;
use super::space::Processor;

/// What a fault on a page is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    None,
    /// Wait first.
    Throttle,
    /// Enough of that: the page is to stay somewhere.
    Pin,
}

/// The history of a block.
#[derive(Debug, Default)]
pub(super) struct Thrashing {
    /// Who last made pages migrate, and when.
    last: Option<(Processor, u64)>,
    /// Page by page, from the moment when a second processor came too soon.
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
    /// Who took part.
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
    /// Whether pages are looked at one by one.
    pub(super) fn is_tracked(&self) -> bool {
        self.tracked.is_some()
    }

    /// Pages that thrash: the prefetcher leaves them alone.
    pub(super) fn pages(&self) -> PageSet {
        self.tracked.as_ref().map_or(PageSet::EMPTY, |tracked| tracked.thrashing)
    }

    /// Pages that are pinned.
    pub(super) fn pinned(&self) -> PageSet {
        self.tracked.as_ref().map_or(PageSet::EMPTY, |tracked| tracked.pinned)
    }

    /// A fault of `to`, or what came along with it, has moved `pages` there.
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
                // After a calm, which a wait is too, the count starts again; waits are not forgotten.
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

    /// What a fault on `page` is told.
    pub(super) fn hint(&self, rules: &ThrashingRules, page: usize, at: u64) -> Hint {
        let Some(tracked) = self.tracked.as_ref().filter(|tracked| tracked.thrashing.contains(page)) else {
            return Hint::None;
        };
        let history = &tracked.pages[page];
        if tracked.pinned.contains(page) {
            return Hint::Pin;
        }
        match (at.saturating_sub(history.last) > rules.lapse, history.throttles >= rules.pin_threshold) {
            (true, _) => Hint::None,
            (false, true) => Hint::Pin,
            (false, false) => Hint::Throttle,
        }
    }

    /// Whoever asks for a page waits.
    pub(super) fn throttle(&mut self, page: usize) {
        if let Some(tracked) = &mut self.tracked {
            tracked.pages[page].throttles += 1;
        }
    }

    /// Who took part in the fight over a page.
    pub(super) fn processors(&self, page: usize) -> Processors {
        self.tracked.as_ref().map_or(Processors::default(), |tracked| tracked.pages[page].processors)
    }

    /// The page stays where it is now.
    pub(super) fn pin(&mut self, page: usize, at: u64) {
        if let Some(tracked) = &mut self.tracked
            && !tracked.pinned.contains(page)
        {
            tracked.pinned = tracked.pinned.or(&PageSet::one(page));
            tracked.pages[page].pinned_at = at;
        }
    }

    /// What time brings: pages whose pin has run out, which are returned, and a fresh start after a long quiet.
    pub(super) fn pass(&mut self, rules: &ThrashingRules, at: u64) -> PageSet {
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

    /// Forgets `pages`: somebody has said where they are to be.
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
