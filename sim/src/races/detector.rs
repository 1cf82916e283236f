//! [`Races`]: the race detector.
#![forbid(unsafe_code)]

use super::blocks::{Blocks, Misuse};
use super::clock::{Actor, Clock, HOST};
use super::report::{AccessKind, MemoryUse, Race, RaceKind};
use super::shadow::{RecordedUse, Shadow};
use super::uses::UsedRange;
use crate::handles::Key;
use crate::outbox::Outbox;
use std::collections::{HashMap, HashSet};
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Reports that are kept until the program takes them. Further ones are only logged.
const KEPT: usize = 1000;

/// Streams that are gone and that are not looked at one by one.
const GONE_FEW: usize = 16;

/// The origin of a use: the driver call or kernel, and the host's virtual time in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct UseSite {
    pub(super) by: &'static str,
    pub(super) at: u64,
}

/// A host access that has begun.
#[derive(Debug)]
pub(super) struct OpenAccess {
    pub(super) used: UsedRange,
    /// The number of steps of all actors before the access.
    pub(super) begun: u64,
}

/// A stream and its clock.
#[derive(Debug)]
pub(crate) struct StreamClock {
    handle: u64,
    pub(super) device: u32,
    /// Steps of earlier streams in this place.
    before: u64,
    clock: Clock,
}

/// The race detector: see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Races {
    outbox: Arc<Outbox>,
    host: Clock,
    /// Actor `i + 1` is stream `i`. A stream that is gone has an empty clock, until another stream takes its place.
    pub(crate) streams: Vec<StreamClock>,
    /// Places of destroyed streams whose work the host has waited for. All later work is ordered after the host, so the
    /// next stream can go on counting where the last one ended.
    vacant: Vec<Actor>,
    /// Destroyed streams, each with its last step, whose work the host had not waited for at the last look.
    gone: Vec<(Actor, u64)>,
    /// The number of them at which they are looked at again. It grows with those that are left, so that a look at all of
    /// them is rare.
    gone_most: usize,
    /// The last clocks of the destroyed streams of each device, joined.
    gone_knew: HashMap<u32, Clock>,
    actors: HashMap<u64, Actor>,
    /// The clock of the stream when it recorded the event, by the event's handle. Handles are never reused.
    pub(super) events: HashMap<u64, Clock>,
    shadow: Shadow,
    pub(super) blocks: Blocks,
    /// The host accesses that have not ended, each with its number.
    open: Vec<(u64, OpenAccess)>,
    /// The number of host accesses that have begun.
    begun: u64,
    /// The number of steps of all actors.
    steps: u64,
    pub(super) found: Vec<Race>,
    /// Reported races: actor and number of the first step, and the stream of the second.
    reported: HashSet<(Actor, u64, Option<u64>)>,
}

impl Races {
    /// Creates a detector that logs its reports through `outbox`.
    pub(super) fn new(outbox: &Arc<Outbox>) -> Self {
        Self { outbox: Arc::clone(outbox), ..Self::default() }
    }

