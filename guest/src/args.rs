//! The arguments that the host started the guest with.

/// The arguments, in order, without a program name. They need not be UTF-8.
#[derive(Clone, Debug)]
pub struct Args {
    /// NUL-terminated strings, one after the other.
    block: &'static [u8],
}

impl Args {
    pub(crate) fn new(block: &'static [u8]) -> Self {
        Self { block }
    }
}

impl Iterator for Args {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.block.iter().position(|&byte| byte == 0)?;
        let (arg, rest) = self.block.split_at(end);
        self.block = &rest[1..];
        Some(arg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn splits_at_every_nul() {
        let args: Vec<&[u8]> = Args::new(b"one\0\0three\0").collect();
        assert_eq!(args, [&b"one"[..], b"", b"three"]);
        assert_eq!(Args::new(b"").next(), None);
        assert_eq!(Args::new(b"unterminated").next(), None);
    }
}
