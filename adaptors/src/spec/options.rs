//! The options of each adaptor that has some.

use super::error::SpecError;
use super::text::{Argument, Term};
use super::values::{bytes, is_number, number, size, unknown_argument};
use super::words::{Adaptor, Advised, Layers, Leaf, Target};
use crate::bins::powers_of_two;
use crate::{Crossing, PoolOptions, PressureOptions, ScrubTime};

pub(super) fn pool(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let mut options = PoolOptions::new();
    for argument in &term.arguments(text)? {
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
                    ["initial=", "maximum=", "step=", "release=", "slack=", "up_to=", "divisions=", "grow_first"];
                return Err(unknown_argument(text, argument, "pool", &takes));
            }
        };
    }
    Ok(Adaptor::Pool(options))
}

pub(super) fn limit(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let missing = || {
        SpecError::new(text, term.span.clone(), "`limit` takes one size: `limit(80%)`", "needs a size")
            .note("a name and a rounding may follow: `limit(80%, name=search, rounding=2MiB)`")
    };
    let (mut limit, mut name, mut rounding) = (None, None, None);
    for argument in &term.arguments(text)? {
        match argument.key {
            None if limit.is_none() => limit = Some(size(text, argument)?),
            Some("name") => name = Some(argument.value.to_owned()),
            Some("rounding") => rounding = Some(bytes(text, argument)?),
            _ => return Err(missing()),
        }
    }
    Ok(Adaptor::Limit { size: limit.ok_or_else(missing)?, name, rounding })
}

pub(super) fn fixed_size(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let (mut block, mut keep) = (None, None);
    for argument in &term.arguments(text)? {
        match argument.key {
            None if block.is_none() => block = Some(bytes(text, argument)?),
            Some("keep") => keep = Some(number(text, argument)?),
            _ => return Err(unknown_argument(text, argument, "fixed_size", &["one size", "keep="])),
        }
    }
    let missing = || {
        let message = "`fixed_size` takes the size of its blocks: `fixed_size(1MiB)`";
        SpecError::new(text, term.span.clone(), message, "needs a size")
    };
    Ok(Adaptor::FixedSize { size: block.ok_or_else(missing)?, keep })
}

pub(super) fn binning(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let (mut sizes, mut from, mut to, mut keep) = (Vec::new(), None, None, None);
    for argument in &term.arguments(text)? {
        match argument.key {
            None => sizes.push(bytes(text, argument)?),
            Some("from") => from = Some(bytes(text, argument)?),
            Some("to") => to = Some(bytes(text, argument)?),
            Some("keep") => keep = Some(number(text, argument)?),
            _ => return Err(unknown_argument(text, argument, "binning", &["sizes", "from=", "to=", "keep="])),
        }
    }
    let fail = |message: String| {
        SpecError::new(text, term.span.clone(), message, "needs sizes")
            .note("for example `binning(64KiB, 1MiB)` or `binning(from=256KiB, to=4MiB)`")
    };
    match (from, to) {
        (Some(from), Some(to)) => sizes.extend(powers_of_two(from, to).map_err(|error| fail(error.to_string()))?),
        (None, None) if !sizes.is_empty() => {}
        _ => return Err(fail("`binning` takes sizes, or the first and the last of the powers of two".into())),
    }
    Ok(Adaptor::Binning { sizes, keep })
}

pub(super) fn aligned(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let (mut alignment, mut threshold) = (None, 0);
    for argument in &term.arguments(text)? {
        match argument.key {
            None if alignment.is_none() => alignment = Some(bytes(text, argument)?),
            Some("threshold") => threshold = bytes(text, argument)?,
            _ => return Err(unknown_argument(text, argument, "aligned", &["one size", "threshold="])),
        }
    }
    let missing = || {
        let message = "`aligned` takes an alignment: `aligned(4KiB)`";
        SpecError::new(text, term.span.clone(), message, "needs a power of two")
    };
    Ok(Adaptor::Aligned { alignment: alignment.ok_or_else(missing)?, threshold })
}

