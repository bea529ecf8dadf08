//! Everything that differs between architectures: assembly, signal frames, the audit number.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
mod x86_64_frame;

#[cfg(target_arch = "x86_64")]
pub use {x86_64::*, x86_64_frame::*};

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "Cellwall supports x86_64 only so far; a port begins beside linux-raw/src/arch/x86_64.rs"
);

#[cfg(not(target_os = "linux"))]
compile_error!("Cellwall makes Linux system calls: it cannot be built for another system");

/// Tells the CPU that this is a spin loop.
#[inline]
pub fn pause() {
    core::hint::spin_loop();
}
