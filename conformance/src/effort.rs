//! The length of the random checks, and the seed of their numbers.

use std::env;
use std::str::FromStr;

/// Returns `CUMEM_EFFORT`, a factor on the length of every random check. Default 1, which suits a build server.
/// 5000 turns the default program of 2,000 operations into 10 million.
///
/// # Panics
///
/// Panics if the variable is set and is not a whole number.
///
/// # Examples
///
/// ```
/// // Without the variable CUMEM_EFFORT, the factor is 1.
/// # if std::env::var_os("CUMEM_EFFORT").is_none() {
/// assert_eq!(cumem_conformance::effort::effort(), 1);
/// # }
/// ```
pub fn effort() -> usize {
    variable("CUMEM_EFFORT").unwrap_or(1)
}

/// Returns `CUMEM_SEED`, the seed of the random checks. Default is a fixed number. A failure prints the seed that it
/// used.
///
/// # Panics
///
/// Panics if the variable is set and is not a whole number.
///
/// # Examples
///
/// ```
/// use cumem_conformance::{Program, effort};
///
/// // A program that repeats with `CUMEM_SEED=<number> cargo test`.
/// let program = Program::new(effort::seed());
/// assert_eq!(program.operations(10).ops(1).count(), 10);
/// ```
pub fn seed() -> u64 {
    variable("CUMEM_SEED").unwrap_or(0x00c0_ffee)
}

/// Returns `operations` times the effort, and a hundredth of that under Miri.
pub(crate) fn scaled(operations: usize) -> usize {
    let operations = operations.saturating_mul(effort());
    if cfg!(miri) { operations.div_ceil(100) } else { operations }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    match text.trim().parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{name}={text} is not a whole number"),
    }
}
