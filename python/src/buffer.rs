//! The class `Buffer`: `data` holds it, `methods` has its methods, and the other files do their work.

mod alias;
mod copies;
mod data;
mod dlpack;
mod hints;
mod interface;
mod methods;
mod view;
mod whole;

pub(crate) use data::Buffer;
pub(crate) use hints::Outcome as HintOutcome;
