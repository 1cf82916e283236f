//! Operations on managed memory: host guards, uses of the device, hints.

use super::held::{pattern, same};
use super::worker::{Done, Worker};
use cumem::kind::Managed;
use cumem::unified::Advice;
use cumem::{AnyResource, Buffer, Location};

const LARGEST: usize = 4 << 20;
const HELD: usize = 8;

/// A buffer over managed memory, and the elements that it must hold if they are known.
pub(crate) struct HeldManaged<'r> {
    buffer: Buffer<u32, &'r AnyResource<Managed>>,
    elements: Option<Vec<u32>>,
}

/// Returns the place of a random buffer, and creates one if there is room for more.
fn any(worker: &mut Worker<'_, '_>) -> Result<Option<usize>, Box<dyn std::error::Error>> {
    let Some(stack) = worker.shared.managed else { return Ok(None) };
    if worker.managed.len() < HELD {
        let (stream, len) = (worker.stream(), worker.rng.size(LARGEST).div_ceil(4));
        let elements = pattern(worker.rng.next_u64() as u32, len);
        let buffer = Buffer::from_slice(&elements, &stream, stack)?;
        worker.managed.push(HeldManaged { buffer, elements: Some(elements) });
    }
    Ok(Some(worker.rng.below(worker.managed.len())))
}

/// Declares a use, lets the device write, and reads or writes on the host.
pub(crate) fn host_and_device(worker: &mut Worker<'_, '_>) -> Done {
    let Some(at) = any(worker)? else { return Ok(()) };
    let (value, by_host, uploads) = (worker.rng.next_u64() as u32, worker.rng.chance(50), worker.rng.chance(30));
    let held = &mut worker.managed[at];
    let Some(elements) = held.elements.take() else { return Ok(()) };
    let len = elements.len();
    // The elements are unknown until all steps succeed.
    same(&held.buffer.host_read()?, &elements)?;
    drop(held.buffer.device_use(0..len)?);
    let elements = match (by_host, uploads) {
        (_, true) => {
            let elements = pattern(value, len);
            held.buffer.upload(&elements)?;
            elements
        }
        (true, false) => {
            held.buffer.host_write()?.fill(value);
            vec![value; len]
        }
        (false, false) => {
            held.buffer.fill(value)?;
            vec![value; len]
        }
    };
    let mut found = vec![0; len];
    held.buffer.download(&mut found)?;
    worker.shared.figures.count_verified(8 * len);
    same(&found, &elements)?;
    held.elements = Some(elements);
    Ok(())
}

/// Prefetches or advises a part.
pub(crate) fn hint(worker: &mut Worker<'_, '_>) -> Done {
    let Some(at) = any(worker)? else { return Ok(()) };
    let device = Location::Device(worker.shared.device.id());
    let to = if worker.rng.chance(50) { device } else { Location::Host };
    let len = worker.managed[at].buffer.len();
    let part = worker.rng.below(len + 1)..len;
    let advices = [
        Advice::SetReadMostly,
        Advice::UnsetReadMostly,
        Advice::SetPreferredLocation(to),
        Advice::UnsetPreferredLocation,
        Advice::SetAccessedBy(to),
        Advice::UnsetAccessedBy(to),
    ];
    let advice = advices[worker.rng.below(advices.len())];
    let buffer = &worker.managed[at].buffer;
    let _outcome = match worker.rng.chance(60) {
        true => buffer.prefetch_range(part, to)?,
        false => buffer.advise_range(part, advice)?,
    };
    let _attributes = buffer.range_attributes()?; // the driver refuses a query of no bytes
    Ok(())
}

pub(crate) fn free(worker: &mut Worker<'_, '_>) -> Done {
    if worker.managed.is_empty() {
        return Ok(());
    }
    let held = worker.managed.swap_remove(worker.rng.below(worker.managed.len()));
    let (Some(elements), true) = (held.elements, worker.rng.chance(50)) else { return Ok(()) };
    worker.shared.figures.count_verified(4 * elements.len());
    same(&held.buffer.to_vec()?, &elements)
}
