//! The memory functions that compiled code calls without being asked: no libc provides them here.
//!
//! Decoders live on short copies, and a guest has to keep up with the same code on glibc. Up to
//! 128 bytes a copy is two to eight overlapping 16-byte moves without a loop; longer ones loop
//! over aligned stores, and very long ones leave the work to the processor's string instructions,
//! which every processor of the last decade runs at full speed.
//!
//! All are written in assembly: of a loop in Rust the compiler would make a call to the very
//! function that the loop implements. Callers promise what the C standard asks of them: valid for
//! as many bytes as they say, and for `memcpy` no overlap. Ordinary builds compile them for their
//! tests alone, under names that nobody links.

mod compare;
mod copy;
mod fill;

/// From how many bytes on the string instructions beat the loop.
const STRING_BYTES_MIN: usize = 2048;

#[cfg(test)]
mod tests;
