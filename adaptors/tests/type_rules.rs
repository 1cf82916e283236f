//! The type rules, by the text of the compile error of each broken rule. Documentation tests in `src/lib.rs` check with
//! every compiler that the main mistakes do not compile.
//!
//! After a change of a message, run this test with the environment variable `TRYBUILD=overwrite`. Then read the
//! `.stderr` files as the user who made the mistake. For the texts of another compiler, change the version below too.
//!
//! This is a test binary of its own because it runs Cargo: `ci/pack.sh` leaves it out.

#[rustversion::attr(not(stable(1.95)), ignore = "the texts are those of rustc 1.95, which this was not built with")]
#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
