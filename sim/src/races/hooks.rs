//! The calls by which the rest of the simulator informs the race detector, if it is on.
#![forbid(unsafe_code)]

use super::clock::{Actor, HOST};
use super::detector::{OpenAccess, Races, UseSite};
use super::report::{AccessKind, Race};
use super::uses::UsedRange;
use crate::handles::Key;
use crate::state::MachineState;
use cumem_driver::BlockEvent;
use std::ops::Range;

impl MachineState {
    pub(crate) fn detect_races(&mut self, on: bool) {
        match on {
            true => drop(self.races.get_or_insert_with(|| Box::new(Races::new(&self.outbox)))),
            false => self.races = None,
        }
        self.detector_listeners.notify(on);
    }

    pub(crate) fn take_races(&mut self) -> Vec<Race> {
        self.races.as_mut().map(|races| std::mem::take(&mut races.found)).unwrap_or_default()
    }

    /// Returns the detector if it is on, and the actor for `stream`, or for the host if there is no stream.
    fn racing(&mut self, stream: Option<Key>) -> Option<(&mut Races, Actor)> {
        let races = self.races.as_deref_mut()?;
        let device = |key| self.streams.get(key).map_or(0, |stream| stream.device);
        let actor = stream.map_or(HOST, |key| races.actor(key, device(key)));
        Some((races, actor))
    }

