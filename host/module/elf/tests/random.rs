//! Random and spoilt files: whatever they say, an image with all promises kept or an error.
//!
//! `PROPTEST_CASES=1000000 cargo test elf::tests::random` looks longer.

use proptest::prelude::*;

use super::load_checked;
use super::writer::{executable, static_pie};

/// One change to a file.
#[derive(Clone, Debug)]
enum Change {
    /// Flips a bit, anywhere.
    Flip(prop::sample::Index, u8),
    /// Puts an edge value of a width of 1, 2, 4 or 8 bytes where a field of that width may be.
    Edge(prop::sample::Index, u32, u64),
    /// Adds a small number to a word.
    Nudge(prop::sample::Index, i8),
    /// Copies 8 bytes from elsewhere in the file.
    Copy(prop::sample::Index, prop::sample::Index),
    /// Swaps two program headers.
    Swap(prop::sample::Index, prop::sample::Index),
    /// Cuts the end off.
    Cut(prop::sample::Index),
}

fn edge() -> impl Strategy<Value = u64> {
    let edges = vec![
        0,
        1,
        2,
        4,
        5,
        6,
        7,
        8,
        24,
        37,
        0xff,
        0xfff,
        0x1000,
        0x1001,
        0x2000,
        0xffff,
        0x1_0000,
        0x40_0000,
        0x4000_0000,
        0x7fff_ffff,
        0xffff_f000,
        0xffff_ffff,
        0x1_0000_0000,
        1 << 47,
        i64::MAX as u64,
        1 << 63,
        u64::MAX - 0x40_0000,
        u64::MAX - 0xfff,
        u64::MAX,
        0x6474_e550,
        0x6474_e551,
        0x6474_e552,
        0x6fff_fffb,
    ];
    prop_oneof![prop::sample::select(edges), 0..0x6000_u64, any::<u64>()]
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (index(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        6 => (index(), 0..4_u32, edge()).prop_map(|(at, width, to)| Change::Edge(at, width, to)),
        3 => (index(), any::<i8>()).prop_map(|(at, by)| Change::Nudge(at, by)),
        1 => (index(), index()).prop_map(|(from, to)| Change::Copy(from, to)),
        1 => (index(), index()).prop_map(|(one, other)| Change::Swap(one, other)),
        1 => index().prop_map(Change::Cut),
    ]
}

fn spoil(file: &mut Vec<u8>, headers: usize, change: &Change) {
    if file.len() < 64 + 56 * headers {
        return;
    }
    let word_at = |at: &prop::sample::Index, length: usize| at.index(length / 8 - 1) * 8;
    match change {
        Change::Flip(at, bit) => {
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
        }
        Change::Edge(at, width, to) => {
            let bytes = 1 << width;
            let at = at.index(file.len() / bytes) * bytes;
            file[at..at + bytes].copy_from_slice(&to.to_le_bytes()[..bytes]);
        }
        Change::Nudge(at, by) => {
            let at = word_at(at, file.len());
            let word = &mut file[at..at + 8];
            let old = u64::from_le_bytes(word.try_into().unwrap());
            word.copy_from_slice(&old.wrapping_add_signed(i64::from(*by)).to_le_bytes());
        }
        Change::Copy(from, to) => {
            let from = word_at(from, file.len());
            let to = word_at(to, file.len());
            file.copy_within(from..from + 8, to);
        }
        Change::Swap(one, other) => {
            let (one, other) = (one.index(headers), other.index(headers));
            for at in 64..64 + 56 {
                file.swap(at + 56 * one, at + 56 * other);
            }
        }
        Change::Cut(at) => file.truncate(at.index(file.len())),
    }
}

proptest! {
    // Failures are kept as files of fuzz/regressions, not as seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(file in prop::collection::vec(any::<u8>(), 0..1024)) {
        let _ = load_checked(&file);
    }

    #[test]
    fn random_bytes_after_a_good_start(
        kept in 0..0x140_usize,
        rest in prop::collection::vec(any::<u8>(), 0..1024),
        pie in any::<bool>(),
    ) {
        let elf = if pie { static_pie() } else { executable() };
        let mut file = elf.write();
        file.truncate(kept);
        file.extend(rest);
        let _ = load_checked(&file);
    }

    #[test]
    fn spoilt_files(changes in prop::collection::vec(change(), 1..6), pie in any::<bool>()) {
        let elf = if pie { static_pie() } else { executable() };
        let mut file = elf.write();
        for change in &changes {
            spoil(&mut file, elf.headers.len(), change);
        }
        let _ = load_checked(&file);
    }
}
