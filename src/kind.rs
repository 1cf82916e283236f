//! Kinds of memory as types, and traits for the abilities of each kind.
//!
//! A kind is an associated type of every memory resource ([`MemoryResource::Kind`]). Every adaptor has the kind of its
//! upstream, so a stack keeps the abilities of its memory. (In RMM, a pool over pinned memory is no longer host
//! accessible.)
//!
//! | kind | allocated by | [`DeviceAccessible`] | [`HostAccessible`] | [`Migratable`] |
//! |---|---|---|---|---|
//! | [`Device`] | `cuMemAlloc`, stream-ordered pools | yes | | |
//! | [`Managed`] | `cuMemAllocManaged` | yes | yes | yes |
//! | [`Pinned`] | `cuMemAllocHost` | yes | yes | |
//! | [`Host`] | the process's global allocator | | yes | |
//! | [`Erased`] | one of the first three, known only at run time | yes | | |
//! | [`Either<A, B>`](Either) | one of two resources | if both are | if both are | if both are |
//! | [`Unknown`] | any of them, known only at run time | | | |
//!
//! [`MayMigrate`] holds for kinds that are [`Migratable`], and for [`Erased`].
//!
//! # Examples
//!
//! A function over any memory that the host can access:
//!
//! ```
//! use cumem::kind::HostAccessible;
//! use cumem::sim::Profile;
//! use cumem::{Buffer, Device, DeviceError, ManagedResource, MemoryResource, Stream};
//!
//! fn sum<R: MemoryResource<Kind: HostAccessible>>(numbers: &Buffer<u32, R>) -> Result<u32, DeviceError> {
//!     Ok(numbers.host_read()?.iter().sum())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::simulated(Profile::default())?;
//! let stream = Stream::new(&device)?;
//! let numbers = Buffer::from_slice(&[1, 2, 3], &stream, ManagedResource::new(&device)?)?;
//! assert_eq!(sum(&numbers)?, 6);
//! # Ok(())
//! # }
//! ```
//!
//! The compiler rejects device memory:
//!
//! ```compile_fail,E0277
//! # use cumem::kind::HostAccessible;
//! # use cumem::{Buffer, CudaResource, DeviceError, MemoryResource};
//! # fn sum<R: MemoryResource<Kind: HostAccessible>>(numbers: &Buffer<u32, R>) -> Result<u32, DeviceError> {
//! #     Ok(numbers.host_read()?.iter().sum())
//! # }
//! fn sum_of_device_memory(numbers: &Buffer<u32, CudaResource>) {
//!     let _ = sum(numbers); // `cumem::kind::Device` memory is not accessible from the host
//! }
//! ```
//!
//! [`MemoryResource::Kind`]: crate::MemoryResource::Kind

use std::marker::PhantomData;

/// A kind of memory. The [module](self) lists all kinds.
///
/// # Examples
///
/// ```
/// use cumem::kind::{Device, Managed, MemoryKind};
///
/// assert_eq!([Device::NAME, Managed::NAME], ["device", "managed"]);
/// ```
pub trait MemoryKind: 'static {
    /// The name of the kind in messages and in stack specifications.
    const NAME: &'static str;
}

/// Memory of one device, which the host cannot access.
#[derive(Debug, Clone, Copy)]
pub enum Device {}

/// Unified (managed) memory: host and devices use the same address, and pages migrate.
#[derive(Debug, Clone, Copy)]
pub enum Managed {}

/// Pinned (page-locked) host memory, which devices access over the link.
#[derive(Debug, Clone, Copy)]
pub enum Pinned {}

/// Ordinary host memory, which devices cannot access.
#[derive(Debug, Clone, Copy)]
pub enum Host {}

/// Device-accessible memory whose kind is known only at run time, such as memory of the default resource of a device
/// ([`current`](crate::current)).
#[derive(Debug, Clone, Copy)]
pub enum Erased {}

/// Memory whose kind and abilities are known only at run time, such as memory of a stack that was parsed from text.
#[derive(Debug, Clone, Copy)]
pub enum Unknown {}

/// Memory of one of two kinds, such as memory of a stack that spills from one resource to another. The memory has the
/// abilities that both kinds have.
#[derive(Debug, Clone, Copy)]
pub struct Either<A, B>(PhantomData<(A, B)>);

