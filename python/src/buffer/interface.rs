//! `__cuda_array_interface__`, version 3.

use super::data::Buffer;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Returns the description of a buffer as an array of bytes. Raises `AttributeError` for memory that CUDA cannot access, so
/// that other packages see an object without the interface.
pub(super) fn cuda_array<'py>(buffer: &Buffer, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let (kind, device) = (buffer.kind_of_memory(), buffer.device_of_memory());
    if device.is_simulated() || !kind.is_device_accessible() {
        let what = if device.is_simulated() { "of a simulated device" } else { "of the host" };
        return Err(PyAttributeError::new_err(format!("memory {what} has no __cuda_array_interface__")));
    }
    let handle = buffer.whole().with(|bytes| Ok(bytes.stream().as_raw()))?;
    let dict = PyDict::new(py);
    dict.set_item("shape", (buffer.size,))?;
    dict.set_item("typestr", "|u1")?;
    dict.set_item("data", (if buffer.size == 0 { 0 } else { buffer.address }, false))?;
    dict.set_item("version", 3)?;
    dict.set_item("strides", py.None())?;
    // 0 is ambiguous, and 1 is the legacy default stream.
    dict.set_item("stream", handle.max(1))?;
    Ok(dict)
}