    /// Checks and records uses of memory by work of a stream, or by the host if there is no stream. A free is a use,
    /// too.
    pub(crate) fn race_uses<'a>(
        &mut self,
        stream: Option<Key>,
        by: &'static str,
        uses: impl IntoIterator<Item = &'a UsedRange>,
    ) {
        let site = UseSite { by, at: self.now };
        if self.races.is_none() {
            return;
        }
        for (range, kind) in uses.into_iter().filter(|(range, _)| !range.is_empty()) {
            // A use of an alias is also a use of its first addresses. The alias records it as well,
            // for when it is unmapped.
            let first_addresses = self.memory.first_addresses(range);
            if let Some((races, actor)) = self.racing(stream) {
                races.used(actor, range, &first_addresses, *kind, site, None);
            }
        }
    }

    /// Records an event of a block.
    pub(crate) fn race_block(&mut self, stream: Option<Key>, range: Range<u64>, event: BlockEvent) {
        let first_addresses = self.memory.first_addresses(&range);
        let (kind, by) = match event {
            BlockEvent::Allocated => (AccessKind::Allocated, "a block"),
            BlockEvent::Freed => (AccessKind::Freed, "a block"),
            BlockEvent::HandedOut => (AccessKind::Allocated, "a pool"),
            BlockEvent::Kept => (AccessKind::Freed, "a pool"),
            BlockEvent::Released => return self.races.iter_mut().for_each(|races| races.blocks.forget(&range)),
        };
        let site = UseSite { by, at: self.now };
        let Some((races, actor)) = self.racing(stream).filter(|_| !range.is_empty()) else { return };
        match event {
            BlockEvent::HandedOut | BlockEvent::Kept => races.pool_block(actor, &range, &first_addresses, kind, site),
            _ if actor == HOST => {}
            _ => drop(races.used(actor, &range, &first_addresses, kind, site, None)),
        }
    }

    /// Records a free by the driver.
    pub(crate) fn race_freed(&mut self, stream: Option<Key>, by: &'static str, addr: u64, bytes: u64) {
        let range = addr..addr.saturating_add(bytes);
        self.race_uses(stream, by, &[(range.clone(), AccessKind::Freed)]);
        self.races.iter_mut().for_each(|races| races.blocks.forget(&range));
    }

    /// Records that a host access has begun. Returns its number, or 0 if the detector is off.
    pub(crate) fn race_host_begins(&mut self, used: UsedRange) -> u64 {
        self.races.as_mut().map_or(0, |races| races.host_begins(used))
    }

    /// Checks and records a host access that has ended.
    pub(crate) fn race_host_ends(&mut self, access: u64) {
        let site = UseSite { by: "the host", at: self.now };
        let Some(OpenAccess { used: (range, kind), begun }) = self.races.as_mut().and_then(|r| r.host_ends(access))
        else {
            return;
        };
        let first_addresses = self.memory.first_addresses(&range);
        if let Some((races, actor)) = self.racing(None).filter(|_| !range.is_empty()) {
            races.used(actor, &range, &first_addresses, kind, site, Some(begun));
        }
    }

    /// Records uses that the simulator refused, perhaps because the memory was freed.
    pub(crate) fn race_refused(&mut self, stream: Option<Key>, by: &'static str, uses: &[UsedRange]) {
        let site = UseSite { by, at: self.now };
        let Some((races, actor)) = self.racing(stream) else { return };
        uses.iter().for_each(|(range, kind)| races.refused(actor, range.clone(), *kind, site));
    }

    /// Records that the driver allocated memory: ready on `stream`, or for all later work if there is no stream.
    pub(crate) fn race_allocated(&mut self, stream: Option<Key>, by: &'static str, addr: u64, bytes: u64) {
        let site = UseSite { by, at: self.now };
        let Some((races, actor)) = self.racing(stream) else { return };
        races.allocated(actor, addr..addr.saturating_add(bytes), site);
    }

    /// Records that the host waited for all work of a stream, or that a query found this work done.
    pub(crate) fn race_host_waited(&mut self, stream: Key) {
        if let Some((races, stream)) = self.racing(Some(stream)) {
            races.wait(HOST, stream);
        }
    }

    /// Records that the host waited for all streams of a device, or of all devices if `device` is `None`.
    pub(crate) fn race_host_waited_for_device(&mut self, device: Option<u32>) {
        let Some((races, _)) = self.racing(None) else { return };
        races.host_waited_for_gone(device);
        for stream in 0..races.streams.len() {
            if device.is_none_or(|d| races.streams[stream].device == d) {
                races.wait(HOST, stream as Actor + 1);
            }
        }
    }

    /// Records that the stream `later` waits for all work that `earlier` has so far.
    pub(crate) fn race_stream_waits(&mut self, later: Key, earlier: Key) {
        let Some((_, later)) = self.racing(Some(later)) else { return };
        if let Some((races, earlier)) = self.racing(Some(earlier)) {
            races.wait(later, earlier);
        }
    }

    /// Records that an event was recorded.
    pub(crate) fn race_event_recorded(&mut self, event: Key, stream: Key) {
        if let Some((races, stream)) = self.racing(Some(stream)) {
            races.submit(stream);
            let known = races.clock(stream).clone();
            races.events.insert(event.handle(), known);
        }
    }

    /// Stores the joined clock of all streams of a device in the event. A stream that waits for the event joins that clock.
    pub(crate) fn race_event_recorded_on_device(&mut self, event: Key, device: u32) {
        let Some((races, _)) = self.racing(None) else { return };
        let own: Vec<Actor> =
            (0..races.streams.len()).filter(|&s| races.streams[s].device == device).map(|s| s as Actor + 1).collect();
        let mut known = races.known_to_gone(device).cloned().unwrap_or_default();
        for stream in own {
            races.submit(stream);
            known.join(races.clock(stream));
        }
        races.events.insert(event.handle(), known);
    }

    /// Records that a stream waits for an event. Without a stream, the host waited for it, or a query found it reached.
    pub(crate) fn race_event_waited(&mut self, stream: Option<Key>, event: Key) {
        let Some((races, actor)) = self.racing(stream) else { return };
        if let Some(known) = races.events.remove(&event.handle()) {
            races.clock(actor).join(&known);
            races.events.insert(event.handle(), known);
        }
    }

    /// Removes a destroyed stream, which has no work left.
    pub(crate) fn race_stream_ended(&mut self, stream: Key) {
        if let Some((races, _)) = self.racing(None) {
            races.ended(stream);
        }
    }

    /// Forgets a destroyed event.
    pub(crate) fn race_event_destroyed(&mut self, event: Key) {
        if let Some((races, _)) = self.racing(None) {
            races.events.remove(&event.handle());
        }
    }
}
