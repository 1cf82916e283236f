//! [`LaunchConfig`] and [`KernelArg`]: what a kernel launch takes.
#![forbid(unsafe_code)]

use bytemuck::Pod;

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
