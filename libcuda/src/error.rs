use std::path::PathBuf;

use crate::version::DriverVersion;

/// The reason that no CUDA driver could be loaded.
///
/// ```
/// use cumem_libcuda::LoadError;
///
/// match cumem_libcuda::load() {
///     Ok(driver) => println!("CUDA driver {}", driver.driver_version()),
///     Err(LoadError::NotFound { library, .. }) => println!("{} is not installed", library.display()),
///     Err(error) => println!("{error}"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The library does not exist, or the dynamic loader cannot load it.
    #[error(
        "the CUDA driver library {} was not found: {reason} \
         (a machine without an NVIDIA driver can use the simulated device)",
        .library.display()
    )]
    NotFound {
        /// The requested library: `libcuda.so.1`, or the value of `CUMEM_LIBCUDA`.
        library: PathBuf,
        /// The message of the dynamic loader.
        reason: String,
    },
    /// The library was opened, but it is not a CUDA driver.
    #[error("{} is not a CUDA driver library: it lacks {symbol}", .library.display())]
    NotADriver {
        /// The file that was opened.
        library: PathBuf,
        /// A symbol that every driver has and this library lacks.
        symbol: &'static str,
    },
    /// The driver does not report its version. A toolkit's stub library behaves like this.
    #[error("{} does not report its version: CUDA error {code}", .library.display())]
    NoVersion {
        /// The file that was opened.
        library: PathBuf,
        /// The error code that `cuDriverGetVersion` returned.
        code: u32,
    },
}

/// The error for a symbol that the installed driver lacks.
///
/// ```
/// if let Ok(driver) = cumem_libcuda::load() {
///     let error = driver.require("cuNoSuchFunction").unwrap_err();
///     assert_eq!(error.symbol, "cuNoSuchFunction");
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the installed CUDA driver (version {driver_version}) lacks {symbol}")]
#[non_exhaustive]
pub struct MissingSymbol {
    /// The name that was looked up.
    pub symbol: String,
    /// The version of the installed driver.
    pub driver_version: DriverVersion,
}
