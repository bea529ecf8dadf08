//! Text of bounded length, made without a heap: a panic may be about the heap.

use core::fmt;

/// The most bytes that are kept; the rest is cut.
const BYTES_MAX: usize = 1024;

pub(crate) struct Message {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl Message {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; BYTES_MAX],
            length: 0,
        }
    }

    pub(crate) fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        // Only whole characters were put in.
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = BYTES_MAX - self.length;
        let fits = text.floor_char_boundary(room);
        let end = self.length + fits;
        if let Some(free) = self.bytes.get_mut(self.length..end) {
            free.copy_from_slice(&text.as_bytes()[..fits]);
            self.length = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write as _;

    #[test]
    fn keeps_whole_characters_up_to_the_limit() {
        let mut message = Message::new();
        for _ in 0..BYTES_MAX / 3 + 1 {
            message.write_str("\u{20ac}").unwrap();
        }
        assert_eq!(message.text().chars().count(), BYTES_MAX / 3);
        assert!(message.text().chars().all(|c| c == '\u{20ac}'));
    }
}
