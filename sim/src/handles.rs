//! [`Handles`]: objects that are named by numbers, which are never reused.
#![forbid(unsafe_code)]

/// Handles below this number have a meaning in CUDA, for example `CU_STREAM_LEGACY`.
const RESERVED: u64 = 16;

/// Objects in slots. A handle names a slot and its generation, that is how often the slot was reused.
#[derive(Debug)]
pub(super) struct Handles<T> {
    slots: Vec<Slot<T>>,
    vacant: Vec<u32>,
    live: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A slot and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// Returns the number that the program sees.
    pub(super) fn handle(self) -> u64 {
        (u64::from(self.generation) << 32 | u64::from(self.slot)) + RESERVED
    }

    pub(super) fn from_handle(handle: u64) -> Option<Self> {
        let value = handle.checked_sub(RESERVED)?;
        Some(Self { slot: value as u32, generation: (value >> 32) as u32 })
    }
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new(), live: 0 }
    }
}

impl<T> Handles<T> {
    pub(super) fn insert(&mut self, value: T) -> Key {
        self.live += 1;
        if let Some(slot) = self.vacant.pop() {
            let generation = self.slots[slot as usize].generation;
            self.slots[slot as usize].value = Some(value);
            return Key { slot, generation };
        }
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Key { slot: (self.slots.len() - 1) as u32, generation: 0 }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(key.slot);
        self.live -= 1;
        Some(value)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?.value.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| {
            let value = slot.value.as_ref()?;
            Some((Key { slot: i as u32, generation: slot.generation }, value))
        })
    }
}
