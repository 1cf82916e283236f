//! [`HostKernel`]: a kernel for a simulated device, as Rust code that runs on the host.

use bytemuck::Pod;
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// Whether a kernel reads or writes a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// The kernel only reads the range.
    Read,
    /// The kernel writes the range, and may read it as well.
    Write,
}

/// The order in which a [`HostKernel`] accesses a range. Offsets are in bytes from the start of the range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pattern {
    /// All bytes, in ascending order.
    #[default]
    Sequential,
    /// The bytes at offsets 0, `stride`, twice `stride` and so on, but no bytes between them.
    Strided {
        /// Bytes from one accessed byte to the next.
        stride: usize,
    },
    /// Random bytes of the range, drawn from a uniform distribution. The same seed draws the same bytes.
    Random {
        /// The seed of the random numbers.
        seed: u64,
        /// Number of bytes that are drawn.
        touches: usize,
    },
    /// The bytes at these offsets, in this order.
    List(Arc<[usize]>),
}

/// A range of memory that a [`HostKernel`] declares.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Access {
    /// Address of the first byte.
    pub addr: u64,
    /// Length in bytes.
    pub bytes: usize,
    /// Whether the kernel reads or writes the range.
    pub mode: AccessMode,
    /// The order in which the kernel accesses the range.
    pub pattern: Pattern,
}

/// The closure of a [`HostKernel`].
pub type HostWork = Box<dyn FnOnce(&KernelMemory<'_>) + Send>;

/// A kernel for a simulated device: a closure that runs on the host, and the ranges of memory that it uses.
///
/// The simulated device migrates the pages of these ranges, and computes the kernel's duration from them. The closure
/// runs when the stream reaches the kernel, for example during a later synchronization.
///
/// # Examples
///
/// ```
/// use cumem_driver::{HostKernel, Pattern};
///
/// // Reads 4 KiB from one address, and writes every 64th byte of another range.
/// let kernel = HostKernel::new("scatter", |memory| {
///     let source: &[u8] = memory.read(0);
///     let target: &mut [u8] = memory.write(1);
///     target.iter_mut().step_by(64).zip(source).for_each(|(to, from)| *to = *from);
/// })
/// .reads(0x10_0000, 4096)
/// .writes(0x20_0000, 256 << 10)
/// .in_order(Pattern::Strided { stride: 64 })
/// .operations(4096);
/// assert_eq!(kernel.accesses.len(), 2);
/// ```
#[must_use = "does nothing until it is launched"]
#[non_exhaustive]
pub struct HostKernel {
    /// The name of the kernel, for reports and errors.
    pub name: &'static str,
    /// The ranges that the kernel reads and writes, in the order in which they were declared.
    pub accesses: SmallVec<[Access; 4]>,
    /// The number of arithmetic operations.
    pub operations: u64,
    /// Number of page faults that the kernel's threads can have outstanding at a time.
    pub in_flight: usize,
    /// The closure.
    pub work: HostWork,
}

impl HostKernel {
    /// Creates a kernel that declares no range yet.
    pub fn new(name: &'static str, work: impl FnOnce(&KernelMemory<'_>) + Send + 'static) -> Self {
        Self { name, accesses: SmallVec::new(), operations: 0, in_flight: 1, work: Box::new(work) }
    }

    /// Declares that the kernel reads `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order)
    /// sets another order.
    pub fn reads(self, addr: u64, bytes: usize) -> Self {
        self.touches(addr, bytes, AccessMode::Read)
    }

    /// Declares that the kernel writes `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order)
    /// sets another order.
    pub fn writes(self, addr: u64, bytes: usize) -> Self {
        self.touches(addr, bytes, AccessMode::Write)
    }

    fn touches(mut self, addr: u64, bytes: usize, mode: AccessMode) -> Self {
        self.accesses.push(Access { addr, bytes, mode, pattern: Pattern::Sequential });
        self
    }

    /// Sets the order in which the kernel accesses the range that was declared last. A kernel accesses its ranges one
    /// after the other.
    ///
    /// The launch fails if the pattern leaves the range.
    ///
    /// # Panics
    ///
    /// Panics if no range was declared.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{HostKernel, Pattern};
    ///
    /// let one_byte_a_page = Pattern::Strided { stride: 4096 };
    /// let kernel = HostKernel::new("scan", |_| {}).reads(0x10_0000, 1 << 20).in_order(one_byte_a_page.clone());
    /// assert_eq!(kernel.accesses[0].pattern, one_byte_a_page);
    /// ```
    pub fn in_order(mut self, pattern: Pattern) -> Self {
        self.accesses.last_mut().expect("a range is declared before its order").pattern = pattern;
        self
    }

    /// Sets the number of page faults that the kernel's threads can have outstanding at a time. The driver serves
    /// outstanding faults together, at most one batch at a time. The default is 1: each fault is served before the next
    /// one happens.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::HostKernel;
    ///
    /// let kernel = HostKernel::new("scan", |_| {}).reads(0x10_0000, 1 << 20).in_flight(256);
    /// assert_eq!(kernel.in_flight, 256);
    /// ```
    pub fn in_flight(mut self, threads: usize) -> Self {
        self.in_flight = threads;
        self
    }

    /// Sets the number of arithmetic operations. The kernel's simulated duration grows with it.
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

/// Access to the ranges that a running [`HostKernel`] declared, by their position in the order of declaration.
#[derive(Debug)]
pub struct KernelMemory<'a> {
    accesses: &'a [Access],
    taken: Cell<u64>,
}

