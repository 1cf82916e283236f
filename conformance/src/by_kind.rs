//! How the macros select the way to access a resource's memory from its kind.
//!
//! Only a macro can test whether a type has a capability without requiring it. The macro names the concrete type, and
//! the compiler selects among three methods of the same name. It takes the first that applies, by the number of
//! references.

use crate::broken::BoxError;
use crate::contents::Contents;
use crate::suite::Touch;
use cumem::kind::{DeviceAccessible, HostAccessible};
use cumem::{Device, MemoryKind, MemoryResource};
use std::fmt;
use std::marker::PhantomData;

/// A memory kind as a value, for method selection.
pub struct ByKind<K>(PhantomData<fn() -> K>);

impl<K> fmt::Debug for ByKind<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByKind")
    }
}

/// Returns the closure unchanged. The call gives the closure its type, so that its argument needs no annotation.
pub fn factory<R, F: Fn(&Device) -> Result<R, BoxError>>(make: F) -> F {
    make
}

/// Returns the kind of the resource that a factory makes.
pub fn kind_of<R: MemoryResource>(_: &impl Fn(&Device) -> Result<R, BoxError>) -> ByKind<R::Kind> {
    ByKind(PhantomData)
}

/// First choice: the host accesses the memory through its pointer.
pub trait ThroughHost<K> {
    /// Returns the function that creates the matching [`Contents`].
    fn touch(&self) -> Touch<K>;
}

impl<K: HostAccessible> ThroughHost<K> for &&ByKind<K> {
    fn touch(&self) -> Touch<K> {
        |_| Ok(Contents::through_host())
    }
}

/// Second choice: work on the device accesses the memory.
pub trait ThroughDevice<K> {
    /// Returns the function that creates the matching [`Contents`].
    fn touch(&self) -> Touch<K>;
}

impl<K: DeviceAccessible> ThroughDevice<K> for &ByKind<K> {
    fn touch(&self) -> Touch<K> {
        Contents::through_device
    }
}

/// Last choice: the memory is not accessed.
pub trait Untouched<K> {
    /// Returns the function that creates the matching [`Contents`].
    fn touch(&self) -> Touch<K>;
}

impl<K: MemoryKind> Untouched<K> for ByKind<K> {
    fn touch(&self) -> Touch<K> {
        |_| Ok(Contents::untouched())
    }
}
