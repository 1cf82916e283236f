//! The symbols of the CUDA driver library, resolved when a function is first called.
//!
//! A program that uses [`cust`] links `libcuda`. Such a program builds only where a CUDA toolkit is installed, and
//! starts only where an NVIDIA driver is installed. This crate removes both conditions. It defines every function that
//! `cust_raw` declares ([`SYMBOLS`]) as a jump through a table. It fills the table from `libcuda.so.1` at the first
//! call of such a function, or in [`load`].
//!
//! ```
//! match cumem_libcuda::load() {
//!     Ok(driver) => println!("CUDA driver {}", driver.driver_version()),
//!     Err(error) => println!("no CUDA here: {error}"),
//! }
//! ```
//!
//! A function that could not be resolved is harmless to call, because it returns an error code:
//!
//! - `CUDA_ERROR_SHARED_OBJECT_INIT_FAILED` (303) if there is no driver,
//! - `CUDA_ERROR_NOT_FOUND` (500) if the installed driver lacks this symbol. [`Library::require`] checks for a symbol
//!   beforehand.
//!
//! The environment variable `CUMEM_LIBCUDA` ([`ENV`]) names another library to load.
//!
//! A program that calls nothing in this crate needs `use cumem_libcuda as _;`. Otherwise the crate's symbols are not
//! linked.
//!
//! | module | contents |
//! |---|---|
//! | `library` | opening the driver, looking up symbols |
//! | `load`    | loading the driver once per process |
//! | `error`   | the errors of loading and of looking up |
//! | `version` | the driver's version |
//! | `table`   | the table, and the functions that jump through it |
//! | `lazy`    | the routine that loads the driver at the first call of a function |
//! | `symbols` | the names of the functions, generated |
//!
//! [`cust`]: https://docs.rs/cust
#![deny(missing_docs)]

mod error;
mod lazy;
mod library;
mod load;
mod symbols;
mod table;
mod version;

pub use error::{LoadError, MissingSymbol};
pub use library::{ENV, Library};
pub use load::load;
pub use table::SYMBOLS;
pub use version::DriverVersion;
