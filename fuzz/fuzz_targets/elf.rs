//! The ELF loader against any bytes: it must neither panic nor break a promise of its image.
//!
//! `cargo fuzz` builds with debug assertions, with which the loader checks its own result. With
//! seeds, from the root of the repository:
//!
//! ```text
//! CELLWALL_ELF_SEEDS=$PWD/fuzz/corpus/elf cargo test --lib seeds_are_good_files
//! cargo +nightly fuzz run elf -- -max_len=4096 -max_total_time=600
//! ```
//!
//! A file that it finds goes to `fuzz/regressions/elf/` in hexadecimal (`xxd -p`), with a comment
//! that says what it did; `cargo test` replays it from then on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if let Ok(image) = cellwall::elf::load(file) {
        // What a caller does first: all of it must be there and in order.
        let mut end = 0;
        for segment in &image.segments {
            assert!(segment.address >= end && segment.contents.len() as u64 <= segment.length);
            end = segment.end();
        }
        assert_eq!(image.end(), end);
    }
});
