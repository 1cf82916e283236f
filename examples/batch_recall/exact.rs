//! The same question answered on the host in integers, where nothing is rounded.

use crate::digits::Digits;

/// For each vector the other one with the greatest cosine, of equals the first.
pub(crate) fn nearest_neighbours(digits: &Digits) -> Vec<u32> {
    let dot = |i, j| -> u64 {
        let (a, b) = (digits.pixels(i), digits.pixels(j));
        a.iter().zip(b).map(|(&x, &y)| u64::from(x) * u64::from(y)).sum()
    };
    let norms: Vec<u64> = (0..digits.len()).map(|i| dot(i, i)).collect();
    (0..digits.len())
        .map(|i| {
            let (mut best, mut best_dot) = (None, 0);
            for j in (0..digits.len()).filter(|&j| j != i) {
                let candidate = dot(i, j);
                // Dots are not negative, so the cosines compare as their squares do: dot^2 / norm.
                if best.is_none_or(|b: usize| candidate.pow(2) * norms[b] > best_dot * norms[j]) {
                    (best, best_dot) = (Some(j), candidate.pow(2));
                }
            }
            best.map_or(u32::MAX, |j| j as u32)
        })
        .collect()
}
