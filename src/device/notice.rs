//! [`Notice`]: an operation on memory, announced once to every listener.
//!
//! Devices, streams, leaves and buffers announce notices. Residency, migration accounting and automatic prefetch are
//! listeners. Each listener chooses the kinds of notices to receive, so the announcing code depends on no listener.

use cumem_driver::{Access, DeviceId, Location};
use smallvec::SmallVec;
use std::fmt::Debug;
use std::ops::BitOr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

/// An operation on memory through this library. Addresses and lengths are in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Notice<'a> {
    /// A leaf allocated memory from the driver.
    Allocated,
    /// A leaf freed memory to the driver.
    Freed { memory: LeafMemory, addr: u64, bytes: usize },
    /// A prefetch was enqueued.
    Prefetched { addr: u64, bytes: usize, to: Location },
    /// Advice was passed to the driver.
    Advised { addr: u64, bytes: usize },
    /// The host was given access to the memory. Its pages may migrate to the host.
    HostAccess { addr: u64, bytes: usize, write: bool },
    /// The program declared that work on the device uses the memory.
    DeviceUse { addr: u64, bytes: usize },
    /// A kernel was launched. `accesses` lists the accesses of a kernel of a simulated device, and is empty for a GPU.
    Launched { accesses: &'a [Access] },
    /// Bytes were copied between the host and a buffer, and the copy is complete.
    Copied { addr: u64, bytes: usize, to: Location, took: Duration },
}

/// The memory of a leaf that counts against a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeafMemory {
    /// Device memory.
    Plain,
    /// Managed memory, whose pages may be on any device.
    Managed,
}

/// A set of kinds of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest(u32);

impl Interest {
    const NOTHING: Self = Self(0);
    /// [`Notice::Allocated`] and [`Notice::Freed`].
    pub(crate) const MEMORY: Self = Self(1);
    pub(crate) const PREFETCHED: Self = Self(2);
    pub(crate) const ADVISED: Self = Self(4);
    pub(crate) const HOST_ACCESS: Self = Self(8);
    pub(crate) const DEVICE_USE: Self = Self(16);
    pub(crate) const LAUNCHED: Self = Self(32);
    pub(crate) const COPIED: Self = Self(64);
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Notice<'_> {
    fn kind(&self) -> Interest {
        match self {
            Self::Allocated | Self::Freed { .. } => Interest::MEMORY,
            Self::Prefetched { .. } => Interest::PREFETCHED,
            Self::Advised { .. } => Interest::ADVISED,
            Self::HostAccess { .. } => Interest::HOST_ACCESS,
            Self::DeviceUse { .. } => Interest::DEVICE_USE,
            Self::Launched { .. } => Interest::LAUNCHED,
            Self::Copied { .. } => Interest::COPIED,
        }
    }
}

/// Receives notices.
pub(crate) trait Listener: Debug + Send + Sync {
    /// Returns the kinds of notices to receive. All calls must return the same kinds.
    fn interest(&self) -> Interest;

    /// Receives one notice. `device` is the device that the work was done for or enqueued on. No lock of the
    /// announcing code is held.
    fn hear(&self, device: DeviceId, notice: &Notice<'_>);
}

/// The listeners of a machine.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// The union of the listeners' interests. It is read without the lock, so a notice that no listener receives costs
    /// one load.
    interest: AtomicU32,
    list: RwLock<Vec<Weak<dyn Listener>>>,
}

impl Listeners {
    pub(super) fn add(&self, listener: Weak<dyn Listener>) {
        self.change(|list| list.push(listener));
    }

    /// Removes `listener`, and all listeners that were dropped.
    pub(super) fn remove(&self, listener: &Weak<dyn Listener>) {
        self.change(|list| list.retain(|other| !other.ptr_eq(listener)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Weak<dyn Listener>>)) {
        // The strong handles are dropped after the lock is released, because one may be the last and drop its listener.
        let mut held: SmallVec<[Arc<dyn Listener>; 4]> = SmallVec::new();
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        list.retain(|listener| listener.upgrade().map(|listener| held.push(listener)).is_some());
        let union = held.iter().fold(Interest::NOTHING, |union, listener| union | listener.interest());
        self.interest.store(union.0, Relaxed);
        drop(list);
    }

    /// Reports whether a listener receives notices of a kind.
    #[inline]
    pub(super) fn want(&self, kind: Interest) -> bool {
        self.interest.load(Relaxed) & kind.0 != 0
    }

    #[inline]
    pub(super) fn tell(&self, device: DeviceId, notice: &Notice<'_>) {
        if self.want(notice.kind()) {
            self.tell_each(device, notice);
        }
    }

    #[cold]
    fn tell_each(&self, device: DeviceId, notice: &Notice<'_>) {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let listeners: SmallVec<[Arc<dyn Listener>; 4]> = list.iter().filter_map(Weak::upgrade).collect();
        drop(list);
        let kind = notice.kind();
        let interested = listeners.iter().filter(|listener| listener.interest().0 & kind.0 != 0);
        interested.for_each(|listener| listener.hear(device, notice));
    }
}
