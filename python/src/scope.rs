//! The class `Scope`: counts between two points in time.

use crate::failure::Failure;
use crate::opened::Opened;
use crate::parent_only::ParentOnly;
use cumem::LayerExt;
use cumem_adaptors::statistics;
use cumem_adaptors::{NamedScope, StatisticsState};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts of a scope, or of a stack with `statistics`.
#[pyclass(frozen, module = "cumem", get_all)]
#[derive(Debug)]
pub(crate) struct Counts {
    current_bytes: i64,
    peak_bytes: i64,
    total_bytes: u64,
    current_blocks: i64,
    peak_blocks: i64,
    total_blocks: u64,
    failures: u64,
}

impl From<statistics::Counts> for Counts {
    fn from(counts: statistics::Counts) -> Self {
        Self {
            current_bytes: counts.current_bytes,
            peak_bytes: counts.peak_bytes,
            total_bytes: counts.total_bytes,
            current_blocks: counts.current_blocks,
            peak_blocks: counts.peak_blocks,
            total_blocks: counts.total_blocks,
            failures: counts.failures,
        }
    }
}

#[pymethods]
impl Counts {
    fn __repr__(&self) -> String {
        format!(
            "Counts(current_bytes={}, peak_bytes={}, total_bytes={}, current_blocks={}, peak_blocks={}, total_blocks={}, \
             failures={})",
            self.current_bytes,
            self.peak_bytes,
            self.total_bytes,
            self.current_blocks,
            self.peak_blocks,
            self.total_blocks,
            self.failures
        )
    }
}

/// A row of a profile: the calls of all scopes with one name.
#[pyclass(frozen, module = "cumem", get_all)]
#[derive(Debug)]
pub(crate) struct ProfileRow {
    name: String,
    calls: u64,
    total_bytes: u64,
    peak_bytes: u64,
    total_blocks: u64,
    peak_blocks: u64,
    failures: u64,
}

#[pymethods]
impl ProfileRow {
    fn __repr__(&self) -> String {
        format!(
            "ProfileRow(name={:?}, calls={}, peak_bytes={}, total_bytes={})",
            self.name, self.calls, self.peak_bytes, self.total_bytes
        )
    }
}

/// Returns the rows of a stack's profile, the largest peak first.
pub(crate) fn profile(stack: &Opened) -> Result<Vec<ProfileRow>, Failure> {
    let rows = statistics_of(stack)?.profile().rows;
    let row = |row: cumem_adaptors::ProfileRow| ProfileRow {
        name: row.name,
        calls: row.calls,
        total_bytes: row.total_bytes,
        peak_bytes: row.peak_bytes,
        total_blocks: row.total_blocks,
        peak_blocks: row.peak_blocks,
        failures: row.failures,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Returns the outermost statistics of a stack.
pub(crate) fn statistics_of(stack: &Opened) -> Result<&StatisticsState, Failure> {
    stack.layers().find().ok_or_else(|| {
        let text = format!("`{}` has no layer `statistics`, which scopes and profiles need", stack.text());
        Failure::NotSupported(text)
    })
}

/// An open scope, and the stack that it counts.
struct Open {
    // Declared before the stack, because fields are dropped in this order.
    counted: statistics::Scope<'static>,
    _named: Option<NamedScope<'static>>,
    _stack: Arc<Opened>,
}

/// A scope that counts until it ends.
#[pyclass(frozen, module = "cumem._native")]
pub(crate) struct Scope {
    open: Mutex<Option<ParentOnly<Open>>>,
}

impl Scope {
    /// Begins a scope of all threads, or of the calling one.
    pub(crate) fn begin(stack: Arc<Opened>, name: Option<String>, all_threads: bool) -> Result<Self, Failure> {
        let state: *const StatisticsState = statistics_of(&stack)?;
        // SAFETY: the state is part of the stack, which the scope keeps open and in its place. The scope is dropped first.
        let state: &'static StatisticsState = unsafe { &*state };
        let counted = if all_threads { state.scope() } else { state.thread_scope() };
        let named = name.map(|name| state.named_scope(name));
        let open = Open { counted, _named: named, _stack: stack };
        Ok(Self { open: Mutex::new(Some(ParentOnly::new(open))) })
    }
}

#[pymethods]
impl Scope {
    /// Returns the counts so far.
    fn counts(&self) -> PyResult<Counts> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or(Failure::Closed("scope"))?;
        Ok(open.counted.counts().into())
    }

    /// Ends the scope, adds it to the profile if it has a name, and returns its counts.
    fn end(&self) -> PyResult<Counts> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let open = open.ok_or(Failure::Closed("scope"))?;
        Ok(open.counted.counts().into())
    }
}
