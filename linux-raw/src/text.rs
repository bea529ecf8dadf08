//! Short text built on the stack: paths and id-map lines, where nothing may allocate.

use core::ffi::CStr;

/// Up to `N - 1` bytes, always followed by a NUL. What does not fit is dropped and remembered.
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
    overflowed: bool,
}

impl<const N: usize> Text<N> {
    /// No text yet.
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
            overflowed: false,
        }
    }

    /// Appends bytes.
    pub(crate) fn push(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            match self.bytes.get_mut(self.length) {
                Some(slot) if self.length + 1 < N => {
                    *slot = byte;
                    self.length += 1;
                }
                _ => self.overflowed = true,
            }
        }
        self
    }

    /// Appends a number in decimal.
    pub(crate) fn push_number(self, number: u32) -> Self {
        let mut digits = [b'0'; 10];
        let mut first = digits.len();
        let mut rest = number;
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            let [low, ..] = (rest % 10).to_le_bytes();
            *digit += low;
            rest /= 10;
            first = place;
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(first..).unwrap_or_default())
    }

    /// The text without its NUL, or `None` if some of it did not fit.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        if self.overflowed {
            return None;
        }
        self.bytes.get(..self.length)
    }

    /// The text as a C string, or `None` if some of it did not fit.
    pub(crate) fn c_str(&self) -> Option<&CStr> {
        if self.overflowed {
            return None;
        }
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn numbers_and_overflow() {
        let text = Text::<32>::new().push(b"/fd/").push_number(0);
        assert_eq!(text.bytes(), Some(&b"/fd/0"[..]));
        let text = Text::<11>::new().push_number(u32::MAX);
        assert_eq!(text.c_str(), Some(c"4294967295"));
        assert_eq!(Text::<10>::new().push_number(u32::MAX).bytes(), None);
        assert_eq!(
            Text::<8>::new().push_number(1000).bytes(),
            Some(&b"1000"[..])
        );
    }
}
