//! Good files: what becomes of them, byte by byte.

use object::elf;

use super::super::{FILLER, LOAD_BIAS, SEGMENTS_MAX, SegmentProtection};
use super::writer::{Dynamic, Elf, Header, R, RW, RX, executable, pie, relative, static_pie};
use super::{load_checked, segment, shape, word};

use SegmentProtection::{Read, ReadExecute, ReadWrite};

#[test]
fn an_executable_lies_where_it_says() {
    let file = executable().write();
    let image = load_checked(&file).unwrap();
    assert_eq!(image.entry, 0x40_1208);
    assert_eq!(
        shape(&image),
        [
            (0x40_0000, 0x1000, Read),
            (0x40_1000, 0x1000, ReadExecute),
            (0x40_2000, 0x4000, ReadWrite),
        ]
    );
    assert_eq!(image.end(), 0x40_6000);
    assert_eq!(image.segments[0].contents, file[..0x200]);
    // The code has filler on both sides, the data zeros, and neither has its neighbours' bytes.
    let code = &image.segments[1].contents;
    assert!(code[..0x200].iter().all(|&byte| byte == FILLER));
    assert_eq!(code[0x200..0x223], [0x90; 0x23]);
    assert!(code[0x223..].iter().all(|&byte| byte == FILLER));
    let data = &image.segments[2].contents;
    assert_eq!(data.len(), 0x280);
    assert_eq!(data[..0x240], [0; 0x240]);
    assert_eq!(data[0x240..], [0xdd; 0x40]);
}

#[test]
fn a_file_may_lie_at_any_address_in_memory() {
    let file = static_pie().write();
    let expected = load_checked(&file);
    assert!(expected.is_ok());
    for shift in 1..16 {
        let mut shifted = vec![0; shift];
        shifted.extend(&file);
        assert_eq!(load_checked(&shifted[shift..]), expected);
    }
}

#[test]
fn a_static_pie_is_placed_and_relocated() {
    let image = load_checked(&static_pie().write()).unwrap();
    assert_eq!(image.entry, LOAD_BIAS + pie::CODE);
    // RELR adds to what is there, in two words; RELA puts its addend, in the third.
    for (at, before) in pie::WORDS.into_iter().enumerate() {
        let at = LOAD_BIAS + pie::DATA + 8 * at as u64;
        assert_eq!(word(&image, at), LOAD_BIAS + before);
    }
    let pointer = word(&image, LOAD_BIAS + pie::DATA + 16);
    assert_eq!(pointer, LOAD_BIAS + pie::CODE);
    assert_eq!(word(&image, LOAD_BIAS + pie::DATA + 24), 0);
    // PT_GNU_RELRO has split the data.
    assert_eq!(
        shape(&image),
        [
            (LOAD_BIAS, 0x1000, Read),
            (LOAD_BIAS + 0x1000, 0x1000, ReadExecute),
            (LOAD_BIAS + 0x2000, 0x1000, Read),
            (LOAD_BIAS + 0x3000, 0x2000, ReadWrite),
        ]
    );
}

#[test]
fn relr_is_applied_before_rela() {
    let dynamic = Dynamic {
        rela: vec![relative(pie::DATA, 5)],
        relr: vec![pie::DATA],
        ..Dynamic::default()
    };
    let image = load_checked(&dynamic.pie().write()).unwrap();
    assert_eq!(word(&image, LOAD_BIAS + pie::DATA), LOAD_BIAS + 5);
}

#[test]
fn addends_may_be_negative() {
    let dynamic = Dynamic {
        rela: vec![relative(pie::DATA, u64::MAX), relative(pie::END - 8, 7)],
        ..Dynamic::default()
    };
    let image = load_checked(&dynamic.pie().write()).unwrap();
    assert_eq!(word(&image, LOAD_BIAS + pie::DATA), LOAD_BIAS - 1);
    assert_eq!(word(&image, LOAD_BIAS + pie::END - 8), LOAD_BIAS + 7);
}

