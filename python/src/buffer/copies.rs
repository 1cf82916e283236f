//! Copies between a buffer and memory of the host, and between buffers.

use super::alias::with_alias;
use super::data::Buffer;
use crate::failure::Failure;
use crate::opened::{Bytes, with_bytes};
use cumem::{AnyResource, MemoryKind, Stream};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ops::Range;
use std::slice;

/// Copies an object with the buffer protocol to the start of a buffer.
pub(super) fn from_host(buffer: &Buffer, data: &Bound<'_, PyAny>, stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let stream = buffer.stream(stream)?;
    let view = HostView::of(data)?;
    let range = buffer.first(view.len)?;
    data.py().detach(|| {
        // SAFETY: the view is over so many bytes, and stays until the copy is complete. As for every function that reads
        // a buffer of Python without the GIL, another thread that writes the bytes meanwhile makes the copy unspecified.
        let data = unsafe { view.bytes() };
        buffer.whole().with(|bytes| write(bytes, range, data, stream.as_ref()))
    })?;
    Ok(())
}

/// Copies the start of a buffer over an object with the buffer protocol, and returns the object.
pub(super) fn to_object<'py>(
    buffer: &Buffer,
    out: Bound<'py, PyAny>,
    stream: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let stream = buffer.stream(stream)?;
    let mut view = HostView::of(&out)?;
    if view.buffer.readonly() {
        return Err(PyValueError::new_err("`out` is read-only"));
    }
    let range = buffer.first(view.len)?;
    out.py().detach(|| {
        // SAFETY: as in `from_host`, and the view may be written.
        let data = unsafe { view.bytes_mut() };
        buffer.whole().with(|bytes| read(bytes, range, data, stream.as_ref()))
    })?;
    Ok(out)
}

/// Returns all bytes of a buffer.
pub(super) fn to_bytes<'py>(
    buffer: &Buffer,
    py: Python<'py>,
    stream: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let stream = buffer.stream(stream)?;
    let copied = PyBytes::new_with(py, buffer.size, |data| {
        py.detach(|| buffer.whole().with(|bytes| read(bytes, buffer.range(), data, stream.as_ref())))?;
        Ok(())
    })?;
    Ok(copied.into_any())
}

/// Copies all bytes of `source`, which has as many. The copy is enqueued.
pub(super) fn from_buffer(buffer: &Buffer, source: &Buffer, stream: Option<&Stream>) -> Result<(), Failure> {
    let (to, from) = (buffer.range(), source.range());
    if to.len() != from.len() {
        return Err(Failure::Request(format!("{} bytes cannot be copied over {}", from.len(), to.len())));
    }
    if std::ptr::eq(buffer.whole(), source.whole()) && to.start < from.end && from.start < to.end {
        return Err(Failure::Request("the source and the target of the copy overlap".into()));
    }
    buffer.whole().with(|target| source.whole().with(|source| copy(target, to, source, from, stream)))
}

fn copy(
    target: &Bytes,
    to: Range<usize>,
    source: &Bytes,
    from: Range<usize>,
    stream: Option<&Stream>,
) -> Result<(), Failure> {
    if let Bytes::Host(host) = source {
        return with_alias(host, from, |alias| write(target, to, &alias.host_read()?, stream));
    }
    match target {
        Bytes::Host(host) => with_alias(host, to, |alias| read(source, from, &mut alias.host_write()?, stream)),
        target => {
            with_bytes!(source, from_buffer => with_bytes!(target, to_buffer => with_alias(to_buffer, to, |alias| {
                let mut view = alias.as_view_mut();
                if let Some(stream) = stream {
                    view = view.on(stream)?;
                }
                Ok(view.copy_from_view(from_buffer.as_view().slice(from)?)?)
            })))
        }
    }
}

/// Sets all bytes of a buffer. The work is enqueued.
pub(super) fn fill(buffer: &Buffer, value: u8, stream: Option<&Stream>) -> Result<(), Failure> {
    let range = buffer.range();
    buffer.whole().with(|bytes| match bytes {
        Bytes::Host(host) => with_alias(host, range, |alias| {
            alias.host_write()?.fill(value);
            Ok(())
        }),
        bytes => with_bytes!(bytes, owner => with_alias(owner, range, |alias| {
            let mut view = alias.as_view_mut();
            if let Some(stream) = stream {
                view = view.on(stream)?;
            }
            Ok(view.fill(value)?)
        })),
    })
}

fn write(bytes: &Bytes, range: Range<usize>, data: &[u8], stream: Option<&Stream>) -> Result<(), Failure> {
    match bytes {
        Bytes::Host(host) => with_alias(host, range, |alias| {
            alias.host_write()?.copy_from_slice(data);
            Ok(())
        }),
        Bytes::Managed(managed) if stream.is_none() => with_alias(managed, range, |alias| {
            alias.upload(data)?;
            Ok(())
        }),
        Bytes::Managed(managed) => upload(managed, range, data, stream),
        Bytes::Device(device) => upload(device, range, data, stream),
    }
}

fn upload<K: MemoryKind>(
    owner: &cumem::Buffer<u8, AnyResource<K>>,
    range: Range<usize>,
    data: &[u8],
    stream: Option<&Stream>,
) -> Result<(), Failure> {
    with_alias(owner, range, |alias| {
        let mut view = alias.as_view_mut();
        if let Some(stream) = stream {
            view = view.on(stream)?;
        }
        Ok(view.copy_from_slice(data)?)
    })
}

/// Copies bytes to the host. The copy is complete on return.
pub(super) fn read(
    bytes: &Bytes,
    range: Range<usize>,
    data: &mut [u8],
    stream: Option<&Stream>,
) -> Result<(), Failure> {
    if let Bytes::Host(host) = bytes {
        return with_alias(host, range, |alias| {
            data.copy_from_slice(&alias.host_read()?);
            Ok(())
        });
    }
    with_bytes!(bytes, owner => {
        let mut view = owner.as_view().slice(range)?;
        if let Some(stream) = stream {
            view = view.on(stream)?;
        }
        Ok(view.copy_to_slice(data)?)
    })
}

impl Buffer {
    /// Returns the range of the first `len` bytes of this buffer.
    fn first(&self, len: usize) -> Result<Range<usize>, Failure> {
        let range = self.range();
        if len > range.len() {
            return Err(Failure::Request(format!("{len} bytes were given, and the buffer has {}", range.len())));
        }
        Ok(range.start..range.start + len)
    }
}

/// Contiguous memory of another object.
struct HostView {
    buffer: PyUntypedBuffer,
    address: usize,
    len: usize,
}

impl HostView {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            let text =
                "the array is not contiguous: pass a contiguous copy, for example `numpy.ascontiguousarray(array)`";
            return Err(PyValueError::new_err(text));
        }
        let (address, len) = (buffer.buf_ptr().expose_provenance(), buffer.len_bytes());
        Ok(Self { buffer, address, len })
    }

    /// # Safety
    ///
    /// Nothing writes the bytes meanwhile.
    unsafe fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the view of Python is over so many bytes.
        unsafe { slice::from_raw_parts(std::ptr::with_exposed_provenance(self.address), self.len) }
    }

    /// # Safety
    ///
    /// Nothing else uses the bytes meanwhile, and the view is not read-only.
    unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: as in `bytes`.
        unsafe { slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(self.address), self.len) }
    }
}
