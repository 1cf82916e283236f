//! Host access to a buffer, where its kind allows.

use super::Buffer;
use crate::accounting::{self, Asked, Cause};
use crate::caller::Calling;
use crate::driver::sim::Simulator;
use crate::error::DriverError;
use crate::host_gate::Closed;
use crate::kind::HostAccessible;
use crate::location::Location;
use crate::resource::MemoryResource;
use bytemuck::Pod;
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
    simulator: Option<&'a Simulator>,
    addr: u64,
    bytes: usize,
    write: bool,
    /// Opens after that.
    _gate: Option<Closed<'a>>,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        if let Some(simulator) = self.simulator {
            simulator.end_host_access(self.addr, self.bytes as u64, self.write);
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
    /// fails with [`DriverError::HostAccess`].
    ///
    /// # Errors
    ///
    /// What the driver answers to the wait, errors of earlier work included.
    #[track_caller]
    pub fn host_read(&self) -> Result<HostRead<'_, T>, DriverError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _here = Calling::here();
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
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DriverError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _here = Calling::here();
        let start = self.as_mut_ptr();
        let using = self.wait_for_host(true)?;
        // SAFETY: as in `host_read`, and the buffer stays borrowed exclusively.
        let elements = unsafe { std::slice::from_raw_parts_mut(start, self.len) };
        Ok(HostWrite { elements, _using: using })
    }

    fn wait_for_host(&self, write: bool) -> Result<Using<'_>, DriverError> {
        let device = self.device();
        let gate = device.host_access(&self.stream)?;
        if self.size_bytes() > 0 {
            if let Some(auto) = &self.auto {
                auto.used_by_host();
            }
            device.residency().touched_by_host(self.block.addr(), self.size_bytes());
            device.driver().host_access(device.ordinal(), self.block.as_ptr(), self.size_bytes(), write)?;
            let cause = if write { Cause::HostWrite } else { Cause::HostRead };
            let (addr, bytes) = (self.block.addr(), self.size_bytes());
            accounting::note(device, Asked { cause, to: Location::Host, addr, bytes });
        }
        let (addr, bytes) = (self.block.addr(), self.size_bytes());
        Ok(Using { simulator: device.simulator(), addr, bytes, write, _gate: gate })
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
