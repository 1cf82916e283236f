//! [`Buffer`]: an owned, typed array on a device and a stream. A [`BufferView`] borrows some of its elements.

mod array;
mod auto;
mod copy;
mod duplicate;
mod element;
mod elements;
mod facts;
mod fill;
mod hints;
mod host;
mod memory;
mod part;
mod pending;
mod refused;
mod release;
mod resize;
mod transfer;
mod view;
mod view_cast;
mod view_hints;
mod view_mut;
mod view_read;
mod view_write;
mod views;

pub use crate::transfer::TransferPath;
pub use array::{Buffer, UnifiedBuffer};
pub use element::Element;
pub use host::{HostRead, HostWrite};
pub use pending::Pending;
pub use refused::{FromBlockError, Refused};
pub use release::{BufferParts, ByteBuffer};
pub use view::BufferView;
pub use view_mut::BufferViewMut;
