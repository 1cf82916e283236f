//! The log format: a header, and rows.

use crate::error::Malformed;

/// The columns that a replay needs, in the order in which [`Header`] keeps them. `Time` is not read.
const COLUMNS: [&str; 5] = ["Thread", "Action", "Pointer", "Size", "Stream"];

/// The positions of the columns.
#[derive(Debug)]
pub(crate) struct Header {
    columns: usize,
    places: [usize; 5],
}

impl Header {
    pub(crate) fn parse(line: &str) -> Result<Self, Malformed> {
        let mut places = [0; 5];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            let found = line.split(',').position(|name| name.trim() == column);
            *place = found.ok_or(Malformed::MissingColumn { column })?;
        }
        Ok(Self { columns: line.split(',').count(), places })
    }

    pub(crate) fn row(&self, line: &str) -> Result<Row, Malformed> {
        let mut fields = [""; 5];
        let mut found = 0;
        for field in line.split(',') {
            if let Some(wanted) = self.places.iter().position(|&place| place == found) {
                fields[wanted] = field.trim();
            }
            found += 1;
        }
        if found != self.columns {
            return Err(Malformed::Columns { expected: self.columns, found });
        }
        let [thread, action, pointer, size, stream] = fields;
        Ok(Row {
            action: Action::parse(action)?,
            thread: number(thread).ok_or_else(|| bad("Thread", "a number", thread))?,
            pointer: address(pointer).ok_or_else(|| bad("Pointer", "a hexadecimal address or (nil)", pointer))?,
            size: digits(size, 10).ok_or_else(|| bad("Size", "a number of bytes", size))?,
            stream: number(stream).ok_or_else(|| bad("Stream", "a decimal or 0x-hexadecimal number", stream))?,
        })
    }
}

/// One logged call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) action: Action,
    pub(crate) thread: u64,
    pub(crate) pointer: u64,
    pub(crate) size: u64,
    pub(crate) stream: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Allocate,
    Free,
    /// An allocation that failed when the log was written.
    Failure,
}

impl Action {
    fn parse(text: &str) -> Result<Self, Malformed> {
        match text {
            "allocate" => Ok(Self::Allocate),
            "free" => Ok(Self::Free),
            "allocate failure" => Ok(Self::Failure),
            _ => Err(Malformed::Action { found: text.into() }),
        }
    }
}

#[cold]
fn bad(column: &'static str, expected: &'static str, found: &str) -> Malformed {
    Malformed::Field { column, expected, found: found.into() }
}

/// Parses a pointer: `(nil)`, or hexadecimal with or without `0x`.
fn address(text: &str) -> Option<u64> {
    if text == "(nil)" {
        return Some(0);
    }
    digits(text.strip_prefix("0x").unwrap_or(text), 16)
}

/// Parses a thread or stream: decimal, hexadecimal with `0x`, or `(nil)` for a null handle.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => digits(hexadecimal, 16),
        None if text == "(nil)" => Some(0),
        None => digits(text, 10),
    }
}

/// Parses digits without a sign. The standard library would accept a `+`.
fn digits(text: &str, radix: u32) -> Option<u64> {
    if text.starts_with('+') { None } else { u64::from_str_radix(text, radix).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_time_formats_and_all_spellings_of_numbers() {
        let header = Header::parse("Thread,Time,Action,Pointer,Size,Stream").unwrap();
        for line in [
            "1,23:36:25:527478,allocate,0x7f00,512,16",
            "1,23:36:25.527478,allocate,7f00,512,0x10",
            " 0x1 ,,allocate, 0x7F00 ,512, 0x10 ",
        ] {
            let expected = Row { action: Action::Allocate, thread: 1, pointer: 0x7f00, size: 512, stream: 16 };
            assert_eq!(header.row(line), Ok(expected), "{line}");
        }
        let row = header.row("1,t,free,(nil),0,(nil)").unwrap();
        assert_eq!((row.action, row.pointer, row.stream), (Action::Free, 0, 0));
    }

    #[test]
    fn columns_are_found_by_name() {
        let header = Header::parse("Stream, Size,Pointer,Note,Action,Thread").unwrap();
        let row = header.row("3,8,0x10,anything,allocate failure,7").unwrap();
        assert_eq!(row, Row { action: Action::Failure, thread: 7, pointer: 0x10, size: 8, stream: 3 });
        assert_eq!(
            Header::parse("Thread,Time,Action,Pointer,Size").unwrap_err(),
            Malformed::MissingColumn { column: "Stream" }
        );
    }

    #[test]
    fn an_invalid_row_is_an_error_with_its_reason() {
        let header = Header::parse("Thread,Time,Action,Pointer,Size,Stream").unwrap();
        for (line, message) in [
            ("1,t,allocate,0x10,8", "expected 6 columns as in the header, found 5"),
            ("1,t,allocate,0x10,8,0,0", "expected 6 columns as in the header, found 7"),
            ("1,t,realloc,0x10,8,0", "expected the action `allocate`, `free` or `allocate failure`, found `realloc`"),
            ("1,t,free,zzz,8,0", "expected a hexadecimal address or (nil) in column Pointer, found `zzz`"),
            ("1,t,free,0x10,-8,0", "expected a number of bytes in column Size, found `-8`"),
            ("1,t,free,0x10,8,ff", "expected a decimal or 0x-hexadecimal number in column Stream, found `ff`"),
            ("x,t,free,0x10,8,0", "expected a number in column Thread, found `x`"),
            ("1,t,free,0x,8,0", "expected a hexadecimal address or (nil) in column Pointer, found `0x`"),
        ] {
            assert_eq!(header.row(line).unwrap_err().to_string(), message);
        }
    }
}
