//! The type rules, by the text of the compile error that breaking each one gives.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p cumem-adaptors --test type_rules`, then read the
//! `.stderr` files as the user who made the mistake would.

#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
