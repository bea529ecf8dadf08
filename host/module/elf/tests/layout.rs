//! Random lists of segments against a second, slower way to lay them out.

use std::collections::BTreeMap;

use object::elf;
use proptest::prelude::*;

use super::super::{FILLER, Image, SegmentProtection};
use super::load_checked;
use super::writer::{Elf, Header, R, RW, RX};

const PAGE: u64 = 4096;

/// Pages, each with the flags of the loads that touch it and all of its bytes.
type Pages = BTreeMap<u64, (u32, Vec<u8>)>;

/// A load to come: the gap before it, flags, bytes in the file, zeroed bytes after them.
type Step = (u64, u32, u64, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = prop_oneof![Just(0), 1..64_u64, Just(PAGE), 1..3 * PAGE];
    let step = (
        small.clone(),
        prop_oneof![Just(R), Just(RW), Just(RX)],
        small.clone(),
        small,
    );
    prop::collection::vec(step, 1..12)
}

/// The file that has these loads one after the other, after a page of code for the entry.
fn file_of(steps: &[Step]) -> Elf {
    let mut headers = vec![Header::load(RX, PAGE, 0x1_0000, 16)];
    let mut address = 0x1_1000;
    let mut before = RX;
    let mut offset = 2 * PAGE;
    for &(gap, flags, bytes, zeroed) in steps {
        address += gap;
        if flags != before {
            address = address.next_multiple_of(PAGE) + gap % PAGE;
        }
        before = flags;
        offset = offset.next_multiple_of(PAGE) + address % PAGE;
        let zeroed = if flags == RX { 0 } else { zeroed };
        let load = Header::load(flags, offset, address, bytes).memory(bytes + zeroed);
        headers.push(load);
        address += bytes + zeroed;
        offset += bytes;
    }
    let length = usize::try_from(offset).unwrap();
    let pattern = |at: usize| u8::try_from(at % 251).unwrap();
    Elf {
        file_type: elf::ET_EXEC,
        entry: 0x1_0000,
        chunks: vec![(0x1000, (0x1000..length).map(pattern).collect())],
        headers,
        length,
    }
}

/// Byte by byte, page by page.
fn pages_of(file: &[u8], loads: &[Header]) -> Pages {
    let mut pages = Pages::new();
    for load in loads {
        let filler = if load.flags == RX { FILLER } else { 0 };
        for index in 0..load.memory_bytes {
            let address = load.address + index;
            let (flags, bytes) = pages
                .entry(address / PAGE)
                .or_insert_with(|| (load.flags, vec![filler; 4096]));
            assert_eq!(*flags, load.flags);
            if index < load.file_bytes {
                let from = usize::try_from(load.offset + index).unwrap();
                bytes[usize::try_from(address % PAGE).unwrap()] = file[from];
            }
        }
    }
    pages
}

fn pages_in(image: &Image) -> Pages {
    let mut pages = Pages::new();
    for segment in &image.segments {
        let flags = match segment.protection {
            SegmentProtection::Read => R,
            SegmentProtection::ReadWrite => RW,
            SegmentProtection::ReadExecute => RX,
        };
        let mut contents = segment.contents.clone();
        contents.resize(usize::try_from(segment.length).unwrap(), 0);
        for (index, bytes) in contents.chunks_exact(4096).enumerate() {
            let page = segment.address / PAGE + index as u64;
            let twice = pages.insert(page, (flags, bytes.to_vec()));
            assert_eq!(twice, None);
        }
    }
    pages
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_are_what_the_loads_say(steps in steps()) {
        let elf = file_of(&steps);
        let file = elf.write();
        let image = load_checked(&file).unwrap();
        prop_assert!(pages_in(&image) == pages_of(&file, &elf.headers), "{:x?}", elf.headers);
    }
}
