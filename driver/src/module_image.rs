//! [`ModuleImage`]: the code that a module is loaded from.
#![forbid(unsafe_code)]

/// The code of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleImage<'a> {
    /// PTX, which the driver compiles for the device.
    Ptx(&'a str),
    /// A whole cubin, or a whole fat binary: compiled code for one or several types of devices.
    Binary(&'a [u8]),
}
