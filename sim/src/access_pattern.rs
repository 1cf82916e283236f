//! The order in which a kernel accesses the bytes of its ranges.
#![forbid(unsafe_code)]

use super::uvm::{PAGE, pages_of};
use cumem_driver::{HostKernel, Pattern};

/// Bytes that an access to a single place moves: one sector of the device's memory.
const SECTOR: u64 = 32;

/// Checks the access patterns of a kernel. The error is the predicate of a sentence about the kernel.
pub(super) fn check(kernel: &HostKernel) -> Result<(), String> {
    if kernel.in_flight == 0 {
        return Err("has no threads in flight: it must have at least 1".into());
    }
    for (i, access) in kernel.accesses.iter().enumerate() {
        match &access.pattern {
            Pattern::Strided { stride: 0 } => return Err(format!("accesses range {i} with a stride of 0")),
            Pattern::List(list) => {
                if let Some(offset) = list.iter().find(|offset| **offset >= access.bytes) {
                    let bytes = access.bytes;
                    return Err(format!("touches the byte at {offset} of its range {i}, which has {bytes} bytes"));
                }
            }
            Pattern::Sequential | Pattern::Strided { .. } | Pattern::Random { .. } => {}
        }
    }
    Ok(())
}

/// Returns the pages that a pattern accesses, in order, numbered from the start of the allocation. The range begins at
/// `offset` within the allocation and has `bytes` bytes; `bytes` is not 0.
pub(super) fn pages(pattern: &Pattern, offset: u64, bytes: u64) -> Box<dyn Iterator<Item = u64> + '_> {
    let page = move |byte: u64| (offset + byte) / PAGE;
    match pattern {
        Pattern::Sequential => Box::new(pages_of(offset, bytes)),
        // Consecutive accesses to the same page count once.
        Pattern::Strided { stride } => {
            let mut last = None;
            let places = (0..bytes).step_by(*stride).map(page);
            Box::new(places.filter(move |page| last.replace(*page) != Some(*page)))
        }
        Pattern::Random { seed, touches } => {
            let mut state = *seed;
            let draw = move |_| page(((u128::from(splitmix(&mut state)) * u128::from(bytes)) >> 64) as u64);
            Box::new((0..*touches).map(draw))
        }
        Pattern::List(list) => Box::new(list.iter().map(move |byte| page(*byte as u64))),
    }
}

/// Returns the bytes that the device moves for a pattern over a range of `bytes` bytes.
pub(super) fn bytes(pattern: &Pattern, bytes: u64) -> u64 {
    let touches = match pattern {
        Pattern::Sequential => return bytes,
        Pattern::Strided { stride } => bytes.div_ceil(*stride as u64),
        Pattern::Random { touches, .. } => *touches as u64,
        Pattern::List(list) => list.len() as u64,
    };
    touches.saturating_mul(SECTOR)
}

/// Returns the next number of SplitMix64 (Steele, Lea, Flood 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_accesses_the_pages_that_it_describes() {
        let all = |pattern, offset, bytes| pages(&pattern, offset, bytes).collect::<Vec<_>>();
        assert_eq!(all(Pattern::Sequential, 4095, 4098), [0, 1, 2]);
        assert_eq!(all(Pattern::Strided { stride: 1024 }, 0, 8192), [0, 1]);
        assert_eq!(all(Pattern::Strided { stride: 12_288 }, 4096, 32_768), [1, 4, 7]);
        assert_eq!(all(Pattern::List([9000, 0, 9001].into()), 0, 10_000), [2, 0, 2]);
        let random = Pattern::Random { seed: 7, touches: 1000 };
        let drawn = all(random.clone(), 8192, 1 << 20);
        assert_eq!(drawn, all(random, 8192, 1 << 20), "a seed means one order");
        assert_ne!(drawn, all(Pattern::Random { seed: 8, touches: 1000 }, 8192, 1 << 20));
        assert!(drawn.iter().all(|page| (2..258).contains(page)));
        let distinct = drawn.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!((230..=256).contains(&distinct), "1000 draws of 256 pages miss about 5: {distinct}");
    }
}
