//! The class `Buffer`.

use crate::failure::Failure;
use crate::opened::{Bytes, Opened, with_bytes};
use crate::stream;
use pyo3::prelude::*;
use std::sync::{Arc, PoisonError, RwLock};

/// Memory of a stack.
#[pyclass(frozen, module = "cumem", weakref)]
pub(crate) struct Buffer {
    bytes: RwLock<Option<Bytes>>,
    address: usize,
    size: usize,
    stack: Arc<Opened>,
}

impl Buffer {
    pub(crate) fn new(bytes: Bytes, stack: Arc<Opened>) -> Self {
        let (address, size) = with_bytes!(&bytes, buffer => (buffer.device_address() as usize, buffer.len()));
        Self { bytes: RwLock::new(Some(bytes)), address, size, stack }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(bytes) = self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if cumem_c::rust::is_forked_child() {
            // The memory is the parent's.
            std::mem::forget(bytes);
            return;
        }
        Python::attach(|py| py.detach(|| drop(bytes)));
    }
}

#[pymethods]
impl Buffer {
    #[getter]
    fn ptr(&self) -> usize {
        self.address
    }

    #[getter]
    fn size(&self) -> usize {
        self.size
    }

    #[getter]
    fn closed(&self) -> bool {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[pyo3(signature = (stream=None))]
    fn close(&self, py: Python<'_>, stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked.into());
        }
        let stream = stream.map(|stream| stream::resolve(&self.stack.device, stream)).transpose()?;
        let Some(mut bytes) = self.bytes.write().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        Ok(py.detach(|| {
            if let Some(stream) = stream {
                with_bytes!(&mut bytes, buffer => buffer.set_stream(&stream))?;
            }
            drop(bytes);
            Ok::<_, Failure>(())
        })?)
    }

    fn __len__(&self) -> usize {
        self.size
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py, None)
    }

    fn __repr__(&self) -> String {
        format!("<cumem.Buffer of {} bytes at {:#x}>", self.size, self.address)
    }
}
