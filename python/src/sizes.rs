//! Sizes as arguments: numbers, and texts such as `4GiB` or `80%`.

use crate::failure::Failure;
use cumem::Device;
use cumem_adaptors::Size;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The argument of a size.
#[derive(FromPyObject)]
pub(crate) enum SizeArgument {
    Bytes(usize),
    Text(String),
}

impl SizeArgument {
    /// Returns the bytes, for a share those of the device's memory.
    pub(crate) fn bytes_on(&self, device: &Device) -> PyResult<usize> {
        let size = match self {
            Self::Bytes(bytes) => return Ok(*bytes),
            Self::Text(text) => parse(text)?,
        };
        Ok(size.bytes_on(device).map_err(Failure::from)?)
    }
}

fn parse(text: &str) -> PyResult<Size> {
    text.parse().map_err(|error| PyValueError::new_err(format!("{error}")))
}

/// Returns the bytes of a size that is no share of a device's memory.
#[pyfunction]
pub(crate) fn parse_size(size: SizeArgument) -> PyResult<usize> {
    match size {
        SizeArgument::Bytes(bytes) => Ok(bytes),
        SizeArgument::Text(text) => match parse(&text)? {
            Size::Bytes(bytes) => Ok(bytes),
            _ => Err(PyValueError::new_err(format!("`{text}` is a share, and no number of bytes"))),
        },
    }
}
