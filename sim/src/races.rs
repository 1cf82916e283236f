//! [`Races`]: finds uses of memory whose order nobody ensured, by what happens before what.
//!
//! Each stream and the host has a [clock](clock) of what it knows to have happened. Work knows what the host knew when
//! it was enqueued and what its stream knew; an event carries what its stream knew when it was recorded; whoever waits
//! for something, or is told that it is done, knows it from then on. Two uses of a byte, one of which is no read, must
//! be ordered that way. Everything is settled when work is enqueued, so timing has no part in it.
#![forbid(unsafe_code)]

mod clock;
mod hooks;
mod report;
mod shadow;

pub(super) use hooks::{Used, used};
pub use report::{Deed, Race, RaceKind, Use};

use super::handles::Key;
use clock::{Actor, Clock, HOST};
use shadow::{Shadow, Step};
use std::collections::{HashMap, HashSet};
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Reports that are kept until they are taken.
const KEPT: usize = 1000;

/// Where a use comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    by: &'static str,
    at: u64,
}

/// What is known of one stream.
#[derive(Debug)]
struct Known {
    handle: u64,
    device: u32,
    clock: Clock,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Races {
    host: Clock,
    /// Actor `i + 1` is stream `i`. Streams that are gone stay: the host may not know yet that their work is done.
    streams: Vec<Known>,
    actors: HashMap<u64, Actor>,
    /// By handle; handles are never used twice.
    events: HashMap<u64, Clock>,
    shadow: Shadow,
    found: Vec<Race>,
    /// Steps that were reported, by actor and number, and against whom.
    reported: HashSet<(Actor, u64, Actor)>,
}

impl Races {
    fn actor(&mut self, stream: Key, device: u32) -> Actor {
        let Self { actors, streams, host, .. } = self;
        *actors.entry(stream.handle()).or_insert_with(|| {
            streams.push(Known { handle: stream.handle(), device, clock: host.clone() });
            streams.len() as Actor
        })
    }

    fn clock(&mut self, actor: Actor) -> &mut Clock {
        match actor {
            HOST => &mut self.host,
            stream => &mut self.streams[stream as usize - 1].clock,
        }
    }

    /// Work for a stream knows what the host knows.
    fn submit(&mut self, actor: Actor) {
        if actor != HOST {
            let host = mem::take(&mut self.host);
            self.clock(actor).join(&host);
            self.host = host;
        }
    }

    /// `later` waits for all that `earlier` was given so far.
    fn wait(&mut self, later: Actor, earlier: Actor) {
        if later != earlier {
            let known = mem::take(self.clock(earlier));
            self.clock(later).join(&known);
            *self.clock(earlier) = known;
        }
    }

    /// The next step of an actor, as a use.
    fn step(&mut self, actor: Actor, deed: Deed, site: Site) -> Step {
        self.submit(actor);
        let number = self.clock(actor).step(actor);
        let stream = actor.checked_sub(1).map(|index| self.streams[index as usize].handle);
        let Site { by, at } = site;
        let at = Duration::from_nanos(at);
        let what = Use { deed, by, stream, number, at, caller: cumem_driver::call_site::place() };
        Step { actor, number, what: Arc::new(what) }
    }

    /// `range` is used, and with it the same bytes at other addresses.
    fn used(&mut self, actor: Actor, range: &Range<u64>, others: &[Range<u64>], deed: Deed, site: Site) {
        let step = self.step(actor, deed, site);
        for range in [range].into_iter().chain(others) {
            self.check(&step, range);
            match deed {
                Deed::Read => self.shadow.read(range.clone(), &step),
                _ => self.shadow.overwrite(range.clone(), Some(step.clone())),
            }
        }
    }

    /// `range` is memory that nobody can have used: its past is another allocation's.
    fn fresh(&mut self, actor: Actor, range: Range<u64>, site: Site) {
        let step = self.step(actor, Deed::Allocated, site);
        self.shadow.overwrite(range, Some(step));
    }

    /// Work wants to use `range`, of which the driver knows that it was freed.
    fn refused(&mut self, actor: Actor, range: Range<u64>, deed: Deed, site: Site) {
        let step = self.step(actor, deed, site);
        let mut freed = None;
        self.shadow.met(&range, false, |earlier, common| {
            if earlier.what.deed == Deed::Freed {
                freed.get_or_insert((Arc::clone(&earlier.what), common));
            }
        });
        if let Some((first, addresses)) = freed {
            self.report(RaceKind::UseAfterFree, &first, &step.what, addresses);
        }
    }

    fn check(&mut self, step: &Step, range: &Range<u64>) {
        let clock = match step.actor {
            HOST => &self.host,
            stream => &self.streams[stream as usize - 1].clock,
        };
        let mut met: Vec<(Step, Range<u64>)> = Vec::new();
        self.shadow.met(range, step.what.deed != Deed::Read, |earlier, common| {
            if earlier.known_to(clock) {
                return;
            }
            match met.iter_mut().find(|(first, _)| Arc::ptr_eq(&first.what, &earlier.what)) {
                Some((_, addresses)) if addresses.end == common.start => addresses.end = common.end,
                Some(_) => {}
                None => met.push((earlier.clone(), common)),
            }
        });
        for (first, addresses) in met {
            if self.reported.insert((first.actor, first.number, step.actor)) {
                self.report(kind(&first.what, &step.what), &first.what, &step.what, addresses);
            }
        }
    }

    fn report(&mut self, kind: RaceKind, first: &Use, second: &Use, addresses: Range<u64>) {
        let race = Race { kind, first: first.clone(), second: second.clone(), addresses };
        tracing::warn!(%race, "a race");
        if self.found.len() < KEPT {
            self.found.push(race);
        }
    }
}

/// What it means that `second` does not wait for `first`.
fn kind(first: &Use, second: &Use) -> RaceKind {
    match (first.deed, second.deed) {
        (Deed::Freed, Deed::Read | Deed::Written) => RaceKind::UseAfterFree,
        (_, Deed::Allocated | Deed::Freed) => RaceKind::ReuseBeforeLastUse,
        (Deed::Allocated, _) => RaceKind::UseBeforeAllocation,
        _ if first.stream.is_none() || second.stream.is_none() => RaceKind::HostAccess,
        _ => RaceKind::Unordered,
    }
}
