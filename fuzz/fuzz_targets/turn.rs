//! The host's side of the conversation against any script of lies: it must neither panic nor hang
//! nor believe what is not legal.
//!
//! `host/turn/hostile/script.rs` says what the bytes mean. From the root of the repository:
//!
//! ```text
//! cargo +nightly fuzz run turn -- -max_len=512 -max_total_time=600
//! ```
//!
//! A script that it finds goes to `fuzz/regressions/turn/` in hexadecimal (`xxd -p -c1`), with a
//! comment that says what it did; `cargo test` replays it from then on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| cellwall::fuzzing::conversation(script));
