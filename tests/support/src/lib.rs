//! For this workspace's own tests: processes of their own, and small CUDA drivers in place of the real one.
//!
//! | part | for |
//! |---|---|
//! | [`own_process!`] | tests that measure or fork their process, or read what all its threads have written |
//! | [`with_driver!`], [`Driver`] | tests that load a small library as the CUDA driver, which a process does once |
//! | [`with_recorded_runs!`], [`recorded_run`] | tests that compare with runs that the repository does not contain |
//! | [`Folder`] | a folder that no other test has |

mod driver;
mod folder;
mod process;
mod recorded;

pub use driver::Driver;
pub use folder::Folder;
pub use process::in_own_process;
pub use recorded::recorded_run;
