//! [`CustomError`]: the cause of an error of a resource outside of this library.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ops::Deref;
use std::sync::Arc;

/// An error of any type, as the cause of [`AllocError::Custom`](crate::AllocError::Custom) or
/// [`DeallocReason::Custom`](crate::error::DeallocReason::Custom).
///
/// It dereferences to the error, whose type can be found with `downcast_ref`. Clones share the error, and only clones are
/// equal.
///
/// # Examples
///
/// ```
/// use cumem::error::CustomError;
/// use std::io;
///
/// let error = CustomError::new(io::Error::from(io::ErrorKind::StorageFull));
/// assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::StorageFull);
/// assert_eq!(error, error.clone());
/// ```
#[derive(Debug, Clone)]
pub struct CustomError(Arc<dyn Error + Send + Sync>);

impl CustomError {
    /// Wraps an error, or a text.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(cumem::error::CustomError::new("the tape is torn").to_string(), "the tape is torn");
    /// ```
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into().into())
    }
}

impl Deref for CustomError {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for CustomError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CustomError {}
