use std::path::{Path, PathBuf};

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
    #[error("the library {} was not found: {}", .library.display(), without_prefix(reason, library))]
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

/// Returns the message of the dynamic loader without the file's name, with which most messages start.
fn without_prefix<'a>(reason: &'a str, library: &Path) -> &'a str {
    let rest = library.to_str().and_then(|name| reason.strip_prefix(name)?.strip_prefix(": "));
    rest.unwrap_or(reason)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_missing_library_stands_once() {
        let error = |reason: &str| LoadError::NotFound { library: "libcuda.so.1".into(), reason: reason.into() };
        let text = "the library libcuda.so.1 was not found: cannot open shared object file";
        assert_eq!(error("libcuda.so.1: cannot open shared object file").to_string(), text);
        assert_eq!(error("cannot open shared object file").to_string(), text);
    }
}
