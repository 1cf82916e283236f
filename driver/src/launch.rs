//! [`LaunchConfig`] and [`KernelArg`]: the parameters of a kernel launch.
#![forbid(unsafe_code)]

use bytemuck::Pod;

/// The number of blocks and threads of a launch, and its shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchConfig {
    /// Number of blocks in x, y and z.
    pub grid: (u32, u32, u32),
    /// Number of threads of a block in x, y and z.
    pub block: (u32, u32, u32),
    /// Bytes of dynamic shared memory per block.
    pub shared_bytes: u32,
}

impl LaunchConfig {
    /// Creates a configuration of `grid` blocks with `block` threads each, in x, y and z, without dynamic shared
    /// memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::LaunchConfig;
    ///
    /// let tiles = LaunchConfig::new((16, 16, 1), (32, 8, 1)).shared_bytes(4096);
    /// assert_eq!((tiles.grid, tiles.block, tiles.shared_bytes), ((16, 16, 1), (32, 8, 1), 4096));
    /// ```
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::LaunchConfig;
    /// let config = LaunchConfig::new((64, 1, 1), (256, 1, 1)); // 64 blocks of 256 threads
    /// assert_eq!(config, LaunchConfig::for_elements(64 * 256, 256));
    /// ```
    pub const fn new(grid: (u32, u32, u32), block: (u32, u32, u32)) -> Self {
        Self { grid, block, shared_bytes: 0 }
    }

    /// Returns the configuration with `bytes` bytes of dynamic shared memory per block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::LaunchConfig;
    /// let config = LaunchConfig::new((64, 1, 1), (256, 1, 1)).shared_bytes(4096);
    /// assert_ne!(config, LaunchConfig::new((64, 1, 1), (256, 1, 1)));
    /// ```
    #[must_use]
    pub const fn shared_bytes(mut self, bytes: u32) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// Creates a configuration of at least `n` threads in one dimension, in blocks of `block` threads. If `n` is 0, the
    /// grid is empty, and the driver rejects the launch.
    ///
    /// # Panics
    ///
    /// Panics if `block` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::LaunchConfig;
    ///
    /// assert_eq!(LaunchConfig::for_elements(1000, 256).grid, (4, 1, 1));
    /// ```
    pub const fn for_elements(n: u32, block: u32) -> Self {
        Self::new((n.div_ceil(block), 1, 1), (block, 1, 1))
    }
}

/// One argument of a kernel, of up to 16 bytes.
///
/// # Examples
///
/// ```
/// use cumem_driver::KernelArg;
///
/// let (addr, count, factor) = (0x10_0000_u64, 1000_u32, 0.5_f32);
/// let arguments = [KernelArg::new(addr), KernelArg::new(count), KernelArg::new(factor)];
/// assert_eq!(arguments.len(), 3); // in the order of the kernel's parameters
/// ```
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct KernelArg([u8; 16]);

impl KernelArg {
    /// Creates an argument from a number, a device address, or a small plain structure.
    pub fn new<T: Pod>(value: T) -> Self {
        const { assert!(size_of::<T>() <= 16 && align_of::<T>() <= 16, "a kernel argument has at most 16 bytes") }
        let mut bytes = [0; 16];
        bytes[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
        Self(bytes)
    }
}
