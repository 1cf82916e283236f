//! [`SpecError`]: the word of a description that is wrong, and the reason.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// An error in the description of a stack. `Display` prints several lines, with the wrong word marked.
#[derive(Debug, Clone)]
pub struct SpecError {
    text: String,
    span: Range<usize>,
    message: String,
    label: &'static str,
    note: Option<&'static str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl SpecError {
    pub(super) fn new(text: &str, span: Range<usize>, message: impl Into<String>, label: &'static str) -> Self {
        Self { text: text.into(), span, message: message.into(), label, note: None, source: None }
    }

    /// Creates the error of a layer that could not be created because of `source`.
    pub(super) fn refused(text: &str, span: Range<usize>, source: impl Error + Send + Sync + 'static) -> Self {
        let error = Self::new(text, span, source.to_string(), "could not be made");
        Self { source: Some(Arc::new(source)), ..error }
    }

    pub(super) fn note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    /// Returns the reason, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the range of the wrong word, in bytes of the description.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.text[..self.span.start].chars().count();
        let width = self.text[self.span.clone()].chars().count().max(1);
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {}", self.text)?;
        write!(f, "  {:column$}{:^<width$} {}", "", "", self.label)?;
        match self.note {
            Some(note) => write!(f, "\n  note: {note}"),
            None => Ok(()),
        }
    }
}

impl Error for SpecError {
    /// Returns the error of the layer that could not be created, for example a [`PoolError`](crate::PoolError).
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
