//! The data, `examples/data/digits.csv.gz`: each line has 64 pixels from 0 to 16, and the digit.

use flate2::read::GzDecoder;
use std::error::Error;
use std::io::{BufRead, BufReader};

const PIXELS: usize = 64;

pub(crate) struct Digits {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Digits {
    pub(crate) fn read() -> Result<Self, Box<dyn Error>> {
        let packed: &[u8] = include_bytes!("../data/digits.csv.gz");
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for line in BufReader::new(GzDecoder::new(packed)).lines() {
            let mut values = line?.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>()?;
            labels.extend(values.pop());
            if values.len() != PIXELS {
                return Err(format!("line {}: {} pixels, {PIXELS} expected", labels.len(), values.len()).into());
            }
            pixels.append(&mut values);
        }
        Ok(Self { pixels, labels })
    }

    /// Keeps only the first `count` digits.
    #[cfg(test)]
    pub(crate) fn first(mut self, count: usize) -> Self {
        self.labels.truncate(count);
        self.pixels.truncate(count * PIXELS);
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn dimensions(&self) -> usize {
        PIXELS
    }

    pub(crate) fn label(&self, index: usize) -> u8 {
        self.labels[index]
    }

    pub(crate) fn pixels(&self, index: usize) -> &[u8] {
        &self.pixels[index * PIXELS..][..PIXELS]
    }

    /// Returns all vectors, one after the other.
    pub(crate) fn vectors(&self) -> Vec<f32> {
        self.pixels.iter().map(|&pixel| pixel.into()).collect()
    }
}
