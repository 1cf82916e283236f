//! Scopes: counts between two points in time, of all threads or of one.

use super::counts::Counts;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Thread scopes are in one of this many lists, so that threads with a scope each rarely wait for each other.
const LISTS: usize = 64;

/// The open scopes of one [`StatisticsState`](super::StatisticsState).
#[derive(Debug)]
pub(super) struct Scopes {
    // Read without a lock, so that a call costs one load while no scope is open.
    open: AtomicUsize,
    of_all_threads: List,
    of_one_thread: Box<[List]>,
}

/// Aligned to two cache lines, because some processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct List {
    /// The number of the entries.
    open: AtomicUsize,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    id: usize,
    thread: Option<ThreadId>,
    counts: Counts,
}

impl Scopes {
    pub(super) fn new() -> Self {
        let of_one_thread = (0..LISTS).map(|_| List::default()).collect();
        Self { open: AtomicUsize::new(0), of_all_threads: List::default(), of_one_thread }
    }

    pub(super) fn begin(&self, thread: Option<ThreadId>) -> Scope<'_> {
        let list = thread.map_or(&self.of_all_threads, |thread| self.of_thread(thread));
        let id = list.change(|entries| {
            let id = entries.last().map_or(0, |last| last.id + 1);
            entries.push(Entry { id, thread, counts: Counts::default() });
            id
        });
        self.open.fetch_add(1, Relaxed);
        Scope { scopes: self, list, id }
    }

    /// Applies `change` to the counts of every open scope that counts the calling thread.
    #[inline]
    pub(super) fn each(&self, change: impl Fn(&mut Counts)) {
        if self.open.load(Relaxed) > 0 {
            self.each_open(change);
        }
    }

    #[cold]
    fn each_open(&self, change: impl Fn(&mut Counts)) {
        let caller = thread::current().id();
        for list in [&self.of_all_threads, self.of_thread(caller)] {
            if list.open.load(Relaxed) > 0 {
                let mut entries = list.lock();
                entries.iter_mut().filter(|e| e.thread.is_none_or(|t| t == caller)).for_each(|e| change(&mut e.counts));
            }
        }
    }

    /// Returns the list for the scopes of a thread. Threads may share a list.
    fn of_thread(&self, thread: ThreadId) -> &List {
        let mut hasher = DefaultHasher::new();
        thread.hash(&mut hasher);
        &self.of_one_thread[hasher.finish() as usize % LISTS]
    }
}

impl List {
    /// Adds or removes an entry.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        let mut entries = self.lock();
        let result = change(&mut entries);
        self.open.store(entries.len(), Relaxed);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A count from its beginning until it is dropped. Other scopes may begin and end meanwhile, in any order.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).statistics();
/// let outer = memory.state().scope();
/// let inner = memory.state().scope();
/// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &memory)?;
/// assert_eq!(inner.end().peak_bytes, 1000);
/// assert_eq!(outer.counts().current_blocks, 1); // goes on counting
/// # Ok(())
/// # }
/// ```
#[must_use = "counts until it goes"]
pub struct Scope<'a> {
    scopes: &'a Scopes,
    list: &'a List,
    id: usize,
}

impl Scope<'_> {
    /// Returns the counts so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).statistics();
    /// let _before = Buffer::<u8, _>::zeroed(4096, &stream, &stack)?;
    /// let scope = stack.state().scope();
    /// let _within = Buffer::<u8, _>::zeroed(1024, &stream, &stack)?;
    /// assert_eq!(scope.counts().current_bytes, 1024);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn counts(&self) -> Counts {
        let entries = self.list.lock();
        entries.iter().find(|entry| entry.id == self.id).map(|entry| entry.counts).unwrap_or_default()
    }

    /// Ends the scope and returns its counts.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).statistics();
    /// let scope = stack.state().scope();
    /// drop(Buffer::<u8, _>::zeroed(1024, &stream, &stack)?);
    /// assert_eq!(scope.end().peak_bytes, 1024);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn end(self) -> Counts {
        self.counts()
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.list.change(|entries| entries.retain(|entry| entry.id != self.id));
        self.scopes.open.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.counts()).finish()
    }
}
