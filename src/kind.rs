//! What a block of memory is, as a type, and what each kind allows.
//!
//! A kind is an associated type of every resource ([`MemoryResource::Kind`]) and every adaptor hands
//! on its upstream's, so a stack never loses what its memory can do (RMM loses it: its pool over
//! pinned memory is no longer host accessible).
//!
//! | kind | allocated by | [`DeviceAccessible`] | [`HostAccessible`] | [`Migratable`] |
//! |---|---|---|---|---|
//! | [`Device`] | `cuMemAlloc`, stream-ordered pools | yes | | |
//! | [`Managed`] | `cuMemAllocManaged` | yes | yes | yes |
//! | [`Pinned`] | `cuMemAllocHost` | yes | yes | |
//! | [`Host`] | the process's own allocator | | yes | |
//! | [`Erased`] | any of the first three, known at run time | yes | | |
//! | [`Either<A, B>`](Either) | either of two | if both are | if both are | if both are |
//! | [`Unknown`] | any, known at run time | | | |
//!
//! [`MemoryResource::Kind`]: crate::MemoryResource::Kind

use std::marker::PhantomData;

/// A kind of memory. See the [module](self).
pub trait MemoryKind: 'static {
    /// The word for it in messages and in stack specifications.
    const NAME: &'static str;
}

/// Memory of one GPU, which the host cannot touch.
#[derive(Debug, Clone, Copy)]
pub enum Device {}

/// Unified memory: one address on host and devices, pages that migrate.
#[derive(Debug, Clone, Copy)]
pub enum Managed {}

/// Page-locked host memory, which devices reach over the link.
#[derive(Debug, Clone, Copy)]
pub enum Pinned {}

/// Ordinary host memory, which no device can touch.
#[derive(Debug, Clone, Copy)]
pub enum Host {}

/// Device-accessible memory whose kind is only known at run time, as the per-device default resource
/// hands out.
#[derive(Debug, Clone, Copy)]
pub enum Erased {}

/// Memory of which nothing is known before run time, as of a stack that was read from text.
#[derive(Debug, Clone, Copy)]
pub enum Unknown {}

/// Memory of one kind or the other, as of a stack that spills from one resource to another: it can do what both can.
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
/// Every block of this kind must be memory that the driver of its resource's device knows: the driver takes any other
/// address for ordinary host memory, and copies from and to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` memory is not accessible from the device",
    label = "needs device-accessible memory",
    note = "allocate from a `CudaResource`, `ManagedResource` or `PinnedResource`"
)]
pub unsafe trait DeviceAccessible: MemoryKind {}

// SAFETY: the driver allocates it.
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
/// [live](crate::resource#terms), and must hold initialised bytes: the driver's (of any value) or
/// zeros. Safe code makes slices of it.
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
// SAFETY: `HostResource` hands out zeroed memory of the process.
unsafe impl HostAccessible for Host {}

#[diagnostic::do_not_recommend]
// SAFETY: every block is of one of the two kinds.
unsafe impl<A: HostAccessible, B: HostAccessible> HostAccessible for Either<A, B> {}

/// Pages of this memory migrate between host and devices, so that prefetch and advice mean something.
///
/// Not unsafe: a false claim costs an error code of the driver, not memory safety.
#[diagnostic::on_unimplemented(
    message = "`{Self}` memory cannot be prefetched: its pages do not migrate",
    label = "needs migratable memory",
    note = "build the stack on `ManagedResource` to prefetch"
)]
pub trait Migratable: MemoryKind {}

impl Migratable for Managed {}
#[diagnostic::do_not_recommend]
impl<A: Migratable, B: Migratable> Migratable for Either<A, B> {}
