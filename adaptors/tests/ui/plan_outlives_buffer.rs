use cumem::unified::PrefetchPlan;
use cumem::{ManagedResource, Stream, UnifiedBuffer};

fn plan(stream: &Stream, buffer: UnifiedBuffer<u8, ManagedResource>) {
    let mut plan = PrefetchPlan::new(stream);
    plan.add(buffer.block(), 0..1, buffer.device().id()).unwrap();
    drop(buffer);
    let _ = plan.execute();
}

fn main() {}
