//! [`SpareMemory`]: memory that a service of this library keeps for later use, and frees when a leaf is out of memory.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Where spare memory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SparePlace {
    Device,
    Host,
}

/// A service that keeps memory which it does not use at the moment.
pub(crate) trait Keeper: Send + Sync {
    /// Returns the bytes that [`free_spare`](Self::free_spare) would free.
    fn spare_bytes(&self, place: SparePlace) -> usize;

    /// Frees the memory that is not in use, and returns its bytes. The service allocates memory again when it needs it.
    fn free_spare(&self, place: SparePlace) -> usize;
}

/// The services that keep memory of one device. Leaves and trims ask them through this type, so neither depends on a
/// service.
#[derive(Default)]
pub(crate) struct SpareMemory(Mutex<Vec<Arc<dyn Keeper>>>);

impl SpareMemory {
    /// Adds a service, which stays until the device is dropped.
    pub(crate) fn add(&self, keeper: Arc<dyn Keeper>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(keeper);
    }

    /// Returns the bytes of all spare memory at a place.
    pub(crate) fn bytes(&self, place: SparePlace) -> usize {
        self.keepers().iter().map(|keeper| keeper.spare_bytes(place)).sum()
    }

    /// Frees all spare memory at a place, and returns its bytes.
    pub(crate) fn free(&self, place: SparePlace) -> usize {
        self.keepers().iter().map(|keeper| keeper.free_spare(place)).sum()
    }

    /// Returns the services. No lock is held while they are called.
    fn keepers(&self) -> Vec<Arc<dyn Keeper>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for SpareMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpareMemory").finish_non_exhaustive()
    }
}
