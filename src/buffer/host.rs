//! Host access to a buffer, where its kind allows.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::device::host_gate::Closed;
use crate::device::notice::Notice;
use crate::kind::HostAccessible;
use crate::resource::MemoryResource;
use bytemuck::Pod;
use cumem_driver::Model;
use cumem_driver::call_site::CallSite;
use std::ops::{Deref, DerefMut};

/// The elements of a buffer, for the host to read. Borrowed: nothing safe can change them meanwhile.
#[derive(Debug)]
pub struct HostRead<'a, T> {
    elements: &'a [T],
    _using: Using<'a>,
}

/// The elements of a buffer, for the host to read and write.
#[derive(Debug)]
pub struct HostWrite<'a, T> {
    elements: &'a mut [T],
    _using: Using<'a>,
}

/// The host is using memory, until this goes.
#[derive(Debug)]
struct Using<'a> {
    /// Whom to tell.
    model: Option<&'a dyn Model>,
    addr: u64,
    bytes: usize,
    write: bool,
    /// Opens after that.
    _gate: Option<Closed<'a>>,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        if let Some(model) = self.model {
            model.end_host_access(self.addr, self.bytes as u64, self.write);
        }
    }
}

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// The elements, for the host to read, after waiting for the buffer's stream.
    ///
    /// Kernels that write the buffer must not be launched, on whichever stream, while the result is there;
    /// their launch is where that is promised.
    ///
    /// On a device without concurrent managed access the host may touch unified memory only while nothing runs. There
    /// it waits for the whole device, and work that is enqueued through this library while the result is there
    /// fails with [`DeviceError::HostAccess`].
    ///
    /// # Errors
    ///
    /// What the driver answers to the wait, errors of earlier work included.
    #[track_caller]
    pub fn host_read(&self) -> Result<HostRead<'_, T>, DeviceError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _site = CallSite::here();
        let using = self.wait_for_host(false)?;
        // SAFETY: `HostAccessible` promises readable initialised bytes, the work that writes them has ended, the
        // elements are plain data, and the address is aligned for `T`.
        let elements = unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) };
        Ok(HostRead { elements, _using: using })
    }

    /// The same, for the host to read and write.
    ///
    /// # Errors
    ///
    /// Those of [`host_read`](Self::host_read).
    #[track_caller]
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _site = CallSite::here();
        let start = self.as_mut_ptr();
        let using = self.wait_for_host(true)?;
        // SAFETY: as in `host_read`, and the buffer stays borrowed exclusively.
        let elements = unsafe { std::slice::from_raw_parts_mut(start, self.len) };
        Ok(HostWrite { elements, _using: using })
    }

    fn wait_for_host(&self, write: bool) -> Result<Using<'_>, DeviceError> {
        let device = self.device();
        let gate = self.stream.host_access()?;
        let (addr, bytes) = (self.block.addr(), self.size_bytes());
        if bytes > 0 {
            self.tell_observer(&Notice::HostAccess { addr, bytes, write });
            device.driver().host_access(device.ordinal(), self.block.as_ptr(), bytes, write)?;
            device.tell(&Notice::HostAccess { addr, bytes, write });
        }
        Ok(Using { model: device.model(), addr, bytes, write, _gate: gate })
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
