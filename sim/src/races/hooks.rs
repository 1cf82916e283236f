//! What the rest of the simulator tells the detector, if there is one.
#![forbid(unsafe_code)]

use super::clock::{Actor, HOST};
use super::{Deed, Race, Races, Site};
use crate::handles::Key;
use crate::machine::State;
use std::ops::Range;

/// A range of addresses and what is done to it.
pub(crate) type Used = (Range<u64>, Deed);

/// `bytes` bytes at `addr`, and what is done to them.
pub(crate) fn used(addr: u64, bytes: u64, deed: Deed) -> Used {
    (addr..addr.saturating_add(bytes), deed)
}

impl State {
    pub(crate) fn detect_races(&mut self, on: bool) {
        match on {
            true => drop(self.races.get_or_insert_default()),
            false => self.races = None,
        }
    }

    pub(crate) fn take_races(&mut self) -> Vec<Race> {
        self.races.as_mut().map(|races| std::mem::take(&mut races.found)).unwrap_or_default()
    }

    /// The detector, and whom it knows a stream as; without a stream, the host.
    fn racing(&mut self, stream: Option<Key>) -> Option<(&mut Races, Actor)> {
        let races = self.races.as_deref_mut()?;
        let device = |key| self.streams.get(key).map_or(0, |stream| stream.device);
        let actor = stream.map_or(HOST, |key| races.actor(key, device(key)));
        Some((races, actor))
    }

    /// Work of a stream, or the host, uses memory; so does whoever gives it back.
    pub(crate) fn race_uses<'a>(
        &mut self,
        stream: Option<Key>,
        by: &'static str,
        uses: impl IntoIterator<Item = &'a Used>,
    ) {
        let site = Site { by, at: self.now };
        if self.races.is_none() {
            return;
        }
        for (range, deed) in uses.into_iter().filter(|(range, _)| !range.is_empty()) {
            // What is used at an alias is used at home; the alias remembers it too, for when it is unmapped.
            let homes = self.memory.homes(range);
            if let Some((races, actor)) = self.racing(stream) {
                races.used(actor, range, &homes, *deed, site);
            }
        }
    }

    /// The same for uses that were refused, perhaps because the memory was freed.
    pub(crate) fn race_refused(&mut self, stream: Option<Key>, by: &'static str, uses: &[Used]) {
        let site = Site { by, at: self.now };
        let Some((races, actor)) = self.racing(stream) else { return };
        uses.iter().for_each(|(range, deed)| races.refused(actor, range.clone(), *deed, site));
    }

    /// The driver has allocated memory, ready for a stream or for everybody.
    pub(crate) fn race_fresh(&mut self, stream: Option<Key>, by: &'static str, addr: u64, bytes: u64) {
        let site = Site { by, at: self.now };
        let Some((races, actor)) = self.racing(stream) else { return };
        races.fresh(actor, addr..addr.saturating_add(bytes), site);
    }

    /// The host has waited for all that a stream was given, or was told that it is done.
    pub(crate) fn race_host_waited(&mut self, stream: Key) {
        if let Some((races, stream)) = self.racing(Some(stream)) {
            races.wait(HOST, stream);
        }
    }

    /// The same for all streams of a device; `None` for all devices.
    pub(crate) fn race_host_waited_for_device(&mut self, device: Option<u32>) {
        let Some((races, _)) = self.racing(None) else { return };
        for stream in 0..races.streams.len() {
            if device.is_none_or(|d| races.streams[stream].device == d) {
                races.wait(HOST, stream as Actor + 1);
            }
        }
    }

    /// A stream waits for all that another was given.
    pub(crate) fn race_stream_waits(&mut self, later: Key, earlier: Key) {
        let Some((_, later)) = self.racing(Some(later)) else { return };
        if let Some((races, earlier)) = self.racing(Some(earlier)) {
            races.wait(later, earlier);
        }
    }

    /// An event was recorded.
    pub(crate) fn race_recorded(&mut self, event: Key, stream: Key) {
        if let Some((races, stream)) = self.racing(Some(stream)) {
            races.submit(stream);
            let known = races.clock(stream).clone();
            races.events.insert(event.handle(), known);
        }
    }

    /// A stream, or the host, waits for an event, or the host was told that it is reached.
    pub(crate) fn race_waited(&mut self, stream: Option<Key>, event: Key) {
        let Some((races, actor)) = self.racing(stream) else { return };
        if let Some(known) = races.events.remove(&event.handle()) {
            races.clock(actor).join(&known);
            races.events.insert(event.handle(), known);
        }
    }

    /// An event is gone.
    pub(crate) fn race_forget(&mut self, event: Key) {
        if let Some((races, _)) = self.racing(None) {
            races.events.remove(&event.handle());
        }
    }
}
