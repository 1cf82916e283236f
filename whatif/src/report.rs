//! Runs side by side, as text, JSON, or one page of HTML.

mod chart;
mod data;
mod html;
mod map;
mod text;
mod units;
mod write;

pub use data::{Format, WhatIfReport};
