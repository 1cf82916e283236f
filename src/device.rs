//! Devices, streams and events, and the properties of a device.
//!
//! # Files
//!
//! | file | contents |
//! |---|---|
//! | `handle` | [`Device`]: a shared handle to a GPU or a simulated device |
//! | `handle/*` | methods of [`Device`]: `open` creates handles, `memory` and `work` call the driver, `notices` calls listeners |
//! | `stream_ids` | [`StreamId`], and the ids of default streams |
//! | `kept_stream` | [`KeptStream`]: keeps a stream for memory that was freed on it |
//! | `interned` | one shared object for each driver handle |
//! | `stream`, `event`, `module` | [`Stream`](crate::Stream), [`Event`](crate::Event), [`Module`](crate::kernel::Module) |
//! | `stream/*` | methods of [`Stream`](crate::Stream): `open` creates handles, `name` tells streams apart, `order` waits, `launch` starts kernels |
//! | `captures`, `capture_count` | [`CaptureUnderway`]: what pools must not do while a stream is captured |
//! | `graph` | [`Capture`](crate::kernel::Capture), [`Graph`](crate::kernel::Graph): work that is captured once and launched as a whole |
//! | `stream_options`, `stream_pool` | [`StreamOptions`], [`StreamPool`](crate::StreamPool) |
//! | `deferred_lock` | a mutex whose holder makes driver calls |
//! | `error` | [`DeviceError`](crate::DeviceError) |
//! | `fallback_notice` | the notice that a simulated device replaces a GPU |
//! | `machine` | the data that the library keeps about all devices of one driver or simulator |
//! | `slots` | values that services store for a machine or a device |
//! | `notice` | operations on memory, each announced once to all listeners |
//! | `spare` | memory that services keep for later use, and free when a leaf is out of memory |
//! | `host_gate` | keeps host access and work apart on devices without concurrent managed access |

mod capture_count;
mod captures;
mod deferred_lock;
pub(crate) mod error;
pub(crate) mod event;
mod fallback_notice;
pub(crate) mod graph;
pub(crate) mod handle;
pub(crate) mod host_gate;
pub(crate) mod interned;
pub(crate) mod kept_stream;
pub(crate) mod machine;
pub(crate) mod module;
mod module_size;
pub(crate) mod notice;
pub(crate) mod slots;
pub(crate) mod spare;
pub(crate) mod stream;
pub(crate) mod stream_ids;
pub(crate) mod stream_options;
pub(crate) mod stream_pool;

pub use captures::CaptureUnderway;
pub use cumem_driver::deferral;
pub use cumem_driver::{Attributes, MemoryInfo, MemoryType, PointerInfo};
pub(crate) use deferred_lock::Locked;
pub use handle::Device;
pub use kept_stream::KeptStream;
pub use stream::name::StreamName;
pub use stream_ids::StreamId;
pub use stream_options::StreamOptions;
