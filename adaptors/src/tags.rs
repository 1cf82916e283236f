//! Tags: names that a thread gives to the memory that it allocates.
//!
//! A [`Tracking`](crate::Tracking) adaptor records the tag of each block. The name of a [`Tagged`](crate::Tagged) adaptor is something else: it
//! names all memory of a stack in a migration ledger.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

thread_local! {
    static OPEN: RefCell<Vec<(u64, Arc<str>)>> = const { RefCell::new(Vec::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Gives `name` to the memory that the calling thread allocates until the result is dropped. Inside another tag, the
/// inner one counts. A thread that is started meanwhile has no tag.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::tags::{self, tag};
///
/// let _model = tag("model");
/// {
///     let _weights = tag("weights");
///     assert_eq!(tags::current().as_deref(), Some("weights"));
/// }
/// assert_eq!(tags::current().as_deref(), Some("model"));
/// ```
pub fn tag(name: impl Into<Arc<str>>) -> TagScope {
    let id = NEXT.replace(NEXT.get() + 1);
    // While the thread ends, its list may already be dropped.
    let _ = OPEN.try_with(|open| open.borrow_mut().push((id, name.into())));
    TagScope { id, _of_this_thread: PhantomData }
}

/// Returns the tag of the calling thread.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::tags::{self, tag};
///
/// assert_eq!(tags::current(), None);
/// let _tag = tag("weights");
/// assert_eq!(tags::current().as_deref(), Some("weights"));
/// ```
#[inline]
pub fn current() -> Option<Arc<str>> {
    OPEN.try_with(|open| open.borrow().last().map(|(_, name)| Arc::clone(name))).ok().flatten()
}

/// A guard that ends a tag when it is dropped. [`tag`] returns it.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::tags::{self, TagScope, tag};
///
/// let scope: TagScope = tag("weights");
/// drop(scope);
/// assert_eq!(tags::current(), None);
/// ```
#[derive(Debug)]
#[must_use = "the tag ends as soon as this guard is dropped"]
pub struct TagScope {
    id: u64,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for TagScope {
    fn drop(&mut self) {
        // Guards may be dropped in any order.
        let _ = OPEN.try_with(|open| open.borrow_mut().retain(|(id, _)| *id != self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_end_in_any_order_and_belong_to_their_thread() {
        assert_eq!(current(), None);
        let outer = tag("outer");
        let inner = tag(String::from("inner"));
        assert_eq!(std::thread::scope(|scope| scope.spawn(current).join().unwrap()), None);
        drop(outer);
        assert_eq!(current().as_deref(), Some("inner"));
        drop(inner);
        assert_eq!(current(), None);
    }
}
