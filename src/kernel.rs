//! Kernels: [`Module`] and [`Function`] of a GPU, [`HostKernel`] in their place on a simulated device.

use crate::device::Device;
use crate::driver::{RawFunction, RawModule};
use crate::drop_error::record_drop_error;
use crate::error::DriverError;
use bytemuck::Pod;
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// A loaded module. Functions keep it loaded.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Loaded>,
}

struct Loaded {
    raw: RawModule,
    device: Device,
}

impl Module {
    /// Compiles PTX for the device and loads it.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotSupported`] on a simulated device, or what the driver answers
    /// (`CUDA_ERROR_INVALID_PTX`, `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`, ...).
    pub fn from_ptx(device: &Device, ptx: &str) -> Result<Self, DriverError> {
        let raw = device.driver().load_module(device.ordinal(), ptx)?;
        Ok(Self { inner: Arc::new(Loaded { raw, device: device.clone() }) })
    }

    /// The kernel called `name`.
    ///
    /// # Errors
    ///
    /// `CUDA_ERROR_NOT_FOUND` if the module has none.
    pub fn function(&self, name: &str) -> Result<Function, DriverError> {
        let device = &self.inner.device;
        // SAFETY: the module is loaded for as long as `self` is there.
        let raw = unsafe { device.driver().function(device.ordinal(), self.inner.raw, name) }?;
        Ok(Function { raw, module: self.clone() })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let (driver, d) = (self.device.driver(), self.device.ordinal());
        // The driver does not promise that a queued launch keeps its code.
        let idle = driver.synchronize_device(d);
        // SAFETY: the last handle is going, and nothing that was launched from it is still to run.
        let result = idle.and_then(|()| unsafe { driver.unload_module(d, self.raw) });
        record_drop_error("a module", result);
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({:#x} on {})", self.inner.raw.0, self.inner.device.id())
    }
}

/// A kernel, for [`Stream::launch_kernel`](crate::Stream::launch_kernel).
#[derive(Debug, Clone)]
pub struct Function {
    raw: RawFunction,
    module: Module,
}

impl Function {
    /// The device that it was loaded for.
    pub fn device(&self) -> &Device {
        &self.module.inner.device
    }

    pub(crate) fn raw(&self) -> RawFunction {
        self.raw
    }
}

/// How many threads a launch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchConfig {
    /// Blocks in x, y and z.
    pub grid: (u32, u32, u32),
    /// Threads of a block in x, y and z.
    pub block: (u32, u32, u32),
    /// Bytes of dynamic shared memory per block.
    pub shared_bytes: u32,
}

impl LaunchConfig {
    /// So many blocks of so many threads, in x, y and z, without dynamic shared memory.
    pub const fn new(grid: (u32, u32, u32), block: (u32, u32, u32)) -> Self {
        Self { grid, block, shared_bytes: 0 }
    }

    /// With this much dynamic shared memory per block, in bytes.
    #[must_use]
    pub const fn shared_bytes(mut self, bytes: u32) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// At least `n` threads in one dimension, in blocks of `block`. For no threads there is nothing to launch: the
    /// driver rejects an empty grid.
    ///
    /// # Panics
    ///
    /// If `block` is 0.
    pub const fn for_elements(n: u32, block: u32) -> Self {
        Self::new((n.div_ceil(block), 1, 1), (block, 1, 1))
    }
}

/// One argument of a kernel, of up to 16 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct KernelArg([u8; 16]);

impl KernelArg {
    /// A number, a [device address](crate::Buffer::device_address), or a small plain structure.
    pub fn new<T: Pod>(value: T) -> Self {
        const { assert!(size_of::<T>() <= 16 && align_of::<T>() <= 16, "a kernel argument has at most 16 bytes") }
        let mut bytes = [0; 16];
        bytes[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
        Self(bytes)
    }
}

/// What a kernel does to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// Only reads it.
    Read,
    /// Writes it, perhaps after reading.
    Write,
}

/// In which order a [`HostKernel`] touches a range. Offsets are bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pattern {
    /// All of it, ascending.
    #[default]
    Sequential,
    /// The bytes at 0, `stride`, twice `stride`, ... and nothing between them.
    Strided {
        /// Bytes from one to the next.
        stride: usize,
    },
    /// So many bytes anywhere in it, drawn evenly. The same seed gives the same ones.
    Random {
        /// Of the random numbers.
        seed: u64,
        /// How many are drawn.
        touches: usize,
    },
    /// The bytes at these offsets, in this order.
    List(Arc<[usize]>),
}

/// A range of memory that a [`HostKernel`] touches.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Access {
    /// The first byte.
    pub addr: u64,
    /// Bytes.
    pub bytes: usize,
    /// What is done to it.
    pub mode: AccessMode,
    /// In which order.
    pub pattern: Pattern,
}

