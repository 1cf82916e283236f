//! [`Row`]: one logged call, and its text in RMM's format.
#![forbid(unsafe_code)]

use super::clock::TimeOfDay;

/// The first line of a log.
pub(super) const HEADER: &str = "Thread,Time,Action,Pointer,Size,Stream\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    // First, because a free and the next allocation of the same memory may have one time.
    Free,
    Allocate,
    Failure,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Allocate => "allocate",
            Self::Failure => "allocate failure",
        }
    }
}

/// One logged call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Nanoseconds since the log began.
    pub(super) time: u64,
    pub(super) pointer: u64,
    pub(super) size: u64,
    pub(super) stream: u64,
    pub(super) thread: u32,
    pub(super) action: Action,
}

impl Row {
    /// The order of rows in a log. Rows of one thread have different times.
    pub(super) fn order(&self) -> (u64, Action) {
        (self.time, self.action)
    }

    /// Appends the line of the row.
    pub(super) fn write(&self, text: &mut Vec<u8>, clock: &mut TimeOfDay) {
        decimal(text, u64::from(self.thread));
        text.push(b',');
        text.extend_from_slice(&clock.text(self.time));
        text.push(b',');
        text.extend_from_slice(self.action.as_str().as_bytes());
        text.push(b',');
        address(text, self.pointer);
        text.push(b',');
        decimal(text, self.size);
        text.push(b',');
        address(text, self.stream);
        text.push(b'\n');
    }
}

/// Appends a decimal number. The standard library's formatting takes most of the time of a row.
fn decimal(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[first..]);
}

/// Appends a pointer as C's `%p` prints it.
fn address(text: &mut Vec<u8>, address: u64) {
    if address == 0 {
        text.extend_from_slice(b"(nil)");
        return;
    }
    text.extend_from_slice(b"0x");
    let digits = (u64::BITS - address.leading_zeros()).div_ceil(4);
    text.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[(address >> (4 * digit)) as usize & 0xf]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_text_of_rmm() {
        let mut text = Vec::new();
        let mut clock = TimeOfDay::at(23 * 3600 + 36 * 60 + 25);
        let row = Row {
            time: 527_478_900,
            pointer: 0x7f00_1200,
            size: 512,
            stream: 0,
            thread: 4711,
            action: Action::Allocate,
        };
        row.write(&mut text, &mut clock);
        Row { action: Action::Failure, pointer: 0, stream: 2, ..row }.write(&mut text, &mut clock);
        Row { action: Action::Free, time: 2_000_000_000, ..row }.write(&mut text, &mut clock);
        let expected = "4711,23:36:25.527478,allocate,0x7f001200,512,(nil)\n\
                        4711,23:36:25.527478,allocate failure,(nil),512,0x2\n\
                        4711,23:36:27.000000,free,0x7f001200,512,(nil)\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for shift in 0..64 {
            for number in [1 << shift, (1 << shift) - 1, u64::MAX >> shift, 10_u64.pow(shift % 20)] {
                let (mut digits, mut pointer) = (Vec::new(), Vec::new());
                decimal(&mut digits, number);
                address(&mut pointer, number);
                assert_eq!(String::from_utf8(digits).unwrap(), number.to_string());
                let expected = if number == 0 { "(nil)".into() } else { format!("{number:#x}") };
                assert_eq!(String::from_utf8(pointer).unwrap(), expected);
            }
        }
    }
}
