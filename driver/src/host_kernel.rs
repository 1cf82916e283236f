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

/// The closure of a [repeatable](HostKernel::repeatable) kernel.
pub type RepeatableWork = Arc<dyn Fn(&KernelMemory<'_>) + Send + Sync>;

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
    /// The closure again, if it can run more than once.
    repeatable: Option<RepeatableWork>,
}

impl HostKernel {
    /// Creates a kernel that declares no range yet.
    pub fn new(name: &'static str, work: impl FnOnce(&KernelMemory<'_>) + Send + 'static) -> Self {
        Self { name, accesses: SmallVec::new(), operations: 0, in_flight: 1, work: Box::new(work), repeatable: None }
    }

    /// Creates a kernel whose closure can run more than once, which a graph needs. The kernel declares no range yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::HostKernel;
    /// let kernel = HostKernel::repeatable("fill", |memory| memory.write::<u32>(0).fill(7)).writes(0x10_0000, 4096);
    /// assert!(kernel.repeatable_work().is_some());
    /// ```
    pub fn repeatable(name: &'static str, work: impl Fn(&KernelMemory<'_>) + Send + Sync + 'static) -> Self {
        let work: RepeatableWork = Arc::new(work);
        let once = Arc::clone(&work);
        Self { repeatable: Some(work), ..Self::new(name, move |memory| once(memory)) }
    }

    /// Returns the closure if it can run more than once.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::HostKernel;
    /// assert!(HostKernel::new("once", |_| {}).repeatable_work().is_none());
    /// assert!(HostKernel::repeatable("often", |_| {}).repeatable_work().is_some());
    /// ```
    pub fn repeatable_work(&self) -> Option<&RepeatableWork> {
        self.repeatable.as_ref()
    }

    /// Declares that the kernel reads `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order)
    /// sets another order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::{AccessMode, HostKernel};
    /// let kernel = HostKernel::new("sum", |_| {}).reads(0x10_0000, 4096);
    /// assert_eq!(kernel.accesses[0].mode, AccessMode::Read);
    /// ```
    pub fn reads(self, addr: u64, bytes: usize) -> Self {
        self.touches(addr, bytes, AccessMode::Read)
    }

    /// Declares that the kernel writes `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order)
    /// sets another order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::{AccessMode, HostKernel};
    /// let kernel = HostKernel::new("fill", |memory| memory.write::<u32>(0).fill(7)).writes(0x10_0000, 4096);
    /// assert_eq!((kernel.accesses[0].bytes, kernel.accesses[0].mode), (4096, AccessMode::Write));
    /// ```
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
        self.accesses.last_mut().expect("`in_order` needs a range: call `reads` or `writes` first").pattern = pattern;
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::HostKernel;
    /// let kernel = HostKernel::new("multiply", |_| {}).operations(2 * 1024_u64.pow(3));
    /// assert_eq!(kernel.operations, 1 << 31);
    /// ```
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

/// Access to the ranges that a running [`HostKernel`] declared.
///
/// The index of a range is its position in the order of declaration. Reads and writes are counted together: after
/// `.reads(source, n).writes(target, n)`, `read(0)` returns the source and `write(1)` the target. In a kernel that only
/// writes, `write(0)` returns the first declared range.
#[derive(Debug)]
pub struct KernelMemory<'a> {
    kernel: &'static str,
    accesses: &'a [Access],
    taken: Cell<u64>,
}

impl<'a> KernelMemory<'a> {
    /// Creates the access to the ranges of the kernel with the name `kernel`, which appears in panics.
    ///
    /// # Safety
    ///
    /// The caller must ensure that:
    ///
    /// - each range is valid and initialized, and nothing else uses it while the result exists;
    /// - no written range overlaps another range.
    pub unsafe fn new(kernel: &'static str, accesses: &'a [Access]) -> Self {
        Self { kernel, accesses, taken: Cell::new(0) }
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
    /// let memory = unsafe { KernelMemory::new(kernel.name, &kernel.accesses) };
    /// assert_eq!(memory.read::<u32>(0), [1, 2, 3]);
    /// ```
    pub fn read<T: Pod>(&self, index: usize) -> &'a [T] {
        let access = self.declared(index, AccessMode::Read);
        // SAFETY: the contract of `new` makes the range valid. Only written ranges are returned as mutable, and no
        // written range overlaps this one.
        let bytes = unsafe { std::slice::from_raw_parts(access.addr as *const u8, access.bytes) };
        bytemuck::try_cast_slice(bytes).unwrap_or_else(|_| self.wrong_type::<T>(index, access))
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
    /// unsafe { KernelMemory::new(kernel.name, &kernel.accesses) }.write::<u32>(0).fill(7);
    /// assert_eq!(output, [7; 3]);
    /// ```
    pub fn write<T: Pod>(&self, index: usize) -> &'a mut [T] {
        let access = self.declared(index, AccessMode::Write);
        let Some(bit) = 1_u64.checked_shl(index as u32) else {
            panic!(
                "host kernel `{}`: `write({index})` is not possible, only the first 64 ranges can be written",
                self.kernel
            );
        };
        let taken = self.taken.replace(self.taken.get() | bit) & bit != 0;
        assert!(!taken, "host kernel `{}`: `write({index})` is called a second time", self.kernel);
        // SAFETY: the contract of `new` makes the range valid and free of overlaps. The bit ensures that each written
        // range is returned once.
        let bytes = unsafe { std::slice::from_raw_parts_mut(access.addr as *mut u8, access.bytes) };
        bytemuck::try_cast_slice_mut(bytes).unwrap_or_else(|_| self.wrong_type::<T>(index, access))
    }

