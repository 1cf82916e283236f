use crate::broken::{BoxError, Broken, Outcome, ensure};
use crate::live::BlockId;
use crate::subject::{Subject, bytes, check, get, put};
use cumem::error::ErrorReport;
use cumem::sim::faults;
use cumem::{Block, Device, MemoryResource, Stream};

/// Sizes that make a suballocator with small chunks call its upstream more than once.
pub(crate) const SIZES: [usize; 10] = [256, 1, 4 << 10, 1 << 20, 0, 3 << 20, 100_000, 64, 16 << 20, 257];

/// Each driver call fails once in turn, including the calls of the constructor. Nothing is lost, and the next request
/// succeeds. This check always runs on simulated devices, because only they can inject failures.
pub(super) fn every_driver_call_fails<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let simulator = subject.device.simulator();
    let profile = simulator.and_then(|simulator| simulator.profiles().first().cloned()).unwrap_or_default();
    let report = faults::enumerate(&profile, |device| {
        let (resource, stream, other) = ((subject.make)(device)?, Stream::new(device)?, Stream::new(device)?);
        if let Err(broken) = blocks_come_and_go(device, &resource, [&stream, &other]) {
            panic!("{}", broken.report());
        }
        Ok::<_, BoxError>(())
    });
    let wrong = if subject.expectations.returns_all { report.wrong() } else { report.wrong_besides_leaks() };
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn blocks_come_and_go<R: MemoryResource>(device: &Device, resource: &R, streams: [&Stream; 2]) -> Outcome {
    let [stream, other] = streams;
    // Two rounds, so that memory that the resource kept is used again.
    for _ in 0..2 {
        let mut blocks = Vec::new();
        for size in SIZES {
            let block = match resource.allocate(stream, bytes(size)) {
                Ok(block) => check(&block, bytes(size)).map(|()| block)?,
                Err(error) => {
                    ensure!(spent(device), "{size} bytes were refused without a reason: {}", error.report());
                    get(resource, stream, bytes(size)).map_err(|broken| broken.at("after a failure"))?
                }
            };
            blocks.push(block);
        }
        // Every second block is freed on another stream, if that stream can be made to wait.
        let crossing = if other.wait_for(stream).is_ok() { other } else { stream };
        for (i, block) in blocks.into_iter().enumerate() {
            give_back(device, resource, if i % 2 == 0 { stream } else { crossing }, block)?;
        }
    }
    Ok(())
}

/// Frees a block. If the resource refuses it, the block must come back unchanged, and the second attempt must succeed.
fn give_back<R: MemoryResource>(device: &Device, resource: &R, stream: &Stream, block: Block) -> Outcome {
    let id = BlockId::of(&block);
    // SAFETY: no work uses the block, and nothing refers to its memory.
    let Err(error) = (unsafe { resource.deallocate(stream, block) }) else { return Ok(()) };
    let back = BlockId::of(&error.block);
    ensure!(back == id, "refused {id}, and returned {back}");
    if !spent(device) {
        return Err(Broken::new(format!("refused {id} without a reason: {}", ErrorReport::of(&error.reason))));
    }
    put(resource, stream, error.block).map_err(|broken| broken.at("the second time"))
}

/// Reports whether the call that is to fail has been made.
fn spent(device: &Device) -> bool {
    device.simulator().is_some_and(|simulator| simulator.pending_faults() == 0)
}
