//! [`SpecError`]: the word of a description that is wrong, and the reason.

use cumem::error::ErrorReport;
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// An error in the description of a stack. `Display` prints several lines, with the wrong word marked. `Debug` prints
/// the same and the cause, so that a `main` that returns the error prints it for people.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::StackSpec;
///
/// let error = StackSpec::parse("managed | prefetch | statistics").unwrap_err();
/// assert_eq!(error.message(), "`prefetch` cannot be the upstream of an adaptor");
/// assert_eq!(error.span(), 10..18);
/// assert_eq!(
///     error.to_string(),
///     "\
/// `prefetch` cannot be the upstream of an adaptor
///   managed | prefetch | statistics
///             ^^^^^^^^ not an `Upstream`
///   note: an adaptor that must be outermost, such as `prefetch`, is applied last"
/// );
/// ```
#[derive(Clone)]
pub struct SpecError {
    text: String,
    span: Range<usize>,
    message: String,
    label: &'static str,
    note: Option<String>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl SpecError {
    pub(super) fn new(text: &str, span: Range<usize>, message: impl Into<String>, label: &'static str) -> Self {
        Self { text: text.into(), span, message: message.into(), label, note: None, source: None }
    }

    /// Creates the error of a layer that could not be created because of `source`.
    pub(super) fn refused(text: &str, span: Range<usize>, source: impl Error + Send + Sync + 'static) -> Self {
        let message = format!("`{}` could not be created", &text[span.clone()]);
        let error = Self::new(text, span, message, "this layer");
        Self { source: Some(Arc::new(source)), ..error }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Returns the reason, in one line.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::StackSpec;
    /// let error = StackSpec::parse("managed | limit").unwrap_err();
    /// assert_eq!(error.message(), "`limit` takes one size: `limit(80%)`");
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the range of the wrong word, in bytes of the text that was parsed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::StackSpec;
    /// let text = "managed | limit";
    /// assert_eq!(&text[StackSpec::parse(text).unwrap_err().span()], "limit");
    /// ```
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns the error and its causes, joined by `: `.
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excerpt { line, column, width } = Excerpt::of(&self.text, &self.span);
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {line}")?;
        write!(f, "  {:column$}{:^<width$} {}", "", "", self.label)?;
        match &self.note {
            Some(note) => write!(f, "\n  note: {note}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.report(), f)
    }
}

impl Error for SpecError {
    /// Returns the error of the layer that could not be created, for example a [`PoolError`](crate::PoolError).
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// The text around a range in one line, so that a mark can stand directly below the range.
struct Excerpt {
    line: String,
    /// The first marked character of the line, and the number of marked characters.
    column: usize,
    width: usize,
}

impl Excerpt {
    /// The number of characters that are shown before the marked ones, and after their start.
    const BEFORE: usize = 60;
    const AFTER: usize = 100;

    fn of(text: &str, span: &Range<usize>) -> Self {
        let line = one_line(text);
        let column = one_line(&text[..span.start]).chars().count();
        let width = one_line(&text[span.clone()]).chars().count().max(1);
        let first = if column > 2 * Self::BEFORE { column - Self::BEFORE } else { 0 };
        let mut rest = line.trim_end().chars().skip(first);
        let shown: String = rest.by_ref().take(column - first + Self::AFTER).collect();
        let [before, after] = [first > 0, rest.next().is_some()].map(|cut| if cut { "..." } else { "" });
        Self {
            line: format!("{before}{shown}{after}"),
            column: before.len() + column - first,
            width: width.min(Self::AFTER),
        }
    }
}

/// Returns `text` without white space at its beginning, and with one space for each other run of white space.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_whitespace() {
            false => line.push(c),
            true if line.is_empty() || line.ends_with(' ') => {}
            true => line.push(' '),
        }
    }
    line
}
