//! [`Holdings`]: the memory and objects that a program holds on a device.

use cumem::{Device, DeviceError};

/// The memory that a program holds on a device, and on a simulated device also its streams, events and pools.
pub(crate) struct Holdings(Vec<(&'static str, u64)>);

impl Holdings {
    /// Returns the objects that the program holds now.
    pub(crate) fn of(device: &Device) -> Result<Self, DeviceError> {
        let info = device.memory_info()?;
        let mut all = vec![("bytes of the device", (info.total - info.free) as u64)];
        if let Some(simulator) = device.simulator() {
            let live = simulator.live_allocations();
            all.extend([
                ("blocks of device memory", live.device.blocks),
                ("blocks of unified memory", live.managed.blocks),
                ("blocks of pinned memory", live.pinned.blocks),
                ("stream-ordered blocks", live.stream_ordered.blocks),
                ("mapped pieces", live.mapped.blocks),
                ("ranges of reserved addresses", live.reserved.blocks),
                ("streams", live.streams),
                ("events", live.events),
                ("pools", live.pools),
            ]);
        }
        Ok(Self(all))
    }

    /// Returns in words the objects that the program holds in addition to `before`.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&before.0);
        let more = pairs.filter(|((_, now), (_, then))| now > then);
        more.map(|((what, now), (_, then))| format!("{} {what}", now - then)).collect()
    }
}
