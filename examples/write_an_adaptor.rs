//! An adaptor of one's own, written outside the crates: it fills every block with zeros, in stream order.
//!
//! ```console
//! $ cargo run --release --example write_an_adaptor
//! ```
