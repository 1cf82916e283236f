//! The same search on the host with integers, without rounding.

/// Returns the vector with the greatest cosine to `query`, except `query` itself. Of equals, the first.
pub(crate) fn nearest_neighbour(vectors: &[f32], dimensions: usize, query: usize) -> u32 {
    let vector = |i: usize| &vectors[i * dimensions..][..dimensions];
    let dot = |a: &[f32], b: &[f32]| -> u64 { a.iter().zip(b).map(|(&x, &y)| x as u64 * y as u64).sum() };
    let (mut best, mut best_square, mut best_norm) = (u32::MAX, 0, 1);
    for j in (0..vectors.len() / dimensions).filter(|&j| j != query) {
        let (candidate, norm) = (dot(vector(query), vector(j)).pow(2), dot(vector(j), vector(j)));
        // No dot product is negative, so cosines can be compared by their squares: dot^2 / norm.
        if best == u32::MAX || u128::from(candidate) * best_norm > best_square * u128::from(norm) {
            (best, best_square, best_norm) = (j as u32, u128::from(candidate), u128::from(norm));
        }
    }
    best
}

/// Returns the nearest neighbour of each vector.
pub(crate) fn nearest_neighbours(vectors: &[f32], dimensions: usize) -> Vec<u32> {
    (0..vectors.len() / dimensions).map(|query| nearest_neighbour(vectors, dimensions, query)).collect()
}
