//! Reading traces, and replaying them.

mod replay;
mod trace;