#[test]
fn relr_bitmaps_go_on_where_the_last_ended() {
    // Each bitmap speaks of 63 words, the first one of words 1 to 63 after the address.
    let dynamic = Dynamic {
        relr: vec![pie::DATA, 1 | 1 << 63, 0b101],
        ..Dynamic::default()
    };
    let mut file = dynamic.pie();
    file.headers[2].file_bytes = 0x400;
    file.length = 0x700;
    let image = load_checked(&file.write()).unwrap();
    let changed: Vec<u64> = (2..80)
        .filter(|at| word(&image, LOAD_BIAS + pie::DATA + 8 * at) == LOAD_BIAS)
        .collect();
    assert_eq!(changed, [63, 65]);
}

#[test]
fn a_table_is_read_before_it_is_applied() {
    let tags = [
        (elf::DT_RELA, pie::DATA),
        (elf::DT_RELASZ, 48),
        (elf::DT_RELAENT, 24),
    ];
    let dynamic = Dynamic {
        tags: tags.map(|(tag, value)| (tag.0, value)).to_vec(),
        ..Dynamic::default()
    };
    let mut file = dynamic.pie();
    // The first entry changes the type of the second to one that would be refused.
    let second = pie::DATA + 24;
    let table = [relative(second + 8, 0), relative(pie::END - 8, 5)];
    let bytes = table
        .as_flattened()
        .iter()
        .flat_map(|word| word.to_le_bytes());
    file.chunks.push((0x400, bytes.collect()));
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(word(&image, LOAD_BIAS + second + 8), LOAD_BIAS);
    assert_eq!(word(&image, LOAD_BIAS + pie::END - 8), LOAD_BIAS + 5);
}

#[test]
fn an_executable_may_have_a_dynamic_section_too() {
    let mut file = Dynamic {
        rela: vec![relative(0x40_0000 + pie::DATA, 0x40_0000)],
        ..Dynamic::default()
    }
    .pie();
    file.file_type = elf::ET_EXEC;
    file.entry += 0x40_0000;
    for header in &mut file.headers {
        header.address += 0x40_0000;
    }
    // The table's address too.
    file.chunks[3].1[8..16].copy_from_slice(&(0x40_0000 + pie::RELA).to_le_bytes());
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(word(&image, 0x40_0000 + pie::DATA), 0x40_0000);
}

#[test]
fn tags_for_symbol_lookup_and_empty_tables_are_harmless() {
    let tags = [
        (elf::DT_HASH, 0x40),
        (elf::DT_GNU_HASH, 0x40),
        (elf::DT_STRTAB, 0x40),
        (elf::DT_STRSZ, 1),
        (elf::DT_DEBUG, 0),
        (elf::DT_JMPREL, 0x40),
        (elf::DT_PLTRELSZ, 0),
        (elf::DT_INIT_ARRAY, 0x40),
        (elf::DT_INIT_ARRAYSZ, 0),
        (elf::DT_FINI_ARRAYSZ, 0),
        (elf::DT_FLAGS, elf::DF_BIND_NOW.0),
        (elf::DT_RELASZ, 0),
        (elf::DT_RELAENT, 24),
        (elf::DT_RELA, 0),
    ];
    let tags = tags.map(|(tag, value)| (tag.0, value)).to_vec();
    let file = Dynamic {
        tags,
        ..Dynamic::default()
    };
    load_checked(&file.pie().write()).unwrap();
}

/// A file of segments to load, each with a page of its own in the file.
fn file_of(loads: &[Header]) -> Elf {
    let code = Header::load(RX, 0x10_0000, 0x10_0000, 0x10);
    let mut headers = vec![code];
    headers.extend(loads);
    Elf {
        file_type: elf::ET_EXEC,
        entry: 0x10_0000,
        headers,
        chunks: vec![],
        length: 0x11_0000,
    }
}