pub(super) fn advise(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let mut advised = Advised::default();
    for argument in &term.arguments(text)? {
        match (argument.key, argument.value) {
            (None, "read_mostly") => advised.read_mostly = true,
            (None, "pass_through") => advised.pass_through = true,
            (Some("prefer"), _) => advised.prefer = Some(place(text, argument)?),
            (Some("accessed_by"), _) => advised.accessed_by = Some(place(text, argument)?),
            (Some("threshold"), _) => advised.threshold = bytes(text, argument)?,
            _ => {
                let takes = ["read_mostly", "prefer=", "accessed_by=", "threshold=", "pass_through"];
                return Err(unknown_argument(text, argument, "advise", &takes));
            }
        }
    }
    if !advised.read_mostly && advised.prefer.is_none() && advised.accessed_by.is_none() {
        let message = "`advise` takes advice: `advise(read_mostly)`";
        return Err(SpecError::new(text, term.span.clone(), message, "needs advice")
            .note("there are `read_mostly`, `prefer=` and `accessed_by=`"));
    }
    Ok(Adaptor::Advise(advised))
}

fn place(text: &str, argument: &Argument<'_>) -> Result<Target, SpecError> {
    match argument.value {
        "own" => Ok(Target::Own),
        "host" => Ok(Target::Host),
        ordinal if is_number(ordinal) => Ok(Target::Device(number(text, argument)?)),
        other => {
            let message = format!("`{other}` is no place: there are `own`, `host`, and a device's number");
            Err(SpecError::new(text, argument.span.clone(), message, "not understood"))
        }
    }
}

pub(super) fn scrub(text: &str, term: &Term<'_>, beneath: &Layers) -> Result<Adaptor, SpecError> {
    if beneath.leaf.value == Leaf::Host {
        let message = "`host` memory is not accessible from the device, which clears it";
        return Err(SpecError::new(text, term.span.clone(), message, "needs device-accessible memory"));
    }
    let (mut pattern, mut time) = (0, ScrubTime::Free);
    for argument in &term.arguments(text)? {
        match (argument.key, argument.value) {
            (Some("pattern"), _) => pattern = number(text, argument)?,
            (Some("at"), "free") => time = ScrubTime::Free,
            (Some("at"), "allocate") => time = ScrubTime::Allocate,
            (Some("at"), "both") => time = ScrubTime::Both,
            (Some("at"), other) => {
                let message = format!("`{other}` is no time: there are `free`, `allocate` and `both`");
                return Err(SpecError::new(text, argument.span.clone(), message, "not understood"));
            }
            _ => return Err(unknown_argument(text, argument, "scrub", &["pattern=", "at="])),
        }
    }
    Ok(Adaptor::Scrub { pattern, time })
}

pub(super) fn log(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let (mut path, mut flush) = (None, false);
    for argument in &term.arguments(text)? {
        match (argument.key, argument.value) {
            (None, "flush") => flush = true,
            (None, file) if path.is_none() => path = Some(file.to_owned()),
            _ => return Err(unknown_argument(text, argument, "log", &["a file", "flush"])),
        }
    }
    Ok(Adaptor::Log { path, flush })
}

pub(super) fn on_failure(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let (mut trims, mut attempts) = (false, None);
    for argument in &term.arguments(text)? {
        match (argument.key, argument.value) {
            (None, "trim") => trims = true,
            (Some("attempts"), _) => attempts = Some(number(text, argument)?),
            _ => return Err(unknown_argument(text, argument, "on_failure", &["trim", "attempts="])),
        }
    }
    match trims {
        true => Ok(Adaptor::OnFailure { attempts }),
        false => {
            let message = "`on_failure` takes an action, and in text the only one is `trim`: `on_failure(trim)`";
            Err(SpecError::new(text, term.span.clone(), message, "needs an action")
                .note("a function is given in code: `.on_failure(|failure| ..)`"))
        }
    }
}

pub(super) fn pressure(text: &str, term: &Term<'_>) -> Result<Adaptor, SpecError> {
    let mut options = PressureOptions::default();
    for argument in &term.arguments(text)? {
        options = match argument.key {
            Some("trim") => options.trim_at(size(text, argument)?),
            Some("refuse") => options.refuse_at(size(text, argument)?),
            Some("slack") => options.slack(size(text, argument)?),
            Some("ask") => options.ask_after(size(text, argument)?),
            _ => {
                let takes = ["trim=", "refuse=", "slack=", "ask="];
                return Err(unknown_argument(text, argument, "pressure", &takes));
            }
        };
    }
    Ok(Adaptor::Pressure(options))
}
