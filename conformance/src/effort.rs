//! How much the random checks do, and with which numbers.

use std::env;
use std::str::FromStr;

/// `CUMEM_EFFORT`: a factor on the length of every random check. 1 unless set, which suits a build
/// server; 5000 makes a run of 10 million operations of the default one.
///
/// # Panics
///
/// If the variable is set and is not a whole number.
pub fn effort() -> usize {
    variable("CUMEM_EFFORT").unwrap_or(1)
}

/// `CUMEM_SEED`: where the random checks start; a fixed number unless set. A failure prints the one it had.
///
/// # Panics
///
/// If the variable is set and is not a whole number.
pub fn seed() -> u64 {
    variable("CUMEM_SEED").unwrap_or(0x00c0_ffee)
}

/// `operations` times the effort; a hundredth of it under Miri.
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