#[test]
fn neighbours_of_one_protection_join() {
    let loads = [
        Header::load(RW, 0x1000, 0x20_0000, 0x10),
        Header::load(RW, 0x1010, 0x20_0010, 0x10),
        Header::load(RW, 0x2f00, 0x20_0f00, 0x100).memory(0x2000),
        // Shares a page of which the one before has only zeros.
        Header::load(RW, 0x3f10, 0x20_2f10, 0x10),
    ];
    let mut file = file_of(&loads);
    file.chunks.push((0x1000, vec![0xaa; 0x20]));
    file.chunks.push((0x2f00, vec![0xbb; 0x100]));
    file.chunks.push((0x3f10, vec![0xcc; 0x10]));
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(
        shape(&image)[1..],
        [
            (0x20_0000, 0x2000, ReadWrite),
            (0x20_2000, 0x1000, ReadWrite)
        ]
    );
    let first = &image.segments[1].contents;
    assert_eq!(first[..0x20], [0xaa; 0x20]);
    assert_eq!(first[0x20..0xf00], [0; 0xee0]);
    assert_eq!(first[0xf00..], [0xbb; 0x100]);
    assert_eq!(image.segments[2].contents[..0xf10], [0; 0xf10]);
    assert_eq!(image.segments[2].contents[0xf10..], [0xcc; 0x10]);
}

#[test]
fn zeroed_memory_is_only_a_length() {
    let loads = [
        Header::load(RW, 0, 0x20_0000, 0).memory(0x3000_0000),
        Header::load(R, 0, 0x7000_0000, 0).memory(1),
    ];
    let image = load_checked(&file_of(&loads).write()).unwrap();
    assert_eq!(segment(&image, 0x20_0000).length, 0x3000_0000);
    assert_eq!(segment(&image, 0x20_0000).contents.capacity(), 0);
    assert_eq!(image.end(), 0x7000_1000);
}

#[test]
fn segments_reach_both_ends_of_the_guests_addresses() {
    let mut file = file_of(&[Header::load(RW, 0x5000, 0xffff_f000, 0x1000)]);
    file.headers.insert(0, Header::load(R, 0, 0x1_0000, 0x10));
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(image.segments[0].address, 0x1_0000);
    assert_eq!(image.end(), 0x1_0000_0000);
}

#[test]
fn empty_loads_do_nothing() {
    let file = file_of(&[Header::load(7, 3, u64::MAX, 0)]);
    assert_eq!(load_checked(&file.write()).unwrap().segments.len(), 1);
}

#[test]
fn as_many_segments_as_a_worker_has_room_for() {
    let file = file_of(&many(SEGMENTS_MAX - 1));
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(image.segments.len(), SEGMENTS_MAX);
}

/// Segments that do not join.
pub(super) fn many(count: usize) -> Vec<Header> {
    let load = |at: u64| Header::load(RW, 0, 0x20_0000 + 0x2000 * at, 0).memory(8);
    (0..count as u64).map(load).collect()
}

#[test]
fn relro_keeps_what_shares_its_pages_writable() {
    // Other data before it on its first page: that page stays writable.
    let mut file = static_pie();
    file.headers[pie::RELRO_HEADER].address += 8;
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(
        shape(&image)[2..],
        [(LOAD_BIAS + 0x2000, 0x3000, ReadWrite)]
    );
    // It ends within a page: that page stays writable.
    file = static_pie();
    file.headers[pie::RELRO_HEADER].memory_bytes += 8;
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(
        shape(&image)[3..],
        [(LOAD_BIAS + 0x3000, 0x2000, ReadWrite)]
    );
    // It covers whole pages in the middle, of zeroed memory.
    file = static_pie();
    file.headers[pie::RELRO_HEADER].address = 0x3000;
    file.headers[pie::RELRO_HEADER].memory_bytes = 0x1000;
    let image = load_checked(&file.write()).unwrap();
    assert_eq!(
        shape(&image)[2..],
        [
            (LOAD_BIAS + 0x2000, 0x1000, ReadWrite),
            (LOAD_BIAS + 0x3000, 0x1000, Read),
            (LOAD_BIAS + 0x4000, 0x1000, ReadWrite),
        ]
    );
}