    /// Returns the number of entries for blocks of pools, and for uses of memory.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> (usize, usize) {
        (self.blocks.len(), self.shadow.len())
    }

    pub(super) fn actor(&mut self, stream: Key, device: u32) -> Actor {
        if let Some(&actor) = self.actors.get(&stream.handle()) {
            return actor;
        }
        let clock = StreamClock { handle: stream.handle(), device, before: 0, clock: self.host.clone() };
        let actor = self.place(clock);
        self.actors.insert(stream.handle(), actor);
        actor
    }

    fn place(&mut self, mut clock: StreamClock) -> Actor {
        if self.vacant.is_empty() && self.gone.len() >= self.gone_most {
            let Self { gone, vacant, host, .. } = self;
            gone.retain(|&(actor, last)| {
                let known = host.of(actor) >= last;
                vacant.extend(known.then_some(actor));
                !known
            });
            self.gone_most = (2 * self.gone.len()).max(GONE_FEW);
        }
        match self.vacant.pop() {
            Some(actor) => {
                clock.before = clock.clock.of(actor);
                self.streams[actor as usize - 1] = clock;
                actor
            }
            None => {
                self.streams.push(clock);
                self.streams.len() as Actor
            }
        }
    }

    /// Removes a destroyed stream. Its clock is kept for a wait for the whole device.
    pub(super) fn ended(&mut self, stream: Key) {
        let Some(actor) = self.actors.remove(&stream.handle()) else { return };
        let StreamClock { device, clock, .. } = &mut self.streams[actor as usize - 1];
        let (device, clock) = (*device, mem::take(clock));
        self.gone.push((actor, clock.of(actor)));
        self.gone_knew.entry(device).or_default().join(&clock);
    }

    /// Returns the last clocks of the destroyed streams of a device, joined.
    pub(super) fn known_to_gone(&self, device: u32) -> Option<&Clock> {
        self.gone_knew.get(&device)
    }

    /// Records that the host waited for the streams that are gone, of one device or of all.
    pub(super) fn host_waited_for_gone(&mut self, device: Option<u32>) {
        let Self { host, gone_knew, .. } = self;
        gone_knew.retain(|&of, clock| {
            let waited = device.is_none_or(|device| device == of);
            if waited {
                host.join(clock);
            }
            !waited
        });
    }

    pub(super) fn clock(&mut self, actor: Actor) -> &mut Clock {
        match actor {
            HOST => &mut self.host,
            stream => &mut self.streams[stream as usize - 1].clock,
        }
    }

    /// Adds the steps that the host knows to those that a stream knows, because the host enqueues work on it.
    pub(super) fn submit(&mut self, actor: Actor) {
        if actor != HOST {
            let host = mem::take(&mut self.host);
            self.clock(actor).join(&host);
            self.host = host;
        }
    }

    /// Makes `later` wait for all work that `earlier` has so far.
    pub(super) fn wait(&mut self, later: Actor, earlier: Actor) {
        if later != earlier {
            let known = mem::take(self.clock(earlier));
            self.clock(later).join(&known);
            *self.clock(earlier) = known;
        }
    }

    /// Makes the next step of an actor, and describes it as a use.
    fn step(&mut self, actor: Actor, kind: AccessKind, site: UseSite) -> RecordedUse {
        self.submit(actor);
        let number = self.clock(actor).step(actor);
        let stream = actor.checked_sub(1).map(|index| &self.streams[index as usize]);
        let (before, stream) = (stream.map_or(0, |stream| stream.before), stream.map(|stream| stream.handle));
        let UseSite { by, at } = site;
        let at = Duration::from_nanos(at);
        let caller = cumem_driver::call_site::current();
        let details = MemoryUse { kind, by, stream, number: number - before, at, caller };
        self.steps += 1;
        RecordedUse { actor, number, at_step: self.steps, details: Arc::new(details) }
    }

    /// Checks and records a use of `range`, and of the same bytes at the addresses `others`. For a host access that ends,
    /// `since` is the number of steps of all actors when the access began. Returns the step.
    pub(super) fn used(
        &mut self,
        actor: Actor,
        range: &Range<u64>,
        others: &[Range<u64>],
        kind: AccessKind,
        site: UseSite,
        since: Option<u64>,
    ) -> RecordedUse {
        let step = self.step(actor, kind, site);
        if matches!(kind, AccessKind::Read | AccessKind::Written) {
            self.check_blocks(&step, range);
        }
        for range in [range].into_iter().chain(others) {
            self.check(&step, range, since);
            match kind {
                AccessKind::Read => self.shadow.read(range.clone(), &step),
                _ => self.shadow.overwrite(range.clone(), Some(step.clone())),
            }
        }
        step
    }

    /// Records that the driver allocated `range`.
    /// Earlier uses of these addresses concern other allocations and are not checked.
    pub(super) fn allocated(&mut self, actor: Actor, range: Range<u64>, site: UseSite) {
        let step = self.step(actor, AccessKind::Allocated, site);
        self.blocks.forget(&range);
        self.shadow.overwrite(range, Some(step));
    }

    /// Records that a pool handed out or got back the block with these bytes. Without a stream, the actor is the host,
    /// and the order of earlier uses is not checked.
    pub(super) fn pool_block(
        &mut self,
        actor: Actor,
        range: &Range<u64>,
        others: &[Range<u64>],
        kind: AccessKind,
        site: UseSite,
    ) {
        let step = match actor {
            HOST => self.step(actor, kind, site),
            stream => self.used(stream, range, others, kind, site, None),
        };
        match kind {
            AccessKind::Freed => self.blocks.kept(range, step),
            _ => self.blocks.handed_out(range, step),
        }
    }

    /// Records the begin of a host access, and returns its number.
    pub(super) fn host_begins(&mut self, used: UsedRange) -> u64 {
        self.begun += 1;
        self.open.push((self.begun, OpenAccess { used, begun: self.steps }));
        self.begun
    }

    /// Removes an open host access.
    pub(super) fn host_ends(&mut self, number: u64) -> Option<OpenAccess> {
        let place = self.open.iter().position(|(open, _)| *open == number)?;
        Some(self.open.remove(place).1)
    }

    /// Records a use of `range` that the driver refused. Reports a use after free if the range is known to be freed.
    pub(super) fn refused(&mut self, actor: Actor, range: Range<u64>, kind: AccessKind, site: UseSite) {
        let step = self.step(actor, kind, site);
        let mut freed = None;
        self.shadow.visit(&range, false, |earlier, common| {
            if earlier.details.kind == AccessKind::Freed {
                freed.get_or_insert((Arc::clone(&earlier.details), common));
            }
        });
        if let Some((first, addresses)) = freed {
            self.report(RaceKind::UseAfterFree, &first, &step.details, addresses, None);
        }
    }

    /// Checks that a use stays within one live block, if it concerns a pool's memory.
    fn check_blocks(&mut self, step: &RecordedUse, range: &Range<u64>) {
        let Some(misuse) = self.blocks.misuse(range) else { return };
        let (kind, owner, addresses) = match misuse {
            Misuse::Freed(owner, common) => (RaceKind::UseAfterFree, owner, common),
            Misuse::OutOfBounds(owner, beyond) => (RaceKind::OutOfBounds, owner, beyond),
        };
        let allocated = owner.allocated.as_ref().map(|step| (*step.details).clone());
        let Some(first) = owner.freed.or(owner.allocated) else { return };
        if self.reported.insert((first.actor, first.number, step.details.stream)) {
            let allocated = allocated.filter(|_| kind == RaceKind::UseAfterFree);
            self.report(kind, &first.details, &step.details, addresses, allocated);
        }
    }

    fn check(&mut self, step: &RecordedUse, range: &Range<u64>, since: Option<u64>) {
        let clock = match step.actor {
            HOST => &self.host,
            stream => &self.streams[stream as usize - 1].clock,
        };
        let mut unordered: Vec<(RecordedUse, Range<u64>)> = Vec::new();
        self.shadow.visit(range, step.details.kind != AccessKind::Read, |earlier, common| {
            if earlier.known_to(clock) && !since.is_some_and(|since| earlier.is_during(since, step.details.kind)) {
                return;
            }
            match unordered.iter_mut().find(|(first, _)| Arc::ptr_eq(&first.details, &earlier.details)) {
                Some((_, addresses)) if addresses.end == common.start => addresses.end = common.end,
                Some(_) => {}
                None => unordered.push((earlier.clone(), common)),
            }
        });
        for (first, addresses) in unordered {
            if self.reported.insert((first.actor, first.number, step.details.stream)) {
                let kind = race_kind(&first.details, &step.details);
                self.report(kind, &first.details, &step.details, addresses, None);
            }
        }
    }

    fn report(
        &mut self,
        kind: RaceKind,
        first: &MemoryUse,
        second: &MemoryUse,
        addresses: Range<u64>,
        allocated: Option<MemoryUse>,
    ) {
        let race = Race { kind, first: first.clone(), second: second.clone(), addresses, allocated };
        if self.found.len() < KEPT {
            self.found.push(race.clone());
        }
        self.outbox.post(move || tracing::warn!(%race, "a race"));
    }
}

/// Returns the kind of race between two uses, of which `second` does not wait for `first`.
fn race_kind(first: &MemoryUse, second: &MemoryUse) -> RaceKind {
    match (first.kind, second.kind) {
        (AccessKind::Freed, AccessKind::Read | AccessKind::Written) => RaceKind::UseAfterFree,
        (_, AccessKind::Allocated | AccessKind::Freed) => RaceKind::ReuseBeforeLastUse,
        (AccessKind::Allocated, _) => RaceKind::UseBeforeAllocation,
        _ if first.stream.is_none() && second.stream.is_none() => RaceKind::HostOverlap,
        _ if first.stream.is_none() || second.stream.is_none() => RaceKind::HostAccess,
        _ => RaceKind::Unordered,
    }
}
