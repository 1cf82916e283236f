//! Traces: how they are read, and what their replay reports.

mod replay;
mod trace;
