#![expect(unsafe_code, reason = "calls the functions under test on slices")]
//! Every size around every limit, at every alignment, against plain Rust.

use std::vec;
use std::vec::Vec;

use super::compare::{bcmp, memcmp, strlen};
use super::copy::{memcpy, memmove};
use super::fill::memset;

/// Around every limit in the code, and some beyond all of them.
fn sizes() -> impl Iterator<Item = usize> {
    (0..300).chain([
        511, 512, 513, 2046, 2047, 2048, 2049, 2112, 4095, 4096, 4097, 10_000,
    ])
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 7 + index / 251 + 1).to_le_bytes()[0])
        .collect()
}

#[test]
fn memcpy_copies_all_and_nothing_else() {
    for size in sizes() {
        for (from, to) in [(0, 0), (1, 0), (0, 1), (3, 13), (15, 9)] {
            let source = pattern(size + 32);
            let mut target = vec![0xee; size + 64];
            let mut expected = target.clone();
            expected[to..to + size].copy_from_slice(&source[from..from + size]);
            let address = target[to..].as_mut_ptr();
            // SAFETY: both vectors have `size` bytes from these places on, and are apart.
            let result = unsafe { memcpy(address, source[from..].as_ptr(), size) };
            assert_eq!(result, address);
            assert!(target == expected, "{size} bytes from {from} to {to}");
        }
    }
}

#[test]
fn memmove_copies_over_itself_in_both_directions() {
    for size in sizes() {
        for distance in [0, 1, 2, 7, 15, 16, 17, 31, 63, 64, 65, 100, 128, 1000, 3000] {
            for (from, to) in [(5, 5 + distance), (5 + distance, 5)] {
                let mut bytes = pattern(size + distance + 64);
                let mut expected = bytes.clone();
                expected.copy_within(from..from + size, to);
                let base = bytes.as_mut_ptr();
                // SAFETY: `from` and `to` lie within the vector.
                let target = unsafe { base.add(to) };
                // SAFETY: as above.
                let source = unsafe { base.add(from) };
                // SAFETY: the vector has `size` bytes from both places on.
                let result = unsafe { memmove(target, source, size) };
                assert_eq!(result, target);
                assert!(bytes == expected, "{size} bytes from {from} to {to}");
            }
        }
    }
}

#[test]
fn memset_fills_all_and_nothing_else() {
    for size in sizes() {
        for to in [0, 1, 7, 15, 16] {
            let mut target = pattern(size + 64);
            let mut expected = target.clone();
            expected[to..to + size].fill(0xa5);
            let address = target[to..].as_mut_ptr();
            // SAFETY: the vector has `size` bytes from there on.
            let result = unsafe { memset(address, 0x7fff_ffa5, size) };
            assert_eq!(result, address);
            assert!(target == expected, "{size} bytes to {to}");
        }
    }
}

#[test]
fn memcmp_orders_as_slices_do() {
    for size in sizes() {
        let one = pattern(size + 1);
        let places = [0, 1, 3, 7, 8, 15, 16, size / 2, size.saturating_sub(1)];
        for place in places.into_iter().filter(|&place| place < size) {
            for change in [1, 0x80, 0xff] {
                let mut other = one.clone();
                other[place] = other[place].wrapping_add(change);
                // What follows the first difference must not matter.
                if place + 1 < size {
                    other[place + 1] = !other[place + 1];
                }
                // SAFETY: both vectors have `size` bytes.
                let order = unsafe { memcmp(one.as_ptr(), other.as_ptr(), size) };
                assert_eq!(
                    order.cmp(&0),
                    one[..size].cmp(&other[..size]),
                    "{size} at {place}"
                );
                // SAFETY: both vectors have `size` bytes.
                assert_ne!(unsafe { bcmp(one.as_ptr(), other.as_ptr(), size) }, 0);
            }
        }
        let mut same = one.clone();
        // Beyond the end.
        same[size] = !same[size];
        // SAFETY: both vectors have `size` bytes.
        assert_eq!(unsafe { memcmp(one.as_ptr(), same.as_ptr(), size) }, 0);
    }
}

#[test]
fn strlen_stops_at_the_first_zero() {
    for size in 0..100 {
        for start in 0..16 {
            let mut text = vec![0; start];
            text.extend(core::iter::repeat_n(b'x', size));
            text.extend([0, b'y', 0]);
            // SAFETY: a zero byte follows within the vector.
            assert_eq!(unsafe { strlen(text[start..].as_ptr()) }, size);
        }
    }
}
