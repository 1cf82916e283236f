//! The generated list of symbols is what `cust_raw` declares.
//!
//! This is a test binary of its own because it runs Cargo: `ci/pack.sh` leaves it out.

use std::path::Path;
use std::process::Command;

/// Returns the path of `src/cuda.rs` of the `cust_raw` that this workspace builds with.
fn cust_raw_source() -> String {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata = String::from_utf8(output.stdout).unwrap();
    metadata
        .split('"')
        .find_map(|text| {
            let folder = text.strip_suffix("/Cargo.toml")?;
            let name = Path::new(folder).file_name()?.to_str()?;
            name.starts_with("cust_raw-").then(|| format!("{folder}/src/cuda.rs"))
        })
        .expect("cust_raw is among the dependencies")
}

#[test]
fn list_is_current() {
    let output = Command::new("sh")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/symbols.sh"))
        .arg(cust_raw_source())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let generated = String::from_utf8(output.stdout).unwrap();
    assert_eq!(generated, include_str!("../src/symbols.rs"), "run symbols.sh again");
}

#[test]
fn list_has_what_the_script_finds() {
    let declared = std::fs::read_to_string(cust_raw_source()).unwrap();
    let declared = declared.matches("pub fn cu").count();
    assert_eq!(cumem_libcuda::SYMBOLS.len(), declared);
}
