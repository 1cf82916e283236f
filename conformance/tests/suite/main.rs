//! The suite finds each broken promise, and its programs repeat.

mod broken_adaptors;
mod broken_resources;
mod crooked;
mod programs;
