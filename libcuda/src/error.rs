use std::path::PathBuf;

use crate::DriverVersion;

/// Why there is no CUDA driver to call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The library is not there, or the dynamic loader refuses it.
    #[error(
        "the CUDA driver library {} was not found: {reason} \
         (a machine without an NVIDIA driver can use the simulated device)",
        .library.display()
    )]
    NotFound {
        /// What was asked for: `libcuda.so.1`, or the value of `CUMEM_LIBCUDA`.
        library: PathBuf,
        /// The dynamic loader's own words.
        reason: String,
    },
    /// The library was opened and is no CUDA driver.
    #[error("{} is not a CUDA driver library: it lacks {symbol}", .library.display())]
    NotADriver {
        /// The file that was opened.
        library: PathBuf,
        /// What every driver has and this library lacks.
        symbol: &'static str,
    },
    /// The driver does not tell its version; a toolkit's stub library does this.
    #[error("{} does not tell its version: CUDA error {code}", .library.display())]
    NoVersion {
        /// The file that was opened.
        library: PathBuf,
        /// What `cuDriverGetVersion` returned.
        code: u32,
    },
}

/// The installed driver lacks a symbol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the installed CUDA driver (version {driver_version}) lacks {symbol}")]
#[non_exhaustive]
pub struct MissingSymbol {
    /// The name that was looked up.
    pub symbol: String,
    /// The version of the driver that lacks it.
    pub driver_version: DriverVersion,
}
