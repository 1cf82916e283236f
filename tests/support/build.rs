//! Compiles the drivers of `drivers/`, and looks for the recorded runs that lie beside the repository.
//!
//! A test that lacks one of the two is marked as ignored when it is compiled. If one of them comes later,
//! `cargo clean -p cumem-test-support` makes Cargo run this script again. Cargo could watch paths that do not exist, but
//! then it would build every test anew each time.

use std::env;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// Each library, the source it is made of, and the flags for it.
const DRIVERS: [(&str, &str, &[&str]); 4] = [
    ("device", "device.c", &[]),
    ("device_numa", "device.c", &["-DNUMA"]),
    ("four_functions", "four_functions.c", &[]),
    ("without_init", "four_functions.c", &["-DNO_INIT"]),
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(c_compiler, recorded_runs)");
    println!("cargo::rerun-if-changed=build.rs");
    if compile_drivers() {
        println!("cargo::rustc-cfg=c_compiler");
    }
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/uvm-golden");
    if runs.is_dir() {
        println!("cargo::rustc-cfg=recorded_runs");
        println!("cargo::rustc-env=RECORDED_RUNS={}", runs.display());
        println!("cargo::rerun-if-changed={}", runs.display());
    }
}

/// Reports whether there is a C compiler for the target.
fn compile_drivers() -> bool {
    println!("cargo::rerun-if-changed=drivers");
    println!("cargo::rerun-if-env-changed=CC");
    // `cc` compiles for the host.
    if env::var_os("HOST") != env::var_os("TARGET") {
        return false;
    }
    let out = env::var_os("OUT_DIR").expect("Cargo sets it");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    for (library, source, flags) in DRIVERS {
        let output = Path::new(&out).join(library).with_extension("so");
        let source = Path::new("drivers").join(source);
        let mut command = Command::new(&compiler);
        match command.args(["-shared", "-fPIC", "-o"]).arg(output).args(flags).arg(source).status() {
            Ok(status) => assert!(status.success(), "{command:?}: {status}"),
            Err(error) if error.kind() == ErrorKind::NotFound => return false,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }
    true
}
