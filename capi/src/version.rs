//! The version of the library.

use std::ffi::{CStr, c_char};

const TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("a version has no 0"),
};

/// Returns the version as `major << 16 | minor << 8 | patch`. `CUMEM_VERSION` is the version of the header.
#[unsafe(no_mangle)]
pub extern "C" fn cumem_version() -> u32 {
    CUMEM_VERSION
}

/// The version of this header: `major << 16 | minor << 8 | patch`.
pub const CUMEM_VERSION: u32 = 0x00_01_00;

/// Returns the version as text, for example `0.1.0`. The text lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn cumem_version_text() -> *const c_char {
    TEXT.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_version_of_the_package() {
        let [major, minor, patch] =
            [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")]
                .map(|part| part.parse::<u32>().unwrap());
        assert_eq!(cumem_version(), major << 16 | minor << 8 | patch);
        assert_eq!(TEXT.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    }
}
