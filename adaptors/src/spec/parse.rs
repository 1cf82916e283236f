//! Parses the text and checks the order rules.

use super::error::SpecError;
use super::options;
use super::suggest::advice;
use super::text::{Term, check_shape, terms};
use super::values::{is_number, no_arguments, number, size, unknown_argument};
use super::words::{Adaptor, Layers, Leaf, Outermost, Pool, Target, Word};
use std::ops::Range;

const LEAVES: [&str; 9] =
    ["device", "async", "virtual", "managed", "managed_async", "pinned", "pinned_async", "system", "host"];
const ADAPTORS: [&str; 18] = [
    "pool",
    "fixed_size",
    "binning",
    "aligned",
    "advise",
    "scrub",
    "limit",
    "statistics",
    "log",
    "tracking",
    "events",
    "graph_pools",
    "tagged",
    "pressure",
    "spill",
    "on_failure",
    "auto_prefetch",
    "prefetch",
];

/// Parses a description, in a time that is linear in its length.
pub(super) fn description(text: &str) -> Result<(Layers, Option<Word<Outermost>>), SpecError> {
    check_shape(text)?;
    stack(text, 0..text.len())
}

/// Parses the stack that the range `whole` of the text describes. The parentheses in it match.
fn stack(text: &str, whole: Range<usize>) -> Result<(Layers, Option<Word<Outermost>>), SpecError> {
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

fn leaf(text: &str, term: Term<'_>) -> Result<Word<Leaf>, SpecError> {
    let value = match term.name {
        "device" => Leaf::Device,
        "virtual" => Leaf::Virtual,
        "managed" => Leaf::Managed,
        "host" => Leaf::Host,
        "async" => return Ok(Word { value: Leaf::Async(driver_pool(text, &term, true)?), span: term.span }),
        "managed_async" => {
            return Ok(Word { value: Leaf::ManagedAsync(driver_pool(text, &term, false)?), span: term.span });
        }
        "pinned_async" => {
            return Ok(Word { value: Leaf::PinnedAsync(driver_pool(text, &term, true)?), span: term.span });
        }
        "pinned" => return pinned(text, term),
        "system" => {
            let mut headroom = None;
            for argument in &term.arguments(text)? {
                match argument.key {
                    Some("headroom") => headroom = Some(size(text, argument)?),
                    _ => return Err(unknown_argument(text, argument, "system", &["headroom="])),
                }
            }
            return Ok(Word { span: term.span, value: Leaf::System { headroom } });
        }
        name => {
            let message = match ADAPTORS.contains(&name) {
                true => format!("`{name}` is an adaptor: it needs an upstream"),
                false => format!("there is no leaf `{name}`; there are {}", LEAVES.join(", ")),
            };
            let starts = || "a stack starts with a leaf: `managed | pool | prefetch`".into();
            let note = word_advice(name, &LEAVES).unwrap_or_else(starts);
            return Err(SpecError::new(text, term.span, message, "not a leaf").note(note));
        }
    };
    no_arguments(text, &term)?;
    Ok(Word { span: term.span, value })
}

/// Returns the options of a stream-ordered pool. A pool of managed memory has no maximum.
fn driver_pool(text: &str, term: &Term<'_>, has_maximum: bool) -> Result<Pool, SpecError> {
    let mut pool = Pool::default();
    for argument in &term.arguments(text)? {
        match (argument.key, argument.value) {
            (None, "default") => pool.of_device = true,
            (Some("threshold"), _) => pool.threshold = Some(size(text, argument)?),
            (Some("initial"), _) => pool.initial = Some(size(text, argument)?),
            (Some("maximum"), _) if has_maximum => pool.maximum = Some(size(text, argument)?),
            _ => {
                let takes = ["default", "threshold=", "initial=", "maximum="];
                return Err(unknown_argument(text, argument, term.name, &takes[..3 + usize::from(has_maximum)]));
            }
        }
    }
    Ok(pool)
}

fn pinned(text: &str, term: Term<'_>) -> Result<Word<Leaf>, SpecError> {
    let (mut node, mut huge) = (None, false);
    for argument in &term.arguments(text)? {
        match (argument.key, argument.value) {
            (Some("node"), _) => node = Some(number(text, argument)?),
            (None, "huge") => huge = true,
            _ => return Err(unknown_argument(text, argument, "pinned", &["node=", "huge"])),
        }
    }
    Ok(Word { span: term.span, value: Leaf::Pinned { node, huge } })
}

/// Returns the advice for a word that is none of `names`.
fn word_advice(word: &str, names: &[&str]) -> Option<String> {
    advice(word, names, &[&LEAVES[..], &ADAPTORS[..]].concat())
}

fn adaptor(text: &str, term: Term<'_>, beneath: &Layers) -> Result<Word<Adaptor>, SpecError> {
    let value = match term.name {
        "pool" | "fixed_size" | "binning" => {
            not_over_scrub(text, &term, beneath)?;
            match term.name {
                "pool" => options::pool(text, &term)?,
                "binning" => options::binning(text, &term)?,
                _ => options::fixed_size(text, &term)?,
            }
        }
        "aligned" => options::aligned(text, &term)?,
        "advise" => {
            migratable(text, &term, beneath)?;
            options::advise(text, &term)?
        }
        "scrub" => options::scrub(text, &term, beneath)?,
        "limit" => options::limit(text, &term)?,
        "statistics" => {
            no_arguments(text, &term)?;
            Adaptor::Statistics
        }
        "log" => options::log(text, &term)?,
        "tracking" => match term.arguments(text)?.as_slice() {
            [] => Adaptor::Tracking { traces: false },
            [argument] if (argument.key, argument.value) == (None, "traces") => Adaptor::Tracking { traces: true },
            [argument, ..] => return Err(unknown_argument(text, argument, "tracking", &["traces"])),
        },
        "events" => {
            no_arguments(text, &term)?;
            Adaptor::Events
        }
        "graph_pools" => match term.arguments(text)?.as_slice() {
            [] => Adaptor::GraphPools { detect: false },
            [argument] if (argument.key, argument.value) == (None, "detect") => Adaptor::GraphPools { detect: true },
            [argument, ..] => return Err(unknown_argument(text, argument, "graph_pools", &["detect"])),
        },
        "tagged" => match term.arguments(text)?.as_slice() {
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
        "pressure" => options::pressure(text, &term)?,
        "on_failure" => options::on_failure(text, &term)?,
        "spill" => spill(text, &term, beneath)?,
        "auto_prefetch" => {
            migratable(text, &term, beneath)?;
            let (mut budget, mut uses_ahead, mut pass_through) = (None, None, false);
            for argument in &term.arguments(text)? {
                match (argument.key, argument.value) {
                    (Some("budget"), _) => budget = Some(size(text, argument)?),
                    (Some("ahead"), _) => uses_ahead = Some(number(text, argument)?),
                    (None, "pass_through") => pass_through = true,
                    _ => {
                        let takes = ["budget=", "ahead=", "pass_through"];
                        return Err(unknown_argument(text, argument, "auto_prefetch", &takes));
                    }
                }
            }
            Adaptor::AutoPrefetch { budget, uses_ahead, pass_through }
        }
        name => {
            let message = match LEAVES.contains(&name) {
                true => format!("`{name}` is a leaf: it has no upstream"),
                false => format!("there is no adaptor `{name}`; there are {}", ADAPTORS.join(", ")),
            };
            let error = SpecError::new(text, term.span, message, "not an adaptor");
            return Err(match word_advice(name, &ADAPTORS) {
                Some(note) => error.note(note),
                None => error,
            });
        }
    };
    Ok(Word { span: term.span, value })
}

/// Checks the rule of [`PoolError::OverScrub`](crate::PoolError::OverScrub) and
/// [`BinError::OverScrub`](crate::BinError::OverScrub). Building the stack finds a `scrub` within a `spill`.
fn not_over_scrub(text: &str, term: &Term<'_>, beneath: &Layers) -> Result<(), SpecError> {
    let Some(scrub) = beneath.adaptors.iter().find(|word| matches!(word.value, Adaptor::Scrub { .. })) else {
        return Ok(());
    };
    let message = format!("`{}` over `scrub` would hand out memory that is not cleared", term.name);
    Err(SpecError::new(text, scrub.span.clone(), message, "needs to stand over the pool")
        .note(format!("for example `{} | scrub`", term.name)))
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

/// Checks the rule of `Prefetch::new`, `AutoPrefetch::new` and `Advise::new`, with the words of the compiler's message.
fn migratable(text: &str, term: &Term<'_>, beneath: &Layers) -> Result<(), SpecError> {
    let spill = beneath.adaptors.iter().find(|word| matches!(word.value, Adaptor::Spill(_)));
    let kind = match spill {
        None if beneath.leaf.value.is_managed() => return Ok(()),
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
    for argument in &term.arguments(text)? {
        let to = match (argument.key, argument.value) {
            (None, "pass_through") => {
                pass_through = true;
                continue;
            }
            (None, "always") => {
                always = true;
                continue;
            }
            (None, "host") => Target::Host,
            (None, ordinal) if is_number(ordinal) => Target::Device(number(text, argument)?),
            _ => {
                let takes = ["host", "a device's number", "pass_through", "always"];
                return Err(unknown_argument(text, argument, "prefetch", &takes));
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
