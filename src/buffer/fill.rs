//! Fills of a part of a buffer, and single elements that are copied while the host does not wait.

use super::part::Part;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::transfer::{self, Ends, PendingBytes, Transfers, VALUE_SLOT};

/// Returns the word of 4 bytes that, repeated, gives the same bytes as `element` repeated, if there is one.
fn word_of(element: &[u8]) -> Option<u32> {
    let period = element.len().min(4);
    let repeats = 4 % period == 0
        && element.len().is_multiple_of(period)
        && element.chunks_exact(period).all(|part| part == &element[..period]);
    let word = || std::array::from_fn(|i| element[i % period]);
    repeats.then(|| u32::from_ne_bytes(word()))
}

impl Part<'_> {
    /// Enqueues a fill that sets every byte to `value`.
    ///
    /// # Safety
    ///
    /// The caller must ensure that nothing uses the part in a conflicting way during the call.
    pub(super) unsafe fn fill_bytes(&self, value: u8) -> Result<(), DeviceError> {
        self.enqueue(|stream| {
            let (device, raw) = (stream.device(), stream.raw()?);
            let (start, bytes) = (self.ptr(), self.bytes);
            // SAFETY: the range is within the block. The buffer's later work, its free included, comes after the fill.
            device.enqueue(|| unsafe { device.driver().fill_async(device.ordinal(), start, value, bytes, raw) })
        })
    }

    /// Enqueues a fill that sets every word to `word`. The part is a whole number of aligned words.
    ///
    /// # Safety
    ///
    /// The contract of [`fill_bytes`](Self::fill_bytes).
    unsafe fn fill_words(&self, word: u32) -> Result<(), DeviceError> {
        self.enqueue(|stream| {
            let (device, raw) = (stream.device(), stream.raw()?);
            let (start, words) = (self.ptr(), self.bytes / 4);
            // SAFETY: the range is within the block. The buffer's later work, its free included, comes after the fill.
            device.enqueue(|| unsafe { device.driver().fill_words_async(device.ordinal(), start, word, words, raw) })
        })
    }

    /// Enqueues a fill with copies of `element`, of which the part holds a whole number.
    ///
    /// An element whose bytes are all equal, or that consists of equal words of 4 bytes, is one fill of the driver. Of
    /// other elements, the first are copied from the host. The rest is copied from them, twice as many bytes in each
    /// copy.
    ///
    /// # Safety
    ///
    /// The contract of [`fill_bytes`](Self::fill_bytes).
    pub(super) unsafe fn fill(&self, element: &[u8]) -> Result<(), DeviceError> {
        let Some((first, rest)) = element.split_first() else { return Ok(()) };
        if rest.iter().all(|byte| byte == first) {
            // SAFETY: the contract is the same.
            return unsafe { self.fill_bytes(*first) };
        }
        if let Some(word) = word_of(element)
            && self.addr().is_multiple_of(4)
            && self.bytes.is_multiple_of(4)
        {
            // SAFETY: the contract is the same.
            return unsafe { self.fill_words(word) };
        }
        self.enqueue(|stream| {
            let fits = (VALUE_SLOT / element.len()).max(1) * element.len();
            let mut filled = fits.min(self.bytes);
            let write =
                |slot: &mut [u8]| slot.chunks_exact_mut(element.len()).for_each(|to| to.copy_from_slice(element));
            // SAFETY: the block holds these bytes, and the buffer's later work comes after the copy.
            unsafe { Transfers::of(stream.device()).values().upload(self.ptr(), filled, write, stream) }?;
            while filled < self.bytes {
                let bytes = filled.min(self.bytes - filled);
                let ends = Ends { to: self.ptr().wrapping_add(filled), from: self.ptr(), bytes };
                // SAFETY: both ends are within the block and do not overlap. The earlier copies have written the
                // source, and the buffer's later work comes after this copy.
                unsafe { transfer::enqueue_copy(ends, stream.raw()?, stream) }?;
                filled += bytes;
            }
            Ok(())
        })
    }

    /// Enqueues a copy of `value`, which has as many bytes as the part. The value is not used after the return.
    ///
    /// # Safety
    ///
    /// The contract of [`fill_bytes`](Self::fill_bytes).
    pub(super) unsafe fn set_async(&self, value: &[u8]) -> Result<(), DeviceError> {
        self.enqueue(|stream| {
            let write = |slot: &mut [u8]| slot.copy_from_slice(value);
            // SAFETY: the block holds these bytes, and the buffer's later work comes after the copy.
            unsafe { Transfers::of(stream.device()).values().upload(self.ptr(), self.bytes, write, stream) }
        })
    }

    /// Enqueues a copy of all bytes to pinned memory.
    pub(super) fn get_async(&self) -> Result<PendingBytes, DeviceError> {
        let slots = Transfers::of(self.device()).values();
        let mut pending = PendingBytes::nothing(slots);
        self.enqueue(|stream: &Stream| {
            // SAFETY: the block holds these bytes, and the buffer's later work comes after the copy.
            pending = unsafe { slots.download(self.ptr(), self.bytes, stream) }?;
            Ok(())
        })?;
        Ok(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_that_are_words() {
        let word = |element: &[u8]| word_of(element).map(u32::to_ne_bytes);
        assert_eq!(word(&[1]), Some([1; 4]));
        assert_eq!(word(&[1, 2]), Some([1, 2, 1, 2]));
        assert_eq!(word(&[1, 2, 3, 4]), Some([1, 2, 3, 4]));
        assert_eq!(word(&[1, 2, 3, 4, 1, 2, 3, 4]), Some([1, 2, 3, 4]));
        assert_eq!(word(&[1, 2, 3, 4, 5, 2, 3, 4]), None);
        assert_eq!(word(&[1, 2, 3]), None);
        assert_eq!(word(&[1, 2, 3, 4, 1, 2]), None);
    }
}