impl<'a> KernelMemory<'a> {
    /// Creates the access to the ranges of a kernel.
    ///
    /// # Safety
    ///
    /// The caller must ensure that:
    ///
    /// - each range is valid and initialized, and nothing else uses it while the result exists;
    /// - no written range overlaps another range.
    pub unsafe fn new(accesses: &'a [Access]) -> Self {
        Self { accesses, taken: Cell::new(0) }
    }

    /// Returns range `index`, which was declared with [`HostKernel::reads`].
    ///
    /// # Panics
    ///
    /// Panics if there is no such range, if it was declared with [`HostKernel::writes`], or if it is not a whole number
    /// of aligned values of type `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{HostKernel, KernelMemory};
    ///
    /// let input = [1_u32, 2, 3];
    /// let kernel = HostKernel::new("sum", |_| {}).reads(input.as_ptr() as u64, 12);
    /// // SAFETY: the range is valid and initialized, and nothing writes it.
    /// let memory = unsafe { KernelMemory::new(&kernel.accesses) };
    /// assert_eq!(memory.read::<u32>(0), [1, 2, 3]);
    /// ```
    pub fn read<T: Pod>(&self, index: usize) -> &'a [T] {
        let access = self.declared(index, AccessMode::Read);
        // SAFETY: the contract of `new` makes the range valid. Only written ranges are returned as mutable, and no
        // written range overlaps this one.
        let bytes = unsafe { std::slice::from_raw_parts(access.addr as *const u8, access.bytes) };
        bytemuck::cast_slice(bytes)
    }

    /// Returns range `index`, which was declared with [`HostKernel::writes`]. Each such range can be taken once.
    ///
    /// # Panics
    ///
    /// Panics if there is no such range, if it was declared with [`HostKernel::reads`] or was taken before, if it is
    /// not a whole number of aligned values of type `T`, or if `index` is 64 or more.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{HostKernel, KernelMemory};
    ///
    /// let mut output = [0_u32; 3];
    /// let kernel = HostKernel::new("fill", |_| {}).writes(output.as_mut_ptr() as u64, 12);
    /// // SAFETY: the range is valid and initialized, and nothing else uses it before the assertion.
    /// unsafe { KernelMemory::new(&kernel.accesses) }.write::<u32>(0).fill(7);
    /// assert_eq!(output, [7; 3]);
    /// ```
    pub fn write<T: Pod>(&self, index: usize) -> &'a mut [T] {
        let access = self.declared(index, AccessMode::Write);
        let bit = 1_u64.checked_shl(index as u32).expect("a host kernel writes to its first 64 ranges only");
        assert_eq!(self.taken.replace(self.taken.get() | bit) & bit, 0, "range {index} was taken before");
        // SAFETY: the contract of `new` makes the range valid and free of overlaps. The bit ensures that each written
        // range is returned once.
        let bytes = unsafe { std::slice::from_raw_parts_mut(access.addr as *mut u8, access.bytes) };
        bytemuck::cast_slice_mut(bytes)
    }

    fn declared(&self, index: usize, mode: AccessMode) -> &'a Access {
        let access = &self.accesses[index];
        assert_eq!(access.mode, mode, "range {index} was declared as {:?}", access.mode);
        access
    }
}
