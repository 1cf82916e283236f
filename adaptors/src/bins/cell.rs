//! [`Cell`]: the entries and the lists of a few streams.
#![forbid(unsafe_code)]

use super::kept::Kept;
use super::tag::Tag;
use cumem::Block;
use cumem::device::{KeptStream, StreamId};
use std::ptr::NonNull;

/// A cell with more lists than this drops those that are empty when a new one is added.
const LISTS: usize = 8;

/// A block of the upstream: handed out, or in the list of a stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) block: Block,
    pub(super) bin: usize,
    is_live: bool,
}

impl Entry {
    pub(super) fn live(block: Block, bin: usize) -> Self {
        Self { block, bin, is_live: true }
    }
}

/// A place for an entry. Its generation changes when its block is freed.
#[derive(Debug, Default)]
struct Place {
    generation: u32,
    entry: Option<Entry>,
}

/// The free blocks of a stream.
#[derive(Debug)]
struct Lists {
    id: StreamId,
    stream: KeptStream,
    /// Places, by bin. The last one was freed last.
    free: Box<[Vec<u32>]>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Cell {
    places: Vec<Place>,
    vacant: Vec<u32>,
    lists: Vec<Lists>,
}

impl Cell {
    #[inline]
    fn list(&mut self, stream: StreamId) -> Option<&mut Lists> {
        self.lists.iter_mut().find(|lists| lists.id == stream)
    }

    /// Takes the block out of the stream's list that was freed last. The tag lacks the cell.
    #[inline]
    pub(super) fn pop(&mut self, stream: StreamId, bin: usize) -> Option<(NonNull<u8>, Tag)> {
        let place = self.list(stream)?.free.get_mut(bin)?.pop()?;
        let Place { generation, entry } = self.places.get_mut(place as usize)?;
        let entry = entry.as_mut()?;
        entry.is_live = true;
        Some((entry.block.as_non_null(), Tag { cell: 0, generation: *generation, entry: place }))
    }

    /// Reports whether the block was handed out with this tag and was not freed since.
    #[inline]
    pub(super) fn is_live(&self, tag: Tag, block: &Block, bin: Option<usize>) -> bool {
        let place = self.places.get(tag.entry as usize);
        let entry = place.filter(|place| place.generation == tag.generation).and_then(|place| place.entry.as_ref());
        entry.is_some_and(|entry| entry.is_live && entry.block.addr() == block.addr() && Some(entry.bin) == bin)
    }

    /// Makes a live entry free, in the list of the stream. Returns the length of the list, or `None` if the stream has no
    /// list.
    #[inline]
    pub(super) fn push(&mut self, tag: Tag, stream: StreamId) -> Option<usize> {
        let Self { places, lists, .. } = self;
        let lists = lists.iter_mut().find(|lists| lists.id == stream)?;
        let Place { generation, entry } = places.get_mut(tag.entry as usize)?;
        let entry = entry.as_mut()?;
        let free = lists.free.get_mut(entry.bin)?;
        entry.is_live = false;
        *generation = Tag::next_generation(*generation);
        free.push(tag.entry);
        Some(free.len())
    }

    /// Adds an entry. The tag lacks the cell.
    pub(super) fn insert(&mut self, entry: Entry) -> Tag {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.entry = Some(entry);
        Tag { cell: 0, generation: place.generation, entry: index }
    }

    fn remove(&mut self, place: u32) -> Option<Entry> {
        let Place { generation, entry } = self.places.get_mut(place as usize)?;
        let entry = entry.take()?;
        *generation = Tag::next_generation(*generation);
        self.vacant.push(place);
        Some(entry)
    }

    /// Removes the entry of a live block.
    pub(super) fn take_live(&mut self, tag: Tag, block: &Block, bin: Option<usize>) -> Option<Entry> {
        if self.is_live(tag, block, bin) { self.remove(tag.entry) } else { None }
    }

    /// Removes the `count` entries of a list that were freed first.
    pub(super) fn take_oldest(&mut self, stream: StreamId, bin: Option<usize>, count: usize) -> Vec<Kept> {
        let Some(lists) = self.list(stream) else { return Vec::new() };
        let Some(free) = bin.and_then(|bin| lists.free.get_mut(bin)) else { return Vec::new() };
        let (oldest, kept): (Vec<u32>, _) = (free.drain(..count.min(free.len())).collect(), lists.stream.clone());
        let entries = oldest.into_iter().filter_map(|place| self.remove(place));
        entries.map(|Entry { block, bin, .. }| Kept { block, bin, stream: kept.clone() }).collect()
    }

    /// Removes all free entries and all lists. Returns the handles of the streams too, to be dropped without the lock.
    pub(super) fn take_all(&mut self) -> (Vec<Kept>, Vec<KeptStream>) {
        let (mut taken, mut streams) = (Vec::new(), Vec::new());
        for Lists { stream, free, .. } in std::mem::take(&mut self.lists) {
            for place in free.into_iter().flatten() {
                if let Some(Entry { block, bin, .. }) = self.remove(place) {
                    taken.push(Kept { block, bin, stream: stream.clone() });
                }
            }
            streams.push(stream);
        }
        (taken, streams)
    }

    /// Gives a stream a list. Returns handles of streams that are not used any more, to be dropped without the lock.
    pub(super) fn open_list(&mut self, stream: KeptStream, bins: usize) -> Vec<KeptStream> {
        if self.list(stream.id()).is_some() {
            return vec![stream];
        }
        let mut unused = Vec::new();
        if self.lists.len() >= LISTS {
            let is_empty = |lists: &mut Lists| lists.free.iter().all(Vec::is_empty);
            unused.extend(self.lists.extract_if(.., is_empty).map(|lists| lists.stream));
        }
        let free = (0..bins).map(|_| Vec::new()).collect();
        self.lists.push(Lists { id: stream.id(), stream, free });
        unused
    }

    pub(super) fn count_free(&self, blocks: &mut [usize]) {
        for lists in &self.lists {
            blocks.iter_mut().zip(&lists.free).for_each(|(blocks, free)| *blocks += free.len());
        }
    }

    /// Returns the live blocks, and their bytes in the upstream.
    pub(super) fn live(&self) -> (usize, usize) {
        let live = self.places.iter().filter_map(|place| place.entry.as_ref().filter(|entry| entry.is_live));
        live.fold((0, 0), |(blocks, bytes), entry| (blocks + 1, bytes + entry.block.size()))
    }
}
