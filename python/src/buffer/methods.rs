//! The methods of the class `Buffer`.

use super::data::{Buffer, Owner};
use super::hints::Outcome;
use super::{copies, dlpack, hints, interface, view};
use crate::stream;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySlice, PyTuple};
use std::ffi::c_int;

#[pymethods]
impl Buffer {
    /// The address of the first byte, for the host and for the device.
    #[getter]
    fn ptr(&self) -> PyResult<usize> {
        self.whole().check_open()?;
        Ok(self.address)
    }

    #[getter]
    fn size(&self) -> usize {
        self.size
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.size
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.kind_of_memory().name()
    }

    #[getter]
    fn is_host_accessible(&self) -> bool {
        self.kind_of_memory().is_host_accessible()
    }

    #[getter]
    fn is_device_accessible(&self) -> bool {
        self.kind_of_memory().is_device_accessible()
    }

    #[getter]
    fn device(&self) -> crate::device::Device {
        crate::device::Device::over(self.device_of_memory().clone())
    }

    /// The handle of the stream on which the buffer is freed.
    #[getter]
    fn stream_handle(&self) -> PyResult<u64> {
        Ok(self.whole().with(|bytes| Ok(bytes.stream().as_raw()))?)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.whole().is_closed()
    }

    #[pyo3(signature = (stream=None))]
    fn close(&self, py: Python<'_>, stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        match &self.owner {
            Owner::Own(whole) => {
                let stream = self.stream(stream)?;
                Ok(whole.close(py, stream.as_ref())?)
            }
            Owner::Part(_) => {
                Err(PyValueError::new_err("the buffer is a part of another one, which must be closed instead"))
            }
        }
    }

    #[pyo3(signature = (stream))]
    fn record_use(&self, py: Python<'_>, stream: &Bound<'_, PyAny>) -> PyResult<()> {
        let stream = stream::resolve(self.device_of_memory(), stream)?;
        Ok(py.detach(|| self.whole().record_use(&stream))?)
    }

    #[pyo3(signature = (stream))]
    fn set_stream(&self, py: Python<'_>, stream: &Bound<'_, PyAny>) -> PyResult<()> {
        let stream = stream::resolve(self.device_of_memory(), stream)?;
        Ok(py.detach(|| self.whole().set_stream(&stream))?)
    }

    #[pyo3(signature = (data, stream=None))]
    fn copy_from_host(&self, data: &Bound<'_, PyAny>, stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        copies::from_host(self, data, stream)
    }

    #[pyo3(signature = (out=None, stream=None))]
    fn copy_to_host<'py>(
        &self,
        py: Python<'py>,
        out: Option<Bound<'py, PyAny>>,
        stream: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match out {
            Some(out) => copies::to_object(self, out, stream),
            None => copies::to_bytes(self, py, stream),
        }
    }

    #[pyo3(signature = (source, stream=None))]
    fn copy_from(&self, py: Python<'_>, source: &Self, stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let stream = self.stream(stream)?;
        Ok(py.detach(|| copies::from_buffer(self, source, stream.as_ref()))?)
    }

    #[pyo3(signature = (value, stream=None))]
    fn fill(&self, py: Python<'_>, value: u8, stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let stream = self.stream(stream)?;
        Ok(py.detach(|| copies::fill(self, value, stream.as_ref()))?)
    }

    #[pyo3(signature = (to=None, stream=None))]
    fn prefetch(
        &self,
        py: Python<'_>,
        to: Option<&Bound<'_, PyAny>>,
        stream: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Outcome> {
        let (to, stream) = (hints::location(self.device_of_memory(), to)?, self.stream(stream)?);
        Ok(py.detach(|| hints::prefetch(self, to, stream.as_ref()))?)
    }

    #[pyo3(signature = (advice, location=None, *, unset=false))]
    fn advise(
        &self,
        py: Python<'_>,
        advice: &str,
        location: Option<&Bound<'_, PyAny>>,
        unset: bool,
    ) -> PyResult<Outcome> {
        let advice = hints::advice(self.device_of_memory(), advice, location, unset)?;
        Ok(py.detach(|| hints::advise(self, advice))?)
    }

    fn hints<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        hints::attributes(self, py)
    }

    fn residency<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        hints::residency(self, py)
    }

    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        interface::cuda_array(self, py)
    }

    fn __dlpack_device__(&self) -> PyResult<(i32, i32)> {
        Ok(dlpack::device_of(self)?)
    }

    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        stream: Option<i64>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        dlpack::export(slf, dlpack::Request { stream, max_version, device: dl_device, copy })
    }

    /// # Safety
    ///
    /// Python passes a view that may be filled.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: the caller upholds the contract.
        unsafe { view::get(slf, view, flags) }
    }

    /// # Safety
    ///
    /// Python passes a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, py: Python<'_>, view: *mut ffi::Py_buffer) {
        // SAFETY: the caller upholds the contract.
        unsafe { view::release(self, py, view) }
    }

    fn __len__(&self) -> usize {
        self.size
    }

    fn __getitem__(slf: &Bound<'_, Self>, index: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(slice) = index.cast::<PySlice>() else {
            let text = "a buffer has only slices, for example buffer[:1024]; copy_to_host returns bytes";
            return Err(PyTypeError::new_err(text));
        };
        let this = slf.get();
        this.whole().check_open()?;
        let indices = slice.indices(this.size as isize)?;
        if indices.step != 1 {
            return Err(PyValueError::new_err(format!("the step of a slice is 1, not {}", indices.step)));
        }
        let of = match &this.owner {
            Owner::Own(_) => slf.clone().unbind(),
            Owner::Part(of) => of.clone_ref(slf.py()),
        };
        Ok(Self { owner: Owner::Part(of), address: this.address + indices.start as usize, size: indices.slicelength })
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py, None)
    }

    fn __repr__(&self) -> String {
        let closed = if self.whole().is_closed() { ", closed" } else { "" };
        format!("<cumem.Buffer of {} bytes of {} memory at {:#x}{closed}>", self.size, self.kind(), self.address)
    }
}
