//! [`Log`]: the rows that are not written yet, in one part per thread, and the sink.
//!
//! A call appends its row to the part of its thread, with the time of that moment. A thread whose part is full collects
//! the rows of all parts up to the present moment, sorts them by time, and writes them. The order of the rows is
//! therefore the order of the calls, over all threads:
//!
//! - A free is logged before the upstream is called, and an allocation after. If memory is freed by one thread and
//!   allocated by another, the row of the free has the earlier time.
//! - A row gets its time under the lock of its part. Rows with a later time than that of the collection stay in their
//!   parts. So a later collection has no earlier row.
//!
//! One thread at a time has the sink, and no lock is held while the sink is called.
#![forbid(unsafe_code)]

use super::clock::Clock;
use super::row::{Action, HEADER, Row};
use crate::at_exit::AtExit;
use crate::parts::Parts;
use crate::thread_id::thread_id;
use cumem::device::deferral::{after_locks, is_active};
use cumem::error::panic_message;
use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A thread with this many rows writes the rows of all threads.
const FULL: usize = 4096;
/// A thread with this many rows waits for the thread that writes.
const MOST: usize = 16 * FULL;
/// A thread writes the rows that others have left for it at most this often in a row.
const ROUNDS: usize = 8;

thread_local! {
    /// This thread is in a call of a sink.
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    last: u64,
}

/// The sink of a log, and room for text.
struct Writer {
    sink: Box<dyn Write + Send>,
    text: Vec<u8>,
}

/// See the [module](self).
pub(super) struct Log {
    parts: Parts<Rows>,
    clock: Clock,
    flush_each_row: bool,
    /// `None` while a thread writes.
    writer: Mutex<Option<Writer>>,
    /// Rows were left for the thread that writes.
    more: AtomicBool,
    written: AtomicU64,
    lost: AtomicU64,
    /// The first error of the sink.
    error: Mutex<Option<(io::ErrorKind, String)>>,
}

impl Log {
    pub(super) fn new(sink: Box<dyn Write + Send>, flush_each_row: bool) -> Arc<Self> {
        let log = Self {
            parts: Parts::default(),
            clock: Clock::start(),
            flush_each_row,
            writer: Mutex::new(Some(Writer { sink, text: HEADER.into() })),
            more: AtomicBool::new(false),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            error: Mutex::new(None),
        };
        Arc::new(log)
    }

    /// Appends a row.
    #[inline]
    pub(super) fn push(self: &Arc<Self>, action: Action, pointer: u64, size: usize, stream: u64) {
        let thread = thread_id();
        // A block of zero bytes has no memory.
        let pointer = if size == 0 { 0 } else { pointer };
        let waiting = {
            let mut part = self.parts.mine();
            if part.rows.capacity() == 0 {
                part.rows.reserve_exact(FULL);
            }
            part.last = self.clock.now().max(part.last + 1);
            let time = part.last;
            part.rows.push(Row { time, pointer, size: size as u64, stream, thread, action });
            part.rows.len()
        };
        if waiting >= FULL || self.flush_each_row {
            self.is_due(waiting);
        }
    }

    #[cold]
    fn is_due(self: &Arc<Self>, waiting: usize) {
        // The caller may hold a lock of the library, for example if the upstream of a pool is logged. The sink is a
        // user's code and runs after its release.
        if is_active() {
            let log = Arc::clone(self);
            after_locks(move || log.write_rows());
            return;
        }
        self.write_rows();
        if waiting >= MOST && !IN_SINK.get() {
            self.wait_for_writer();
        }
    }

    /// Writes all rows up to this moment. If another thread writes, that thread writes them, and this call does not
    /// wait for it.
    fn write_rows(&self) {
        for _ in 0..ROUNDS {
            // Set before the writer is looked for, so that the thread that has it finds the mark when it gives it back.
            self.more.store(true, SeqCst);
            let Some(mut writer) = self.writer().take() else { return };
            self.more.store(false, SeqCst);
            self.write_with(&mut writer);
            *self.writer() = Some(writer);
            if !self.more.load(SeqCst) {
                return;
            }
        }
    }

    fn write_with(&self, writer: &mut Writer) {
        let rows = self.collect();
        let mut clock = self.clock.time_of_day();
        rows.iter().for_each(|row| row.write(&mut writer.text, &mut clock));
        match call(writer) {
            Ok(()) => self.written.fetch_add(rows.len() as u64, Relaxed),
            Err(error) => {
                self.error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert((error.kind(), error.to_string()));
                self.lost.fetch_add(rows.len() as u64, Relaxed)
            }
        };
        writer.text.clear();
    }

    /// Removes the rows up to this moment from all parts, and returns them in order.
    fn collect(&self) -> Vec<Row> {
        let now = self.clock.now();
        let mut all = Vec::new();
        for mut part in self.parts.each() {
            let earlier = part.rows.partition_point(|row| row.time <= now);
            all.extend(part.rows.drain(..earlier));
        }
        all.sort_by_key(Row::order);
        all
    }

    fn wait_for_writer(&self) {
        while self.writer().is_none() {
            std::thread::yield_now();
        }
    }

    /// Writes all rows up to this moment, and waits for the thread that writes some of them.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.write_rows();
        if !IN_SINK.get() {
            self.wait_for_writer();
        }
        self.error()
    }

    /// Returns the first error of the sink.
    pub(super) fn error(&self) -> io::Result<()> {
        match &*self.error.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        }
    }

    pub(super) fn flushes_each_row(&self) -> bool {
        self.flush_each_row
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AtExit for Log {
    fn at_exit(&self) {
        self.write_rows();
    }
}

/// Passes the text to the sink. A panic of the sink is an error, because the caller has just allocated a block, which
/// would be lost.
fn call(writer: &mut Writer) -> io::Result<()> {
    let Writer { sink, text } = writer;
    let before = IN_SINK.replace(true);
    let written = catch_unwind(AssertUnwindSafe(|| sink.write_all(text).and_then(|()| sink.flush())));
    IN_SINK.set(before);
    written.unwrap_or_else(|panic| {
        let text = format!("the sink panicked: {}", panic_message(&*panic).unwrap_or("without a text"));
        // The drop of the payload may panic as well.
        std::mem::forget(panic);
        Err(io::Error::other(text))
    })
}
