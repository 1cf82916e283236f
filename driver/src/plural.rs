//! [`Plural`]: a number with its noun.
#![forbid(unsafe_code)]

use std::fmt;

/// A number and a noun, displayed with an "s" after the noun unless the number is 1.
///
/// # Examples
///
/// ```
/// use cumem_driver::Plural;
///
/// assert_eq!(Plural(1, "block").to_string(), "1 block");
/// assert_eq!(Plural(0_u64, "stream").to_string(), "0 streams");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plural<N>(pub N, pub &'static str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Plural<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, noun) = self;
        write!(f, "{number} {noun}{}", if *number == N::from(1) { "" } else { "s" })
    }
}
