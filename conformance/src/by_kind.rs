//! How the macros find out from a resource's kind how its memory is reached.
//!
//! Only a macro can ask whether a type has a capability without demanding it: it names the concrete type,
//! and of three methods with one name the compiler takes the first that applies, by number of references.

use crate::contents::Contents;
use crate::subject::BoxError;
use crate::suite::Touch;
use cumem::kind::{DeviceAccessible, HostAccessible};
use cumem::{Device, MemoryKind, MemoryResource};
use std::fmt;
use std::marker::PhantomData;

/// A kind to be asked.
pub struct ByKind<K>(PhantomData<fn() -> K>);

impl<K> fmt::Debug for ByKind<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByKind")
    }
}

/// Gives a closure its type, so that its argument needs no annotation.
pub fn factory<R, F: Fn(&Device) -> Result<R, BoxError>>(make: F) -> F {
    make
}

/// The kind of what a factory makes.
pub fn kind_of<R: MemoryResource>(_: &impl Fn(&Device) -> Result<R, BoxError>) -> ByKind<R::Kind> {
    ByKind(PhantomData)
}

/// First choice: through the pointer.
pub trait ByHost<K> {
    /// How.
    fn touch(&self) -> Touch<K>;
}

impl<K: HostAccessible> ByHost<K> for &&ByKind<K> {
    fn touch(&self) -> Touch<K> {
        |_| Ok(Contents::through_host())
    }
}

/// Second choice: by work on the device.
pub trait ByDevice<K> {
    /// How.
    fn touch(&self) -> Touch<K>;
}

impl<K: DeviceAccessible> ByDevice<K> for &ByKind<K> {
    fn touch(&self) -> Touch<K> {
        Contents::through_device
    }
}

/// Last choice: not at all.
pub trait ByNobody<K> {
    /// How.
    fn touch(&self) -> Touch<K>;
}

impl<K: MemoryKind> ByNobody<K> for ByKind<K> {
    fn touch(&self) -> Touch<K> {
        |_| Ok(Contents::untouched())
    }
}
