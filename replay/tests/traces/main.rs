//! Reading traces, and replaying them.

mod logged;
mod replay;
mod trace;
