//! The input of all batches: vectors that are made from digits.

use crate::digits::Digits;

/// The vectors of all batches, one batch after the other, row-major, with small whole numbers.
pub(crate) struct Batches {
    pub(crate) vectors: Vec<f32>,
    pub(crate) batches: usize,
    /// Number of vectors in a batch.
    pub(crate) count: usize,
    pub(crate) dimensions: usize,
}

/// Number of digits in a vector of a large batch.
const WIDE: usize = 16;

impl Batches {
    /// Creates batches that each hold the digits.
    pub(crate) fn of_digits(digits: &Digits, batches: usize) -> Self {
        let (count, dimensions) = (digits.len(), digits.dimensions());
        Self { vectors: digits.vectors().repeat(batches), batches, count, dimensions }
    }

    /// Creates batches of `bytes` bytes. Each vector is 16 digits, chosen at random.
    pub(crate) fn wide(digits: &Digits, batches: usize, bytes: usize) -> Self {
        let dimensions = WIDE * digits.dimensions();
        let count = bytes / (dimensions * size_of::<f32>());
        let mut vectors = Vec::with_capacity(batches * count * dimensions);
        let mut random = 1_u64;
        for _ in 0..batches * count * WIDE {
            // Knuth's generator (MMIX).
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digit = (random >> 33) as usize % digits.len();
            vectors.extend(digits.pixels(digit).iter().map(|pixel| f32::from(*pixel)));
        }
        Self { vectors, batches, count, dimensions }
    }

    /// Returns the elements of a batch.
    pub(crate) fn elements(&self) -> usize {
        self.count * self.dimensions
    }

    pub(crate) fn bytes_per_batch(&self) -> usize {
        self.elements() * size_of::<f32>()
    }

    pub(crate) fn batch(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.elements()..][..self.elements()]
    }
}
