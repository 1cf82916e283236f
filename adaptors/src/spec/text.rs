//! The shape of a description: terms that `|` separates, with arguments in parentheses.

use super::error::SpecError;
use std::collections::HashSet;
use std::ops::Range;

/// The largest depth of parentheses. The parser, and each call of the stack that it builds, recurse once for each level.
const MAX_DEPTH: usize = 16;

/// The largest number of layers, because a call of a stack recurses through all of them.
const MAX_LAYERS: usize = 64;

/// Checks in one pass that all parentheses match, and that the description is neither too deep nor too long.
pub(super) fn check_shape(text: &str) -> Result<(), SpecError> {
    let (mut open, mut bars, mut depth) = (Vec::new(), Vec::new(), 0);
    let mut too_deep = None;
    for (at, c) in text.char_indices() {
        match c {
            '(' => {
                open.push(at);
                depth = depth.max(open.len());
                if open.len() == MAX_DEPTH + 1 {
                    too_deep.get_or_insert(at);
                }
            }
            ')' if open.pop().is_none() => {
                return Err(SpecError::new(text, at..at + 1, "a `)` has no `(`", "closes nothing"));
            }
            '|' => bars.push(at),
            _ => {}
        }
    }
    if let Some(&at) = open.first() {
        let before = text[..at].rfind(['|', ',', '(']).map_or(0, |separator| separator + 1);
        let start = before + (text[before..].len() - text[before..].trim_start().len());
        return Err(SpecError::new(text, start..text.len(), "a `(` is not closed", "needs a `)` at its end"));
    }
    if let Some(at) = too_deep {
        let message = format!("parentheses are nested {depth} deep, and {MAX_DEPTH} levels are the most");
        return Err(SpecError::new(text, at..at + 1, message, "too deep"));
    }
    if let Some(&at) = bars.get(MAX_LAYERS - 1) {
        let message = format!("the stack has {} layers, and {MAX_LAYERS} are the most", bars.len() + 1);
        return Err(SpecError::new(text, at..at + 1, message, "too many layers"));
    }
    Ok(())
}

/// A term `name(argument, key=value)` and the range of its name in the text.
pub(super) struct Term<'t> {
    pub(super) name: &'t str,
    pub(super) span: Range<usize>,
    /// The range between the parentheses, if there are any.
    pub(super) inner: Option<Range<usize>>,
}

pub(super) struct Argument<'t> {
    pub(super) key: Option<&'t str>,
    pub(super) value: &'t str,
    pub(super) span: Range<usize>,
}

/// Returns the terms of `text[whole]`, whose parentheses match.
pub(super) fn terms(text: &str, whole: Range<usize>) -> Result<Vec<Term<'_>>, SpecError> {
    if text[whole.clone()].trim().is_empty() {
        return Ok(Vec::new());
    }
    split(text, whole, '|').map(|span| term(text, span)).collect()
}

/// Returns the trimmed pieces of `text[whole]` between separators that are outside of parentheses.
fn split(text: &str, whole: Range<usize>, separator: char) -> impl Iterator<Item = Range<usize>> + '_ {
    let (mut start, mut depth) = (whole.start, 0);
    let outside = move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == separator && depth == 0
    };
    text[whole].split(outside).map(move |piece| {
        let at = start + (piece.len() - piece.trim_start().len());
        start += piece.len() + separator.len_utf8();
        at..at + piece.trim().len()
    })
}

fn term(text: &str, span: Range<usize>) -> Result<Term<'_>, SpecError> {
    let whole = &text[span.clone()];
    if whole.is_empty() {
        return Err(nothing_beside(text, span.start, '|', "needs a layer"));
    }
    let Some(open) = whole.find('(') else {
        return Ok(Term { name: whole, span, inner: None });
    };
    let close = open + closing(&whole[open..]);
    let rest = &whole[close + 1..];
    if !rest.is_empty() {
        let start = span.end - rest.trim_start().len();
        return Err(SpecError::new(text, start..span.end, "there is text after a `)`", "not understood")
            .note("layers are separated by `|`: `managed | pool(initial=1GiB) | prefetch`"));
    }
    let name = whole[..open].trim_end();
    let inner = span.start + open + 1..span.start + close;
    Ok(Term { name, span: span.start..span.start + name.len(), inner: Some(inner) })
}

/// Returns the index of the `)` that closes the `(` at the start of `text`.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    })
    .expect("`check_shape` found a `)` for each `(`")
}

/// Creates the error of an empty piece at `at`. The error points at the separator after the piece, or else at the one
/// before it.
fn nothing_beside(text: &str, at: usize, separator: char, label: &'static str) -> SpecError {
    let after = text[at..].starts_with(separator);
    let at = if after { at } else { text[..at].rfind(separator).unwrap_or(at) };
    let message = format!("there is nothing before or after a `{separator}`");
    SpecError::new(text, at..(at + 1).min(text.len()), message, label)
}

impl<'t> Term<'t> {
    /// Returns the arguments. Each key, and each argument without a key, may stand once.
    pub(super) fn arguments(&self, text: &'t str) -> Result<Vec<Argument<'t>>, SpecError> {
        let Some(inner) = self.inner.clone().filter(|inner| !text[inner.clone()].trim().is_empty()) else {
            return Ok(Vec::new());
        };
        let mut seen = HashSet::new();
        split(text, inner, ',')
            .map(|span| {
                let argument = argument(text, span)?;
                let name = argument.key.unwrap_or(argument.value);
                match seen.insert((argument.key.is_some(), name)) {
                    true => Ok(argument),
                    false => {
                        let message = format!("`{name}` is given twice");
                        Err(SpecError::new(text, argument.span, message, "given before"))
                    }
                }
            })
            .collect()
    }
}

fn argument(text: &str, span: Range<usize>) -> Result<Argument<'_>, SpecError> {
    let whole = &text[span.clone()];
    if whole.is_empty() {
        return Err(nothing_beside(text, span.start, ',', "needs an argument"));
    }
    match whole.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
        Some(("", _) | (_, "")) => {
            Err(SpecError::new(text, span, "there is nothing before or after a `=`", "needs a name and a value"))
        }
        Some((key, value)) => Ok(Argument { key: Some(key), value, span }),
        None => Ok(Argument { key: None, value: whole, span }),
    }
}
