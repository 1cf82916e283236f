//! The suite reports each broken promise, and its programs are reproducible.

mod broken_adaptors;
mod broken_resources;
mod crooked;
mod programs;
