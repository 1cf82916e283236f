//! Helpers for the tests: a separate process for each test, and the library that it loads.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// Runs a test in a separate process with `library` as the driver, because a process loads the driver only once.
///
/// Returns true in the separate process, which then runs the test. Returns false in the original process after the
/// separate process has passed.
pub(crate) fn in_own_process(test: &str, library: impl AsRef<OsStr>) -> bool {
    const CHILD: &str = "CUMEM_LIBCUDA_TEST";
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        return true;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, test)
        .env(cumem_libcuda::ENV, library)
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    false
}

/// Compiles `fake_driver.c`. If there is no C compiler, prints why the test is skipped and returns `None`.
#[allow(dead_code, reason = "not every test file has a fake driver")]
pub(crate) fn fake_driver(test: &str, flags: &[&str]) -> Option<PathBuf> {
    let name = format!("{test}.so");
    if let Some(value) = std::env::var_os(cumem_libcuda::ENV).map(PathBuf::from).filter(|path| path.ends_with(&name)) {
        return Some(value);
    }
    // The source is part of the binary, which may run on a machine without a checkout.
    let folder = std::env::temp_dir().join(format!("cumem-libcuda-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (library, source) = (folder.join(&name), folder.join(format!("{test}.c")));
    std::fs::write(&source, include_str!("../fake_driver.c")).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status =
        Command::new(&compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).args(flags).arg(&source).status();
    match status {
        Ok(status) => {
            assert!(status.success(), "{}: {status}", compiler.display());
            Some(library)
        }
        Err(error) => {
            let compiler = compiler.display();
            eprintln!("{test}: skipped, cannot run {compiler}: {error}");
            None
        }
    }
}
