//! The type rules, checked by the text of the compile error that breaking each one gives.
//! Documentation tests (`src/lib.rs`) check with every compiler that the mistakes are errors at all.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p cumem-adaptors --test type_rules -- --include-ignored`,
//! then read the `.stderr` files as the user who made the mistake would. For the texts of another compiler, change the
//! version below too.
//!
//! A binary of its own because it runs Cargo, so it is not packed for machines that have none.

#[rustversion::attr(not(stable(1.95)), ignore = "the texts are those of rustc 1.95, which this was not built with")]
#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
