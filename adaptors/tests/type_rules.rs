//! The type rules, by the text of the compile error that breaking each one gives. That the mistakes are errors at all
//! is also checked by documentation tests (`src/lib.rs`), with every compiler.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p cumem-adaptors --test type_rules`, then read the
//! `.stderr` files as the user who made the mistake would.

/// The compiler whose words the `.stderr` files are.
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