impl<A: MemoryKind, B: MemoryKind> MemoryKind for Either<A, B> {
    const NAME: &'static str = "either";
}
impl MemoryKind for Device {
    const NAME: &'static str = "device";
}
impl MemoryKind for Managed {
    const NAME: &'static str = "managed";
}
impl MemoryKind for Pinned {
    const NAME: &'static str = "pinned";
}
impl MemoryKind for Host {
    const NAME: &'static str = "host";
}
impl MemoryKind for Erased {
    const NAME: &'static str = "erased";
}
impl MemoryKind for Unknown {
    const NAME: &'static str = "unknown";
}

/// Kernels and the copy engines of the resource's device can use this memory at its address.
///
/// # Safety
///
/// Every block of this kind must be memory that the driver of the resource's device knows. The driver treats any other
/// address as ordinary host memory, and copies from and to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` memory is not accessible from the device",
    label = "needs device-accessible memory",
    note = "allocate from a `CudaResource`, `ManagedResource` or `PinnedResource`"
)]
pub unsafe trait DeviceAccessible: MemoryKind {}

// SAFETY: the driver allocates this memory.
unsafe impl DeviceAccessible for Device {}
// SAFETY: as above.
unsafe impl DeviceAccessible for Managed {}
// SAFETY: as above.
unsafe impl DeviceAccessible for Pinned {}
// SAFETY: only made of kinds that are `DeviceAccessible`.
unsafe impl DeviceAccessible for Erased {}

#[diagnostic::do_not_recommend]
// SAFETY: every block is of one of the two kinds.
unsafe impl<A: DeviceAccessible, B: DeviceAccessible> DeviceAccessible for Either<A, B> {}

/// The host can read and write this memory at its address.
///
/// # Safety
///
/// Every block of this kind must be readable and writable by the host for as long as it is
/// [live](crate::resource#terms). Its bytes must be initialized, because safe code creates slices of them. Bytes that
/// the driver populated count as initialized, whatever their values are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` memory is not accessible from the host",
    label = "needs host-accessible memory",
    note = "copy it to the host first, or allocate from a `ManagedResource` or `PinnedResource`"
)]
pub unsafe trait HostAccessible: MemoryKind {}

// SAFETY: cuMemAllocManaged memory is valid on the host, and the driver populates every page.
unsafe impl HostAccessible for Managed {}
// SAFETY: cuMemAllocHost memory is host memory, populated by the driver.
unsafe impl HostAccessible for Pinned {}
// SAFETY: `HostResource` returns zeroed memory of the process.
unsafe impl HostAccessible for Host {}

#[diagnostic::do_not_recommend]
// SAFETY: every block is of one of the two kinds.
unsafe impl<A: HostAccessible, B: HostAccessible> HostAccessible for Either<A, B> {}

/// Some blocks of this kind may have pages that migrate, so a hint about a buffer makes sense. A hint about a block
/// whose pages do not migrate is [skipped](crate::unified::SkipReason::DoesNotMigrate).
///
/// These are the kinds that are [`Migratable`], and [`Erased`], whose blocks may be managed memory.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, ManagedResource, Stream, current};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let plain = Buffer::<u32, _>::zeroed(1000, &stream, current::get(&device))?;
/// assert_eq!(plain.prefetch(device.id())?.to_string(), "skipped: device memory does not migrate");
///
/// current::set(&device, ManagedResource::new(&device)?)?;
/// let managed = Buffer::<u32, _>::zeroed(1000, &stream, current::get(&device))?;
/// assert!(managed.prefetch(device.id())?.is_applied());
/// # current::reset(&device);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` memory cannot be prefetched: its pages do not migrate",
    label = "needs migratable memory",
    note = "build the stack on `ManagedResource` to prefetch"
)]
pub trait MayMigrate: MemoryKind {}

#[diagnostic::do_not_recommend]
impl<K: Migratable> MayMigrate for K {}
impl MayMigrate for Erased {}

/// Pages of this memory migrate between host and devices, so prefetch and advice have an effect.
///
/// The trait is safe, because no function relies on it to dereference memory. For a kind that implements it wrongly, the
/// driver rejects hints.
#[diagnostic::on_unimplemented(
    message = "`{Self}` memory cannot be prefetched: its pages do not migrate",
    label = "needs migratable memory",
    note = "build the stack on `ManagedResource` to prefetch"
)]
pub trait Migratable: MemoryKind {}

impl Migratable for Managed {}
#[diagnostic::do_not_recommend]
impl<A: Migratable, B: Migratable> Migratable for Either<A, B> {}
