#![expect(unsafe_code, reason = "walks the stack that the kernel built")]
//! The initial stack of a program: arguments, environment, auxiliary vector.

use core::ffi::{CStr, c_char};

/// Keys of the auxiliary vector.
pub mod key {
    use linux_raw_sys::auxvec as sys;

    /// The end.
    pub const NULL: u64 = sys::AT_NULL as u64;
    /// More of what the CPU has: [`hwcap2`](super::hwcap2), on x86.
    pub const HWCAP2: u64 = sys::AT_HWCAP2 as u64;
    /// The smallest alternate signal stack, in bytes. Since Linux 5.14 on x86.
    pub const MINSIGSTKSZ: u64 = sys::AT_MINSIGSTKSZ as u64;
}

/// Bits of [`key::HWCAP2`] on x86 (arch/x86/include/uapi/asm/hwcap2.h).
pub mod hwcap2 {
    /// Programs set the bases of `fs` and `gs` (`HWCAP2_FSGSBASE`). Since Linux 5.9.
    pub const FSGSBASE: u64 = 1 << 1;
}

/// The stack as the kernel leaves it at a program's entry.
#[derive(Clone, Copy, Debug)]
pub struct InitialStack {
    argc: usize,
    argv: *const *const c_char,
}

impl InitialStack {
    /// The stack that begins at `sp`, the stack pointer at entry.
    ///
    /// # Safety
    ///
    /// `sp` must be that pointer, and the stack above it must stay as the kernel built it while
    /// this value or anything it gave out is in use.
    #[must_use]
    pub const unsafe fn new(sp: *const usize) -> Self {
        // SAFETY: the first word of the initial stack is the number of arguments.
        let argc = unsafe { sp.read() };
        // SAFETY: at least the null pointers of two lists follow that word.
        let argv = unsafe { sp.add(1) }.cast();
        Self { argc, argv }
    }

    /// How many arguments.
    #[must_use]
    pub const fn argc(&self) -> usize {
        self.argc
    }

    /// The arguments.
    pub fn args(&self) -> Strings {
        Strings { next: self.argv }
    }

    /// The environment, `NAME=value` each.
    pub fn env(&self) -> Strings {
        // SAFETY: the environment begins after the arguments and their null pointer.
        let next = unsafe { self.argv.add(self.argc + 1) };
        Strings { next }
    }

    /// The auxiliary vector: [`key`]s and values.
    pub fn auxv(&self) -> Auxv {
        let mut strings = self.env();
        while strings.next().is_some() {}
        // SAFETY: the vector begins after the environment's null pointer, where `next` stopped.
        let next = unsafe { strings.next.add(1) }.cast();
        Auxv { next }
    }

    /// The value of one key of the auxiliary vector.
    #[must_use]
    pub fn value(&self, key: u64) -> Option<u64> {
        self.auxv()
            .find_map(|(found, value)| (found == key).then_some(value))
    }
}

/// A list of C strings that ends with a null pointer.
#[derive(Clone, Debug)]
pub struct Strings {
    next: *const *const c_char,
}

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: `next` is at an entry or at the null pointer: it never moves past the latter.
        let entry = unsafe { self.next.read() };
        if entry.is_null() {
            return None;
        }
        // SAFETY: after an entry there is another or the null pointer.
        self.next = unsafe { self.next.add(1) };
        // SAFETY: entries are C strings that live as long as the stack, by the contract of `new`.
        Some(unsafe { CStr::from_ptr(entry) })
    }
}

/// The auxiliary vector's entries, without the end.
#[derive(Clone, Debug)]
pub struct Auxv {
    next: *const [u64; 2],
}

impl Iterator for Auxv {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: `next` is at an entry or at the end: it never moves past the latter.
        let [key, value] = unsafe { self.next.read() };
        if key == key::NULL {
            return None;
        }
        // SAFETY: after an entry there is another or the end.
        self.next = unsafe { self.next.add(1) };
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::{InitialStack, key};

    #[test]
    fn walks_a_stack() {
        let (first, second, home) = (c"cell", c"-v", c"HOME=/");
        let stack = [
            2,
            first.as_ptr().expose_provenance(),
            second.as_ptr().expose_provenance(),
            0,
            home.as_ptr().expose_provenance(),
            0,
            6,
            4096,
            51,
            3376,
            0,
            0,
        ];
        // SAFETY: the array is laid out as the kernel does it, and outlives the value.
        let stack = unsafe { InitialStack::new(stack.as_ptr()) };
        assert_eq!(stack.argc(), 2);
        assert!(stack.args().eq([first, second]));
        assert!(stack.env().eq([home]));
        assert!(stack.auxv().eq([(6, 4096), (51, 3376)]));
        assert_eq!(stack.value(key::MINSIGSTKSZ), Some(3376));
        assert_eq!(stack.value(key::NULL), None);
    }
}
