use super::pattern::{pattern, windows};
use super::probe::Probe;
use crate::broken::{Outcome, ensure};
use cumem::{Block, Stream};
use std::slice;

/// Accesses memory through its pointer.
pub(super) struct HostProbe;

impl Probe for HostProbe {
    unsafe fn write(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome {
        stream.synchronize()?;
        for (offset, len) in windows(block.size()) {
            // SAFETY: `windows` stays within the block.
            let start = unsafe { block.as_ptr().add(offset) };
            // SAFETY: the block is live, host-accessible (so its bytes are initialized), and nothing else uses it.
            let bytes = unsafe { slice::from_raw_parts_mut(start, len) };
            bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = pattern(serial, offset + i));
        }
        Ok(())
    }

    unsafe fn verify(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome {
        stream.synchronize()?;
        for (offset, len) in windows(block.size()) {
            // SAFETY: `windows` stays within the block.
            let start = unsafe { block.as_ptr().add(offset) };
            // SAFETY: the block is live, host-accessible (so its bytes are initialized), and nothing else uses it.
            let bytes = unsafe { slice::from_raw_parts(start, len) };
            let wrong = (offset..).zip(bytes).find(|&(i, &byte)| byte != pattern(serial, i));
            if let Some((i, found)) = wrong {
                let (size, addr) = (block.size(), block.addr());
                ensure!(
                    false,
                    "byte {i} of the {size} at {addr:#x} was {:#04x} and became {found:#04x} while the block was live",
                    pattern(serial, i)
                );
            }
        }
        Ok(())
    }

    fn settle(&self) -> Outcome {
        Ok(())
    }
}
