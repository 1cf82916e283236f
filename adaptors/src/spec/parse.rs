//! Parses the text and checks the order rules.

use super::error::SpecError;
use super::words::{Adaptor, Layers, Leaf, Outermost, Target, Word};
use crate::{Crossing, PoolOptions, PressureOptions, Size, SizeError};
use std::ops::Range;
use std::str::FromStr;

const LEAVES: &str = "device, async, virtual, managed, pinned, host";
const ADAPTORS: &str = "pool, limit, statistics, tagged, pressure, spill, auto_prefetch, prefetch";

/// Parses the stack that the range `whole` of the text describes.
pub(super) fn stack(text: &str, whole: Range<usize>) -> Result<(Layers, Option<Word<Outermost>>), SpecError> {
    let mut terms = terms(text, whole.clone())?.into_iter();
    let Some(first) = terms.next() else {
        return Err(SpecError::new(text, whole, "the description is empty", "needs a leaf")
            .note("for example `managed | pool | prefetch`"));
    };
    let (leaf, mut outermost) = (leaf(text, first)?, None);
    let mut layers = Layers { leaf, adaptors: Vec::new() };
    for term in terms {
        if let Some(prefetch) = &outermost {
            return Err(no_upstream(text, prefetch));
        }
        match term.name {
            "prefetch" => outermost = Some(prefetch(text, term, &layers)?),
            _ => layers.adaptors.push(adaptor(text, term, &layers)?),
        }
    }
    Ok((layers, outermost))
}

fn no_upstream(text: &str, prefetch: &Word<Outermost>) -> SpecError {
    let message = "`prefetch` cannot be the upstream of an adaptor";
    SpecError::new(text, prefetch.span.clone(), message, "not an `Upstream`")
        .note("an adaptor that must be outermost, such as `prefetch`, is applied last")
}

/// A term `name(argument, key=value)` and its range in the text.
struct Term<'t> {
    name: &'t str,
    span: Range<usize>,
    /// The range between the parentheses, if there are any.
    inner: Option<Range<usize>>,
    arguments: Vec<Argument<'t>>,
}

struct Argument<'t> {
    key: Option<&'t str>,
    value: &'t str,
    span: Range<usize>,
}

fn terms(text: &str, whole: Range<usize>) -> Result<Vec<Term<'_>>, SpecError> {
    if text[whole.clone()].trim().is_empty() {
        return Ok(Vec::new());
    }
    split(text, whole, '|').map(|span| term(text, span)).collect()
}

/// Returns the trimmed pieces of `text[whole]` between separators that are outside of parentheses.
fn split<'t>(text: &'t str, whole: Range<usize>, separator: char) -> impl Iterator<Item = Range<usize>> + 't {
    let (mut start, mut depth) = (whole.start, 0);
    let outside = move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == separator && depth <= 0
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
        // The `|` after the empty piece, or else the one before it.
        let after = text[span.start..].starts_with('|');
        let at = if after { span.start } else { text[..span.start].rfind('|').unwrap_or(span.start) };
        let bar = at..(at + 1).min(text.len());
        return Err(SpecError::new(text, bar, "there is nothing before or after a `|`", "needs a layer"));
    }
    let Some(open) = whole.find('(') else {
        return Ok(Term { name: whole, span, inner: None, arguments: Vec::new() });
    };
    if !whole.ends_with(')') || whole.matches('(').count() > whole.matches(')').count() {
        return Err(SpecError::new(text, span, "a `(` is not closed", "needs a `)` at its end"));
    }
    let name = whole[..open].trim_end();
    let inner = span.start + open + 1..span.end - 1;
    let arguments: Vec<Argument<'_>> = match text[inner.clone()].trim() {
        "" => Vec::new(),
        _ => split(text, inner.clone(), ',').map(|span| argument(text, span)).collect(),
    };
    for (i, argument) in arguments.iter().enumerate() {
        let same = |other: &Argument<'_>| match (other.key, argument.key) {
            (None, None) => other.value == argument.value,
            (a, b) => a == b,
        };
        if arguments[..i].iter().any(same) {
            let message = format!("`{}` is given twice", argument.key.unwrap_or(argument.value));
            return Err(SpecError::new(text, argument.span.clone(), message, "given before"));
        }
    }
    Ok(Term { name, span: span.start..span.start + name.len(), inner: Some(inner), arguments })
}

fn argument(text: &str, span: Range<usize>) -> Argument<'_> {
    let whole = &text[span.clone()];
    match whole.split_once('=') {
        Some((key, value)) => Argument { key: Some(key.trim()), value: value.trim(), span },
        None => Argument { key: None, value: whole, span },
    }
}

