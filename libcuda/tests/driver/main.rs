//! Programs with a small library in place of the CUDA driver, and without a driver. Each test runs in a process of its
//! own, because a process loads the driver once.

mod fake_driver;
mod no_driver;
