use crate::broken::{Outcome, ensure};
use crate::live::{BlockId, LiveBlocks};
use crate::rng::Rng;
use crate::subject::{Subject, bytes, get, put};
use cumem::{Block, MemoryResource, Stream};

/// Two live blocks have different addresses (RMM #861).
pub(super) fn two_live_blocks_differ<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    for stream in [&subject.stream, &Stream::legacy_default(&subject.device)] {
        let (first, second) = (subject.get(stream, bytes(8))?, subject.get(stream, bytes(8))?);
        ensure!(first.addr() != second.addr(), "two live blocks are both at {:#x}", first.addr());
        subject.put(stream, first)?;
        subject.put(stream, second)?;
    }
    Ok(())
}

/// 100 blocks of random sizes up to 5 MiB are live at once, do not overlap, and keep their contents.
pub(super) fn a_hundred_live_blocks<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let (stream, mut rng, mut live) = (&subject.stream, Rng::new(subject.seed), LiveBlocks::new());
    let largest = subject.expectations.largest.min(5 << 20);
    let mut blocks: Vec<Block> = Vec::new();
    for _ in 0..100 {
        let Some(block) = subject.try_get(stream, bytes(1 + rng.below(largest)))? else { continue };
        live.enter(BlockId::of(&block))?;
        // SAFETY: the contents are of the resource's kind; the block was just allocated on this stream, and it overlaps
        // no other.
        unsafe { subject.contents.write(stream, &block, block.addr() >> 8) }?;
        blocks.push(block);
    }
    ensure!(!blocks.is_empty(), "not one of 100 blocks of up to {largest} bytes was given");
    for block in &blocks {
        // SAFETY: the block is live and of the resource's kind, and this use follows the write on the same stream.
        unsafe { subject.contents.verify(stream, block, block.addr() >> 8) }?;
    }
    stream.synchronize()?;
    subject.contents.settle()?;
    // Freed in random order, neither in the order of allocation nor in its reverse.
    while !blocks.is_empty() {
        let block = blocks.swap_remove(rng.below(blocks.len()));
        live.strike(BlockId::of(&block))?;
        subject.put(stream, block)?;
    }
    Ok(())
}

/// A block stays valid, and belongs to its resource, when the resource is moved.
pub(super) fn blocks_outlive_a_move<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let (stream, resource) = (&subject.stream, subject.another()?);
    let block = get(&resource, stream, bytes(4096))?;
    // SAFETY: the contents are of the resource's kind; the block was just allocated on this stream.
    unsafe { subject.contents.write(stream, &block, 1) }?;
    let moved = Box::new(resource);
    // SAFETY: the block is live and of the resource's kind, and this use follows the write on the same stream.
    unsafe { subject.contents.verify(stream, &block, 1) }?;
    stream.synchronize()?;
    subject.contents.settle()?;
    put(&moved, stream, block)
}