fn leaf(text: &str, term: Term<'_>) -> Result<Word<Leaf>, SpecError> {
    let value = match term.name {
        "device" => Leaf::Device,
        "virtual" => Leaf::Virtual,
        "managed" => Leaf::Managed,
        "pinned" => Leaf::Pinned,
        "host" => Leaf::Host,
        "async" => {
            let (mut default_pool, mut threshold) = (false, None);
            for argument in &term.arguments {
                match (argument.key, argument.value) {
                    (None, "default") => default_pool = true,
                    (Some("threshold"), _) => threshold = Some(size(text, argument)?),
                    _ => return Err(unknown_argument(text, argument, "`async` takes `default` and `threshold=SIZE`")),
                }
            }
            return Ok(Word { span: term.span, value: Leaf::Async { default_pool, threshold } });
        }
        name => {
            let message = match name {
                "pool" | "limit" | "statistics" | "tagged" | "pressure" | "spill" | "auto_prefetch" | "prefetch" => {
                    format!("`{name}` is an adaptor: it needs an upstream")
                }
                _ => format!("there is no leaf `{name}`; there are {LEAVES}"),
            };
            return Err(SpecError::new(text, term.span, message, "not a leaf")
                .note("a stack starts with a leaf: `managed | pool | prefetch`"));
        }
    };
    no_arguments(text, &term)?;
    Ok(Word { span: term.span, value })
}

fn adaptor(text: &str, term: Term<'_>, beneath: &Layers) -> Result<Word<Adaptor>, SpecError> {
    let value = match term.name {
        "pool" => pool(text, &term)?,
        "limit" => match term.arguments.as_slice() {
            [argument] if argument.key.is_none() => Adaptor::Limit(size(text, argument)?),
            _ => return Err(SpecError::new(text, term.span, "`limit` takes one size: `limit(80%)`", "needs a size")),
        },
        "statistics" => {
            no_arguments(text, &term)?;
            Adaptor::Statistics
        }
        "tagged" => match term.arguments.as_slice() {
            [name] if name.key.is_none() => Adaptor::Tagged(name.value.to_owned()),
            _ => {
                return Err(SpecError::new(
                    text,
                    term.span,
                    "`tagged` takes one name: `tagged(weights)`",
                    "needs a name",
                ));
            }
        },
        "pressure" => pressure(text, &term)?,
        "spill" => spill(text, &term, beneath)?,
        "auto_prefetch" => {
            migratable(text, &term, beneath)?;
            let (mut budget, mut uses_ahead, mut pass_through) = (None, None, false);
            for argument in &term.arguments {
                match (argument.key, argument.value) {
                    (Some("budget"), _) => budget = Some(size(text, argument)?),
                    (Some("ahead"), _) => uses_ahead = Some(number(text, argument)?),
                    (None, "pass_through") => pass_through = true,
                    _ => {
                        let takes = "`auto_prefetch` takes budget=, ahead= and `pass_through`";
                        return Err(unknown_argument(text, argument, takes));
                    }
                }
            }
            Adaptor::AutoPrefetch { budget, uses_ahead, pass_through }
        }
        name => {
            let message = match name {
                "device" | "async" | "virtual" | "managed" | "pinned" | "host" => {
                    format!("`{name}` is a leaf: it has no upstream")
                }
                _ => format!("there is no adaptor `{name}`; there are {ADAPTORS}"),
            };
            return Err(SpecError::new(text, term.span, message, "not an adaptor"));
        }
    };
    Ok(Word { span: term.span, value })
}

fn pool(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let mut options = PoolOptions::new();
    for argument in &term.arguments {
        options = match (argument.key, argument.value) {
            (Some("initial"), _) => options.initial(size(text, argument)?),
            (Some("maximum"), _) => options.maximum(size(text, argument)?),
            (Some("step"), _) => options.step(size(text, argument)?),
            (Some("release"), _) => options.release_threshold(size(text, argument)?),
            (Some("slack"), _) => options.slack(size(text, argument)?),
            (Some("up_to"), _) => options.up_to(size(text, argument)?),
            (Some("divisions"), _) => options.divisions(number(text, argument)?),
            (None, "grow_first") => options.crossing(Crossing::GrowFirst),
            _ => {
                let takes =
                    "`pool` takes initial=, maximum=, step=, release=, slack=, up_to=, divisions= and `grow_first`";
                return Err(unknown_argument(text, argument, takes));
            }
        };
    }
    Ok(Adaptor::Pool(options))
}

