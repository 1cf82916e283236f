//! The type rules, checked by the text of the compile error that breaking each one gives.
//! Documentation tests (`src/lib.rs`) check with every compiler that the mistakes are errors at all.
//!
//! After a message has changed, run `TRYBUILD=overwrite cargo test -p cumem-adaptors --test type_rules`.
//! Then read the `.stderr` files as the user who made the mistake would.

/// The compiler whose messages the `.stderr` files contain.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn compile_errors() {
    let output = std::process::Command::new("rustc").arg("--version").output().expect("rustc is there with cargo");
    let version = String::from_utf8_lossy(&output.stdout);
    if !version.starts_with(RUSTC) {
        println!("skipped: the texts are those of {RUSTC}x, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
