use crate::Folder;
use crate::process::{in_own_process, runs_alone};
use std::ffi::OsString;
use std::fs;

/// Makes of each function a test that runs in a process of its own with a [`Driver`].
///
/// Where there was no C compiler when this was built, the tests are ignored.
///
/// ```ignore
/// with_driver! {
///     contexts_come_and_go: Driver::device();
///     no_device_is_no_driver: Driver::device().set("INIT", 100);
/// }
/// ```
#[macro_export]
macro_rules! with_driver {
    ($($name:ident: $driver:expr;)+) => {
        mod with_driver {
            use super::*;

            $($crate::needs_a_c_compiler!(fn $name() {
                ($driver).run(concat!(module_path!(), "::", stringify!($name)), super::$name);
            });)+
        }
    };
}

#[cfg(c_compiler)]
#[doc(hidden)]
#[macro_export]
macro_rules! needs_a_c_compiler {
    (fn $name:ident() $body:block) => {
        #[test]
        fn $name() $body
    };
}

#[cfg(not(c_compiler))]
#[doc(hidden)]
#[macro_export]
macro_rules! needs_a_c_compiler {
    (fn $name:ident() $body:block) => {
        #[test]
        #[ignore = "needs a C compiler, and there was no `cc` when this was built"]
        fn $name() $body
    };
}

/// The bytes of a library that `build.rs` has compiled, or `None` where there was no C compiler.
macro_rules! library {
    ($name:literal) => {{
        #[cfg(c_compiler)]
        let library: Option<&'static [u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".so")));
        #[cfg(not(c_compiler))]
        let library: Option<&'static [u8]> = None;
        library
    }};
}

/// A small CUDA driver, from `drivers/`, that a test loads in place of the real one.
///
/// The library is part of the test's binary, which may run on a machine without a C compiler or a checkout.
#[derive(Debug)]
pub struct Driver {
    library: Option<&'static [u8]>,
    settings: Vec<(String, OsString)>,
}

impl Driver {
    /// `device.c`: one device, or several that share a primary context.
    #[must_use]
    pub fn device() -> Self {
        Self::of(library!("device"))
    }

    /// [`device`](Self::device) with the functions that take a NUMA node of the host.
    #[must_use]
    pub fn device_numa() -> Self {
        Self::of(library!("device_numa"))
    }

    /// `four_functions.c`.
    #[must_use]
    pub fn four_functions() -> Self {
        Self::of(library!("four_functions"))
    }

    /// [`four_functions`](Self::four_functions) without `cuInit`, so that it is no driver.
    #[must_use]
    pub fn without_init() -> Self {
        Self::of(library!("without_init"))
    }

    fn of(library: Option<&'static [u8]>) -> Self {
        Self { library, settings: Vec::new() }
    }

    /// Gives one of the driver's settings another value. The C source lists the settings and their defaults.
    #[must_use]
    pub fn set(mut self, setting: &str, value: u32) -> Self {
        self.settings.push((format!("FAKE_{setting}"), value.to_string().into()));
        self
    }

    /// Runs `body` in a child process with this driver ([`in_own_process`]).
    ///
    /// # Panics
    ///
    /// Panics if there was no C compiler when this was built, or if the child does not pass exactly one test.
    pub fn run(self, path: &str, body: impl FnOnce()) {
        const LIBRARY: &str = "CUMEM_LIBCUDA";
        if runs_alone(path) {
            return body();
        }
        let folder = Folder::new();
        let file = folder.file("libcuda.so");
        let library = self.library.expect("needs a C compiler, and there was none when this was built");
        fs::write(&file, library).expect("the folder is new");
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let environment: Vec<_> = settings.chain([(LIBRARY, file.into_os_string())]).collect();
        in_own_process(path, &environment, body);
    }
}