    fn declared(&self, index: usize, mode: AccessMode) -> &'a Access {
        let (kernel, declared) = (self.kernel, self.accesses.len());
        let Some(access) = self.accesses.get(index) else {
            panic!("host kernel `{kernel}` has no range {index}: it declares {declared} with `reads` and `writes`");
        };
        let [called, calls] = match mode {
            AccessMode::Read => ["read", "writes"],
            AccessMode::Write => ["write", "reads"],
        };
        assert!(
            access.mode == mode,
            "host kernel `{kernel}`: range {index} is declared with `{calls}`, so `{called}({index})` cannot return it; \
             an index counts reads and writes together"
        );
        access
    }

    fn wrong_type<T>(&self, index: usize, access: &Access) -> ! {
        panic!(
            "host kernel `{}`: range {index}, {} bytes at {:#x}, is not a whole number of aligned values of type {}",
            self.kernel,
            access.bytes,
            access.addr,
            std::any::type_name::<T>()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Returns the panic of `work` in the kernel `copy`, which reads 8 bytes and writes 8 others.
    fn panic_in(work: impl FnOnce(&KernelMemory<'_>)) -> String {
        let (source, mut target) = ([1_u64], [0_u64]);
        let kernel =
            HostKernel::new("copy", |_| {}).reads(source.as_ptr() as u64, 8).writes(target.as_mut_ptr() as u64, 8);
        // SAFETY: both ranges are valid and initialized, they do not overlap, and nothing else uses them.
        let memory = unsafe { KernelMemory::new(kernel.name, &kernel.accesses) };
        let panic = catch_unwind(AssertUnwindSafe(|| work(&memory))).unwrap_err();
        *panic.downcast::<String>().unwrap()
    }

    #[test]
    fn a_wrong_use_of_a_range_names_the_kernel_and_the_reason() {
        assert_eq!(
            panic_in(|memory| _ = memory.write::<u64>(0)),
            "host kernel `copy`: range 0 is declared with `reads`, so `write(0)` cannot return it; an index counts reads \
             and writes together"
        );
        assert!(panic_in(|memory| _ = memory.read::<u64>(1)).contains("declared with `writes`, so `read(1)` cannot"));
        assert_eq!(
            panic_in(|memory| _ = memory.read::<u64>(2)),
            "host kernel `copy` has no range 2: it declares 2 with `reads` and `writes`"
        );
        assert_eq!(
            panic_in(|memory| _ = (memory.write::<u64>(1), memory.write::<u64>(1))),
            "host kernel `copy`: `write(1)` is called a second time"
        );
        let wrong = panic_in(|memory| _ = memory.read::<[u8; 3]>(0));
        assert!(wrong.starts_with("host kernel `copy`: range 0, 8 bytes at 0x"), "{wrong}");
        assert!(wrong.ends_with("is not a whole number of aligned values of type [u8; 3]"), "{wrong}");
    }

    #[test]
    fn only_the_first_64_ranges_can_be_written() {
        let bytes = [0_u8; 65];
        let kernel =
            (0..65).fold(HostKernel::new("many", |_| {}), |kernel, i| kernel.writes(&raw const bytes[i] as u64, 1));
        // SAFETY: the ranges are valid, they do not overlap, and the call below returns none of them.
        let memory = unsafe { KernelMemory::new(kernel.name, &kernel.accesses) };
        let panic = catch_unwind(AssertUnwindSafe(|| _ = memory.write::<u8>(64))).unwrap_err();
        assert!(panic.downcast::<String>().unwrap().contains("`write(64)` is not possible"));
    }
}
