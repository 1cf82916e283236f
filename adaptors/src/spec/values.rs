//! Arguments that are sizes and numbers, and the error of an unknown argument.

use super::error::SpecError;
use super::suggest::did_you_mean;
use super::text::{Argument, Term};
use crate::{Size, SizeError};
use std::str::FromStr;

/// A number without a unit up to this is an error, because the sign of a share was probably left out: `limit(80)` for
/// `limit(80%)`.
const BARE_SHARE_MAX: usize = 100;

pub(super) fn size(text: &str, argument: &Argument<'_>) -> Result<Size, SpecError> {
    let size = argument
        .value
        .parse()
        .map_err(|error: SizeError| SpecError::new(text, argument.span.clone(), error.to_string(), "not understood"))?;
    match size {
        Size::Bytes(bytes @ 1..=BARE_SHARE_MAX) if argument.value.ends_with(|c: char| c.is_ascii_digit()) => {
            let message = format!("`{}` is {bytes} bytes, which is probably not meant", argument.value);
            Err(SpecError::new(text, argument.span.clone(), message, "needs a unit")
                .note("for example `80%` or `80MiB`; a number of bytes ends in B: `80B`"))
        }
        size => Ok(size),
    }
}

/// Returns a size that is a number of bytes, and no share of a device's memory.
pub(super) fn bytes(text: &str, argument: &Argument<'_>) -> Result<usize, SpecError> {
    match size(text, argument)? {
        Size::Bytes(bytes) => Ok(bytes),
        Size::Percent(_) | Size::PercentOfFree(_) => {
            let message = format!("`{}` is a share of a device's memory", argument.value);
            Err(SpecError::new(text, argument.span.clone(), message, "needs a number of bytes"))
        }
    }
}

/// Returns a whole number, which is written with digits only: `+1` is refused.
pub(super) fn number<T: FromStr>(text: &str, argument: &Argument<'_>) -> Result<T, SpecError> {
    let value = argument.value;
    let fail =
        |reason: &str| SpecError::new(text, argument.span.clone(), format!("`{value}` {reason}"), "not understood");
    match is_number(value) {
        true => value.parse().map_err(|_| fail("is too large")),
        false => Err(fail("is not a whole number, which has digits only")),
    }
}

pub(super) fn is_number(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit())
}

pub(super) fn no_arguments(text: &str, term: &Term<'_>) -> Result<(), SpecError> {
    match term.arguments(text)?.first() {
        Some(argument) => Err(unknown_argument(text, argument, term.name, &[])),
        None => Ok(()),
    }
}

/// Creates the error of an argument that is none of `takes`. A word of `takes` that ends in `=` needs a value, and one
/// with spaces describes an argument.
pub(super) fn unknown_argument(text: &str, argument: &Argument<'_>, layer: &str, takes: &[&str]) -> SpecError {
    let message = format!("unknown argument `{}`: `{layer}` takes {}", &text[argument.span.clone()], list(takes));
    let error = SpecError::new(text, argument.span.clone(), message, "not understood");
    let word = argument.key.unwrap_or(argument.value);
    let names: Vec<&str> = takes.iter().map(|name| name.trim_end_matches('=')).collect();
    match (names.contains(&word), argument.key) {
        (true, None) => error.note(format!("`{word}` needs a value: `{word}=`")),
        (true, Some(_)) => error.note(format!("`{word}` takes no value")),
        (false, _) => match did_you_mean(word, &names) {
            Some(advice) => error.note(advice),
            None => error,
        },
    }
}

/// Returns the names in backticks, with commas and "and" between them.
fn list(names: &[&str]) -> String {
    let quoted = |name: &&str| if name.contains(' ') { (*name).to_owned() } else { format!("`{name}`") };
    match names.split_last() {
        None => "no arguments".into(),
        Some((last, [])) => quoted(last),
        Some((last, others)) => {
            let others: Vec<String> = others.iter().map(quoted).collect();
            format!("{} and {}", others.join(", "), quoted(last))
        }
    }
}
