//! The buffer protocol of Python, for memory that the host can access.

use super::alias::{Alias, with_alias};
use super::data::Buffer;
use crate::failure::Failure;
use crate::opened::{Bytes, with_bytes};
use crate::parent_only::ParentOnly;
use cumem::buffer::HostRead;
use cumem::{AnyResource, MemoryKind};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::ptr;

/// Lets the host use the memory while a view exists.
struct Access<K: MemoryKind> {
    /// The guard is over no bytes, because Python code writes them. It borrows the alias, and is dropped first.
    _guard: HostRead<'static, u8>,
    _alias: Box<Alias<'static, K>>,
}

/// An [`Access`] to memory of any kind.
trait AnyAccess: Send {}

impl<K: MemoryKind> AnyAccess for Access<K> {}

/// Fills a view of Python. Waits for the work on the buffer's stream first.
///
/// # Safety
///
/// `view` is null or points to a view that may be filled.
pub(super) unsafe fn get(slf: &Bound<'_, Buffer>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
    let Some(place) = ptr::NonNull::new(view) else { return Err(PyBufferError::new_err("there is no view")) };
    // SAFETY: the caller upholds the contract. Python requires that a view that is not filled has no object.
    unsafe { (*place.as_ptr()).obj = ptr::null_mut() };
    let buffer = slf.get();
    if !buffer.kind_of_memory().is_host_accessible() {
        let kind = buffer.kind_of_memory().name();
        let text = format!("the host cannot access {kind} memory; copy it with copy_to_host");
        return Err(PyBufferError::new_err(text));
    }
    let access = slf.py().detach(|| begin(buffer))?;
    let (start, len) = (ptr::with_exposed_provenance_mut(buffer.address), buffer.size as isize);
    // SAFETY: the view may be filled, and the memory is valid while the view has a reference to the buffer, because a
    // buffer with exports cannot be closed.
    let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len, 0, flags) };
    if filled != 0 {
        drop(access);
        return Err(PyErr::fetch(slf.py()));
    }
    buffer.whole().begin_export();
    // SAFETY: as above.
    unsafe { (*view).internal = Box::into_raw(Box::new(access)).cast() };
    Ok(())
}

/// Releases a view.
///
/// # Safety
///
/// `view` points to a view that [`get`] filled.
pub(super) unsafe fn release(buffer: &Buffer, py: Python<'_>, view: *mut ffi::Py_buffer) {
    // SAFETY: the caller upholds the contract.
    let access = unsafe { (*view).internal };
    // SAFETY: the pointer comes from `get`, and Python releases a view once.
    let access = unsafe { Box::from_raw(access.cast::<Box<dyn AnyAccess>>()) };
    let access = ParentOnly::new(access);
    py.detach(move || drop(access));
    buffer.whole().end_export();
}

/// Waits until the host may use the memory, and returns a guard for the time of the view.
fn begin(buffer: &Buffer) -> Result<Box<dyn AnyAccess>, Failure> {
    buffer.whole().with(|bytes| {
        match bytes {
            Bytes::Device(owner) => with_alias(owner, buffer.range(), |alias| {
                alias.try_host_write()?;
                Ok(())
            }),
            Bytes::Managed(owner) => with_alias(owner, buffer.range(), |alias| {
                alias.host_write()?;
                Ok(())
            }),
            Bytes::Host(owner) => with_alias(owner, buffer.range(), |alias| {
                alias.host_write()?;
                Ok(())
            }),
        }?;
        with_bytes!(bytes, owner => guard(owner))
    })
}

fn guard<K: MemoryKind>(owner: &cumem::Buffer<u8, AnyResource<K>>) -> Result<Box<dyn AnyAccess>, Failure> {
    let alias = Box::new(Alias::new(owner, 0..0)?);
    // SAFETY: the alias borrows the memory of the buffer, which stays open and in its place while the view exists, because
    // the view has a reference to the buffer and counts as an export. The alias is dropped with the view.
    let alias = unsafe { std::mem::transmute::<Box<Alias<'_, K>>, Box<Alias<'static, K>>>(alias) };
    let guard = alias.try_host_read()?;
    // SAFETY: the guard borrows the alias in its box, which is dropped after the guard.
    let guard = unsafe { std::mem::transmute::<HostRead<'_, u8>, HostRead<'static, u8>>(guard) };
    Ok(Box::new(Access { _guard: guard, _alias: alias }))
}
