//! DLPack: a buffer as a tensor of bytes in the memory of another package.

mod capsule;

use super::copies;
use super::data::Buffer;
use crate::failure::Failure;
use crate::opened::Kind;
use capsule::{Keep, Tensor};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;

const CPU: i32 = 1;
const CUDA: i32 = 2;
const CUDA_HOST: i32 = 3;
const CUDA_MANAGED: i32 = 13;

/// The arguments of `__dlpack__`.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) stream: Option<i64>,
    pub(super) max_version: Option<(u32, u32)>,
    pub(super) device: Option<(i32, i32)>,
    pub(super) copy: Option<bool>,
}

/// Returns the device of the memory as most packages can take it: managed memory is memory of CUDA, and pinned memory is
/// memory of the host. Memory of a simulated device is memory of the host, if the host can access it.
pub(super) fn device_of(buffer: &Buffer) -> Result<(i32, i32), Failure> {
    let (kind, device) = (buffer.kind_of_memory(), buffer.device_of_memory());
    let ordinal = device.id().ordinal() as i32;
    match kind {
        Kind::Pinned | Kind::Host => Ok((CPU, 0)),
        Kind::Managed if device.is_simulated() => Ok((CPU, 0)),
        Kind::Device | Kind::Either if device.is_simulated() => Err(Failure::NotSupported(
            "other packages cannot use device memory of a simulated device; copy it with copy_to_host, or use a stack over \
             `managed` or `pinned`"
                .into(),
        )),
        Kind::Managed | Kind::Device | Kind::Either => Ok((CUDA, ordinal)),
    }
}

/// Returns whether the memory can be passed on as memory of a device without a copy.
fn is_reachable(buffer: &Buffer, target: (i32, i32)) -> bool {
    let (kind, device) = (buffer.kind_of_memory(), buffer.device_of_memory());
    let (own, real) = (device.id().ordinal() as i32, !device.is_simulated());
    match target {
        (CPU, 0) => kind.is_host_accessible(),
        (CUDA, ordinal) => real && ordinal == own && kind.is_device_accessible(),
        (CUDA_HOST, 0) => kind == Kind::Pinned,
        (CUDA_MANAGED, ordinal) => kind == Kind::Managed && ordinal == own,
        _ => false,
    }
}

/// Returns a capsule.
pub(super) fn export<'py>(slf: &Bound<'py, Buffer>, request: Request) -> PyResult<Bound<'py, PyAny>> {
    let (buffer, py) = (slf.get(), slf.py());
    let device = match request.device {
        Some(device) => device,
        None => device_of(buffer)?,
    };
    let on_host = device == (CPU, 0) || device == (CUDA_HOST, 0);
    if on_host && request.stream.is_some_and(|stream| stream != -1) {
        return Err(PyValueError::new_err("memory of the host has no stream: pass `stream=None`"));
    }
    if !(is_reachable(buffer, device) || device == (CPU, 0) && request.copy != Some(false)) {
        let (kind, own) = (buffer.kind_of_memory().name(), buffer.device_of_memory().id());
        let text = format!("{kind} memory of {own} cannot be passed on as memory of DLPack's device {device:?}");
        return Err(PyBufferError::new_err(text));
    }
    let copied = request.copy == Some(true) || !is_reachable(buffer, device);
    let tensor = match (copied, on_host) {
        (false, _) => shared(slf, device, on_host, request.stream)?,
        (true, true) => host_copy(buffer, py)?,
        (true, false) => return export_copy(slf, device, &request),
    };
    let is_versioned = request.max_version.is_some_and(|(major, _)| major >= 1);
    tensor.into_capsule(py, is_versioned, copied)
}

/// The memory itself, after the work on its stream.
fn shared(slf: &Bound<'_, Buffer>, device: (i32, i32), on_host: bool, stream: Option<i64>) -> PyResult<Tensor> {
    let (buffer, py) = (slf.get(), slf.py());
    match (on_host, stream) {
        (true, _) => py.detach(|| buffer.whole().with(|bytes| Ok(bytes.stream().synchronize()?)))?,
        (false, Some(-1)) => buffer.whole().check_open()?,
        (false, stream) => order(buffer, py, stream)?,
    }
    buffer.whole().begin_export();
    Ok(Tensor { address: buffer.address, size: buffer.size, device, keep: Keep::Buffer(slf.clone().unbind()) })
}

/// Makes the consumer's stream wait for the work on the buffer, and the reuse of the memory for the consumer's stream.
fn order(buffer: &Buffer, py: Python<'_>, stream: Option<i64>) -> PyResult<()> {
    let handle = match stream {
        None => 1,
        Some(0) => return Err(PyValueError::new_err("the stream 0 is ambiguous: pass 1 or 2 for a default stream")),
        Some(handle) => handle as u64,
    };
    // SAFETY: the consumer passes a stream that exists.
    let consumer = unsafe { cumem::Stream::from_raw(buffer.device_of_memory(), handle) };
    py.detach(|| {
        buffer.whole().with(|bytes| Ok(consumer.wait_for(bytes.stream())?))?;
        buffer.whole().record_use(&consumer)
    })?;
    Ok(())
}

fn host_copy(buffer: &Buffer, py: Python<'_>) -> PyResult<Tensor> {
    let mut copy = vec![0; buffer.size];
    py.detach(|| buffer.whole().with(|bytes| copies::read(bytes, buffer.range(), &mut copy, None)))?;
    Ok(Tensor {
        address: copy.as_ptr().expose_provenance(),
        size: buffer.size,
        device: (CPU, 0),
        keep: Keep::Host { _copy: copy },
    })
}

/// A copy in memory of the same stack.
fn export_copy<'py>(slf: &Bound<'py, Buffer>, device: (i32, i32), request: &Request) -> PyResult<Bound<'py, PyAny>> {
    let (buffer, py) = (slf.get(), slf.py());
    let copy = py.detach(|| {
        let stack = buffer.whole().stack()?;
        let stream = buffer.whole().with(|bytes| Ok(bytes.stream().clone()))?;
        let copy = Buffer::new(stack.allocate(buffer.size, &stream)?, stack, buffer.size);
        copies::from_buffer(&copy, buffer, None)?;
        Ok::<_, Failure>(copy)
    })?;
    let tensor = shared(&Bound::new(py, copy)?, device, false, request.stream)?;
    tensor.into_capsule(py, request.max_version.is_some_and(|(major, _)| major >= 1), true)
}
