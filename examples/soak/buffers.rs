//! Operations on buffers of the general stack.

use super::held::{Held, pattern};
use super::worker::{Done, Worker, Wrong};
use cumem::Buffer;
use std::sync::PoisonError;

/// Bytes of the largest buffer.
const LARGEST: usize = 4 << 20;
/// Buffers that a thread holds, and buffers on their way between threads.
const HELD: usize = 24;
const IN_TRANSIT: usize = 8;

fn length(worker: &mut Worker<'_, '_>) -> usize {
    if worker.rng.chance(2) { 0 } else { worker.rng.size(LARGEST) / 4 }
}

fn keep<'r>(worker: &mut Worker<'_, 'r>, held: Held<'r>) -> Done {
    worker.held.push(held);
    if worker.held.len() > HELD { free(worker) } else { Ok(()) }
}

/// Returns the place of a random buffer.
fn any(worker: &mut Worker<'_, '_>) -> Option<usize> {
    (!worker.held.is_empty()).then(|| worker.rng.below(worker.held.len()))
}

pub(crate) fn create(worker: &mut Worker<'_, '_>) -> Done {
    let (stream, len) = (worker.stream(), length(worker));
    let elements = pattern(worker.rng.next_u64() as u32, len);
    let buffer = Buffer::from_slice(&elements, &stream, worker.shared.stack)?;
    keep(worker, Held { buffer, elements: Some(elements) })
}

pub(crate) fn create_filled(worker: &mut Worker<'_, '_>) -> Done {
    let (stream, len, value) = (worker.stream(), length(worker), worker.rng.next_u64() as u32);
    let buffer = Buffer::zeroed(len, &stream, worker.shared.stack)?;
    let mut held = Held { buffer, elements: Some(vec![0; len]) };
    let filled = held.write(|held| {
        held.buffer.fill(value)?;
        held.elements = Some(vec![value; len]);
        Ok(())
    });
    keep(worker, held)?;
    filled
}

pub(crate) fn verify(worker: &mut Worker<'_, '_>) -> Done {
    match any(worker) {
        Some(at) => worker.held[at].verify(worker.shared.figures),
        None => Ok(()),
    }
}

pub(crate) fn free(worker: &mut Worker<'_, '_>) -> Done {
    let Some(at) = any(worker) else { return Ok(()) };
    let held = worker.held.swap_remove(at);
    if worker.rng.chance(50) { held.verify(worker.shared.figures) } else { Ok(()) }
}

pub(crate) fn clone(worker: &mut Worker<'_, '_>) -> Done {
    let (Some(at), stream) = (any(worker), worker.stream()) else { return Ok(()) };
    let held = &worker.held[at];
    let buffer = match worker.rng.chance(50) {
        true => held.buffer.try_clone()?,
        false => held.buffer.try_clone_on(&stream, worker.shared.stack)?,
    };
    let elements = held.elements.clone();
    keep(worker, Held { buffer, elements })
}

pub(crate) fn copy(worker: &mut Worker<'_, '_>) -> Done {
    let (Some(at), stream) = (any(worker), worker.stream()) else { return Ok(()) };
    let len = worker.held[at].buffer.len();
    let buffer = Buffer::zeroed(len, &stream, worker.shared.stack)?;
    let mut copy = Held { buffer, elements: None };
    copy.buffer.copy_from_buffer(&worker.held[at].buffer)?;
    copy.elements = worker.held[at].elements.clone();
    keep(worker, copy)
}

pub(crate) fn copy_part(worker: &mut Worker<'_, '_>) -> Done {
    let Some(at) = any(worker) else { return Ok(()) };
    let len = worker.held[at].buffer.len();
    let [a, b] = [(); 2].map(|()| worker.rng.below(len + 1));
    let (from, value) = (a.min(b)..a.max(b), worker.rng.next_u64() as u32);
    let to = worker.rng.below(len - from.len() + 1);
    let within = worker.rng.chance(50) && (to >= from.end || to + from.len() <= from.start);
    worker.held[at].write(|held| {
        let Held { buffer, elements } = held;
        if within {
            buffer.copy_within(from.clone(), to)?;
            elements.iter_mut().for_each(|elements| elements.copy_within(from.clone(), to));
        } else {
            buffer.slice_mut(from.clone())?.fill(value)?;
            elements.iter_mut().for_each(|elements| elements[from.clone()].fill(value));
        }
        Ok(())
    })
}

pub(crate) fn write_elements(worker: &mut Worker<'_, '_>) -> Done {
    let Some(at) = any(worker) else { return Ok(()) };
    if worker.held[at].buffer.is_empty() {
        return Ok(());
    }
    let (index, value) = (worker.rng.below(worker.held[at].buffer.len()), worker.rng.next_u64() as u32);
    let later = worker.rng.chance(50);
    worker.held[at].write(|held| {
        match later {
            true => held.buffer.set_async(index, value)?,
            false => held.buffer.set(index, value)?,
        }
        held.elements.iter_mut().for_each(|elements| elements[index] = value);
        Ok(())
    })?;
    let held = &worker.held[at];
    let read = if later { held.buffer.get_async(index)?.wait()? } else { held.buffer.get(index)? };
    super::held::same(&[read], &[value])
}

/// A resize that fails leaves the buffer as it was.
pub(crate) fn resize(worker: &mut Worker<'_, '_>) -> Done {
    let (Some(at), len) = (any(worker), length(worker)) else { return Ok(()) };
    let shrinks = worker.rng.chance(30);
    let Held { buffer, elements } = &mut worker.held[at];
    if shrinks {
        return Ok(buffer.shrink_to_fit()?);
    }
    buffer.resize(len)?;
    elements.iter_mut().for_each(|elements| elements.resize(len, 0));
    Ok(())
}

pub(crate) fn change_stream(worker: &mut Worker<'_, '_>) -> Done {
    let (Some(at), stream) = (any(worker), worker.stream()) else { return Ok(()) };
    Ok(worker.held[at].buffer.set_stream(&stream)?)
}

pub(crate) fn take_apart(worker: &mut Worker<'_, '_>) -> Done {
    let Some(at) = any(worker) else { return Ok(()) };
    let Held { buffer, elements } = worker.held.swap_remove(at);
    let parts = match buffer.into_block() {
        Ok(parts) => parts,
        Err(refused) => {
            worker.held.push(Held { buffer: refused.value, elements });
            return Err(refused.reason.into());
        }
    };
    // SAFETY: the parts are those of a buffer of this type, and nothing else uses its memory.
    let again = unsafe { Buffer::from_block(parts.block, parts.len, &parts.stream, parts.resource) };
    match again {
        Ok(buffer) => keep(worker, Held { buffer, elements }),
        Err(error) => Err(Wrong(format!("{error}: {}", error.reason)).into()),
    }
}

pub(crate) fn exchange(worker: &mut Worker<'_, '_>) -> Done {
    let Some(at) = any(worker) else { return Ok(()) };
    let given = worker.held.swap_remove(at);
    let taken = {
        let mut exchange = worker.shared.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        exchange.push(given);
        (exchange.len() > IN_TRANSIT).then(|| exchange.swap_remove(0))
    };
    // The taken buffer may be on a stream that only the other thread uses otherwise.
    match taken {
        Some(taken) => keep(worker, taken),
        None => Ok(()),
    }
}
