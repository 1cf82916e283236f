//! The symbols of the CUDA driver library, resolved when they are first called.
//!
//! A program that uses [`cust`] links `libcuda`, so it builds only where a CUDA toolkit is
//! installed and starts only where an NVIDIA driver is. This crate removes both conditions: it
//! defines every function that `cust_raw` declares ([`SYMBOLS`]) as a jump through a table, which
//! it fills from `libcuda.so.1` at the first call or at [`load`].
//!
//! ```
//! match cumem_libcuda::load() {
//!     Ok(driver) => println!("CUDA driver {}", driver.driver_version()),
//!     Err(error) => println!("no CUDA here: {error}"),
//! }
//! ```
//!
//! Calling a function that could not be filled is harmless. It returns
//! `CUDA_ERROR_SHARED_OBJECT_INIT_FAILED` (303) when there is no driver and
//! `CUDA_ERROR_NOT_FOUND` (500) when the installed driver lacks that one symbol;
//! [`Library::require`] tells beforehand.
//!
//! The environment variable `CUMEM_LIBCUDA` ([`ENV`]) names another library to load.
//!
//! A program that calls nothing of this crate needs `use cumem_libcuda as _;`, or its symbols
//! are not linked.
//!
//! | Module | What it holds |
//! |---|---|
//! | `library` | opening the driver, looking symbols up |
//! | `error`   | what can be wrong, in words |
//! | `version` | the driver's version |
//! | `table`   | the table, the functions that jump through it |
//! | `symbols` | the names, generated |
//!
//! [`cust`]: https://docs.rs/cust
#![deny(missing_docs)]

mod error;
mod library;
mod symbols;
mod table;
mod version;

pub use error::{LoadError, MissingSymbol};
pub use library::{ENV, Library, load};
pub use table::SYMBOLS;
pub use version::DriverVersion;