fn pressure(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let mut options = PressureOptions::default();
    for argument in &term.arguments {
        options = match argument.key {
            Some("trim") => options.trim_at(size(text, argument)?),
            Some("refuse") => options.refuse_at(size(text, argument)?),
            Some("slack") => options.slack(size(text, argument)?),
            Some("ask") => options.ask_after(size(text, argument)?),
            _ => return Err(unknown_argument(text, argument, "`pressure` takes trim=, refuse=, slack= and ask=")),
        };
    }
    Ok(Adaptor::Pressure(options))
}

fn spill(text: &str, term: &Term<'_>, first: &Layers) -> Result<Adaptor, SpecError> {
    let Some(inner) = term.inner.clone() else {
        let message = "`spill` takes the stack to spill to: `spill(managed | pool)`";
        return Err(SpecError::new(text, term.span.clone(), message, "needs a stack"));
    };
    let (second, outermost) = stack(text, inner)?;
    if let Some(prefetch) = outermost {
        return Err(no_upstream(text, &prefetch));
    }
    for (layers, at) in [(first, &term.span), (&second, &second.leaf.span)] {
        if layers.leaf.value == Leaf::Host {
            let message = "`host` memory has no part in a `spill`: it is not accessible from the device";
            return Err(SpecError::new(text, at.clone(), message, "needs device-accessible memory"));
        }
    }
    Ok(Adaptor::Spill(second))
}

/// Checks the rule of `Prefetch::new` and `AutoPrefetch::new`, with the words of the compiler's message.
fn migratable(text: &str, term: &Term<'_>, beneath: &Layers) -> Result<(), SpecError> {
    let spill = beneath.adaptors.iter().find(|word| matches!(word.value, Adaptor::Spill(_)));
    let kind = match spill {
        None if beneath.leaf.value == Leaf::Managed => return Ok(()),
        None => &text[beneath.leaf.span.clone()],
        Some(spill) => &text[spill.span.clone()],
    };
    let message = format!("`{kind}` memory cannot be prefetched: its pages do not migrate");
    Err(SpecError::new(text, term.span.clone(), message, "needs migratable memory")
        .note("build the stack on `managed` to prefetch"))
}

fn prefetch(text: &str, term: Term<'_>, beneath: &Layers) -> Result<Word<Outermost>, SpecError> {
    migratable(text, &term, beneath)?;
    let (mut target, mut pass_through, mut always) = (None, false, false);
    for argument in &term.arguments {
        let to = match (argument.key, argument.value, argument.value.parse()) {
            (None, "pass_through", _) => {
                pass_through = true;
                continue;
            }
            (None, "always", _) => {
                always = true;
                continue;
            }
            (None, "host", _) => Target::Host,
            (None, _, Ok(ordinal)) => Target::Device(ordinal),
            _ => {
                let takes = "`prefetch` takes `host` or a device's number, `pass_through` and `always`";
                return Err(unknown_argument(text, argument, takes));
            }
        };
        if target.replace(to).is_some() {
            let message = "`prefetch` has one target";
            return Err(SpecError::new(text, argument.span.clone(), message, "a second target"));
        }
    }
    let value = Outermost { target: target.unwrap_or(Target::Own), pass_through, always };
    Ok(Word { span: term.span, value })
}

/// A number without a unit below this is an error, because its unit was probably left out: `limit(80)` for 80 % or 80
/// MiB.
const BARE_MIN: usize = 1 << 20;

fn size(text: &str, argument: &Argument<'_>) -> Result<Size, SpecError> {
    let size = argument
        .value
        .parse()
        .map_err(|error: SizeError| SpecError::new(text, argument.span.clone(), error.to_string(), "not understood"))?;
    match size {
        Size::Bytes(bytes @ 1..BARE_MIN) if argument.value.ends_with(|c: char| c.is_ascii_digit()) => {
            let message = format!("`{}` is {bytes} bytes, which is probably not meant", argument.value);
            Err(SpecError::new(text, argument.span.clone(), message, "needs a unit")
                .note("for example `80%` or `80MiB`; a number of bytes ends in B: `80B`"))
        }
        size => Ok(size),
    }
}

fn number<T: FromStr>(text: &str, argument: &Argument<'_>) -> Result<T, SpecError> {
    argument.value.parse().map_err(|_| {
        let message = format!("`{}` is not a number, or too large", argument.value);
        SpecError::new(text, argument.span.clone(), message, "not understood")
    })
}

fn no_arguments(text: &str, term: &Term<'_>) -> Result<(), SpecError> {
    match term.arguments.first() {
        Some(argument) => Err(unknown_argument(text, argument, "it takes no arguments")),
        None => Ok(()),
    }
}

fn unknown_argument(text: &str, argument: &Argument<'_>, takes: &str) -> SpecError {
    let message = format!("unknown argument `{}`: {takes}", &text[argument.span.clone()]);
    SpecError::new(text, argument.span.clone(), message, "not understood")
}
