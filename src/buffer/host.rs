//! Host access to a buffer, where its kind allows.

use super::Buffer;
use crate::error::DriverError;
use crate::kind::HostAccessible;
use crate::resource::MemoryResource;
use bytemuck::Pod;
use std::ops::{Deref, DerefMut};

/// The elements of a buffer, for the host to read. Borrowed: nothing safe can change them meanwhile.
#[derive(Debug)]
pub struct HostRead<'a, T> {
    elements: &'a [T],
}

/// The elements of a buffer, for the host to read and write.
#[derive(Debug)]
pub struct HostWrite<'a, T> {
    elements: &'a mut [T],
}

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// The elements, for the host to read, after waiting for the buffer's stream; for the whole device
    /// if it has no concurrent managed access, where the host may touch unified memory only while nothing runs.
    ///
    /// Kernels that write the buffer must not be launched, on whichever stream, while the result is there;
    /// their launch is where that is promised.
    ///
    /// # Errors
    ///
    /// What the driver answers to the wait, errors of earlier work included.
    pub fn host_read(&self) -> Result<HostRead<'_, T>, DriverError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        self.wait_for_host(false)?;
        // SAFETY: `HostAccessible` promises readable initialised bytes, the work that writes them has ended, the
        // elements are plain data, and the address is aligned for `T`.
        Ok(HostRead { elements: unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) } })
    }

    /// The same, for the host to read and write.
    ///
    /// # Errors
    ///
    /// Those of [`host_read`](Self::host_read).
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DriverError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        self.wait_for_host(true)?;
        // SAFETY: as in `host_read`, and the buffer is borrowed exclusively.
        Ok(HostWrite { elements: unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) } })
    }

    fn wait_for_host(&self, write: bool) -> Result<(), DriverError> {
        let device = self.device();
        if device.attributes().concurrent_managed_access {
            self.stream.synchronize()?;
        } else {
            device.synchronize()?;
        }
        match self.size_bytes() {
            0 => Ok(()),
            bytes => device.driver().host_access(device.ordinal(), self.block.as_ptr(), bytes, write),
        }
    }
}

impl<T> Deref for HostRead<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> Deref for HostWrite<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> DerefMut for HostWrite<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.elements
    }
}
