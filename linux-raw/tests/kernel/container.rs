//! What a container engine's default profile does to `clone3` and `clone`
//! (<https://docs.docker.com/engine/security/seccomp/>): `clone3` is hidden, so that programs fall
//! back on `clone`, whose flags a filter can see.
//!
//! One file for this crate's own tests, those on a kernel, and `xtask`; each brings its imports.

use super::{Cond, Errno, Is, Refusal, nr};

pub(super) const NO_CLONE3: Refusal = Refusal {
    call: nr::CLONE3,
    when: &[],
    errno: Errno::ENOSYS,
};

pub(super) const NO_NAMESPACES: Refusal = Refusal {
    call: nr::CLONE,
    when: &[Cond {
        arg: 0,
        is: Is::AnyBit(0x7e02_0000), // `CLONE_NEW*`, all of them
    }],
    errno: Errno::EPERM,
};
