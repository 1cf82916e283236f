//! With a small library as the CUDA driver, and without any. Each test runs in a process of its own, because a process
//! loads the driver once.

mod fake_driver;
mod no_driver;
