//! The report in each format.

use super::data::{Format, WhatIfReport};
use super::{html, text};
use crate::figures::DryRun;
use std::fmt;

impl WhatIfReport {
    /// Returns the report, written in a format.
    pub fn write(&self, format: Format) -> String {
        match format {
            Format::Text => self.to_string(),
            Format::Json => {
                // A report consists of numbers, strings and lists, so JSON can represent all of it.
                let mut text = serde_json::to_string_pretty(self).expect("a report is plain data");
                text.push('\n');
                text
            }
            Format::Html => html::page(self),
        }
    }
}

/// Prints the report as text.
impl fmt::Display for WhatIfReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::report(self, f)
    }
}

/// Prints one run as text.
impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::run(self, f)
    }
}