pub(crate) type HostWork = Box<dyn FnOnce(&KernelMemory<'_>) + Send>;

/// Work of a simulated device: a closure of the host that says what it reads and writes, so that
/// pages move and time passes as they would.
///
/// The closure runs when its turn comes, which may be at a later synchronisation.
#[must_use = "does nothing until it is launched"]
pub struct HostKernel {
    pub(crate) name: &'static str,
    pub(crate) accesses: SmallVec<[Access; 4]>,
    pub(crate) operations: u64,
    pub(crate) in_flight: usize,
    pub(crate) work: HostWork,
}

impl HostKernel {
    /// Work called `name` that touches nothing yet.
    pub fn new(name: &'static str, work: impl FnOnce(&KernelMemory<'_>) + Send + 'static) -> Self {
        Self { name, accesses: SmallVec::new(), operations: 0, in_flight: 1, work: Box::new(work) }
    }

    /// It reads `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order) says otherwise.
    pub fn reads(self, addr: u64, bytes: usize) -> Self {
        self.touches(addr, bytes, AccessMode::Read)
    }

    /// It writes `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order) says otherwise.
    pub fn writes(self, addr: u64, bytes: usize) -> Self {
        self.touches(addr, bytes, AccessMode::Write)
    }

    fn touches(mut self, addr: u64, bytes: usize, mode: AccessMode) -> Self {
        self.accesses.push(Access { addr, bytes, mode, pattern: Pattern::Sequential });
        self
    }

    /// The range declared last is touched in this order. The ranges of a kernel are touched one after the other.
    ///
    /// The launch fails if the order does not stay within the range.
    ///
    /// # Panics
    ///
    /// If no range has been declared.
    pub fn in_order(mut self, pattern: Pattern) -> Self {
        self.accesses.last_mut().expect("an order is that of a declared range").pattern = pattern;
        self
    }

    /// Its threads can wait for up to `threads` page faults at once, which the driver then serves together, in batches;
    /// at most as many as its batches hold. Without this, each fault is served before the next comes.
    pub fn in_flight(mut self, threads: usize) -> Self {
        self.in_flight = threads;
        self
    }

    /// It does this many arithmetic operations, from which its virtual time follows.
    pub fn operations(mut self, operations: u64) -> Self {
        self.operations = operations;
        self
    }
}

impl fmt::Debug for HostKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKernel").field("name", &self.name).field("accesses", &self.accesses).finish_non_exhaustive()
    }
}

/// The ranges that a running [`HostKernel`] declared, in the order in which it declared them.
#[derive(Debug)]
pub struct KernelMemory<'a> {
    accesses: &'a [Access],
    taken: Cell<u64>,
}

impl<'a> KernelMemory<'a> {
    /// # Safety
    ///
    /// Every access names memory that is valid, initialised, and used by nothing else while the result is
    /// in use; writes overlap no other access.
    pub(crate) unsafe fn new(accesses: &'a [Access]) -> Self {
        Self { accesses, taken: Cell::new(0) }
    }

    /// Declared range `index`, which was declared with [`HostKernel::reads`].
    ///
    /// # Panics
    ///
    /// If it was not, or is no whole number of aligned `T`.
    pub fn read<T: Pod>(&self, index: usize) -> &'a [T] {
        let access = self.declared(index, AccessMode::Read);
        // SAFETY: by the contract of `new`, and only written ranges are handed out mutably.
        let bytes = unsafe { std::slice::from_raw_parts(access.addr as *const u8, access.bytes) };
        bytemuck::cast_slice(bytes)
    }

    /// Declared range `index`, which was declared with [`HostKernel::writes`]. Taken once.
    ///
    /// # Panics
    ///
    /// If it was not, was taken before, is no whole number of aligned `T`, or is not among the first 64 ranges.
    pub fn write<T: Pod>(&self, index: usize) -> &'a mut [T] {
        let access = self.declared(index, AccessMode::Write);
        let bit = 1_u64.checked_shl(index as u32).expect("a host kernel writes to its first 64 ranges only");
        assert_eq!(self.taken.replace(self.taken.get() | bit) & bit, 0, "range {index} was taken before");
        // SAFETY: by the contract of `new`, and each written range is handed out once.
        let bytes = unsafe { std::slice::from_raw_parts_mut(access.addr as *mut u8, access.bytes) };
        bytemuck::cast_slice_mut(bytes)
    }

    fn declared(&self, index: usize, mode: AccessMode) -> &'a Access {
        let access = &self.accesses[index];
        assert_eq!(access.mode, mode, "range {index} was declared as {:?}", access.mode);
        access
    }
}
