//! Bad files: each reason to refuse one, and every way to cut one short.

use object::elf;

use super::super::{ALIGNMENT_MAX, ElfError, MEMORY_BYTES_MAX, Place, SEGMENTS_MAX};
use super::accepted::many;
use super::load_checked;
use super::writer::{Dynamic, Elf, Header, R, RW, executable, field, pie, relative, static_pie};

/// Asserts that a file is refused for one reason.
macro_rules! refused {
    ($file:expr, $reason:pat) => {
        let result = load_checked(&$file);
        assert!(
            matches!(&result, Err($reason)),
            "{}: {result:x?}",
            stringify!($reason)
        );
    };
}

/// The fixed-address file after `change`.
fn changed(change: impl FnOnce(&mut Elf)) -> Vec<u8> {
    let mut file = executable();
    change(&mut file);
    file.write()
}

/// The static-PIE after `change`.
fn changed_pie(change: impl FnOnce(&mut Elf)) -> Vec<u8> {
    let mut file = static_pie();
    change(&mut file);
    file.write()
}

/// The fixed-address file with other bytes at `at`.
fn patched<const BYTES: usize>(at: usize, bytes: [u8; BYTES]) -> Vec<u8> {
    let mut file = executable().write();
    file[at..at + BYTES].copy_from_slice(&bytes);
    file
}

#[test]
fn truncated_anywhere() {
    for whole in [executable(), static_pie()] {
        let end = whole.headers_end();
        let file = whole.write();
        for length in 0..64 {
            refused!(file[..length], ElfError::Truncated(_));
        }
        for length in 64..end {
            refused!(file[..length], ElfError::HeadersOutsideFile(..));
        }
        let last_load = &whole.headers[2];
        let data_end = usize::try_from(last_load.offset + last_load.file_bytes).unwrap();
        for length in end..data_end {
            refused!(file[..length], ElfError::OutsideFile(..));
        }
        load_checked(&file[..data_end]).unwrap();
    }
}

#[test]
fn file_headers() {
    refused!(b"#!/bin/sh".repeat(10), ElfError::Magic([b'#', b'!', ..]));
    refused!(patched(0, [0]), ElfError::Magic(_));
    refused!(patched(field::CLASS, [1]), ElfError::Class(1));
    refused!(patched(field::ENCODING, [2]), ElfError::Encoding(2));
    refused!(patched(field::IDENT_VERSION, [0]), ElfError::Version(0));
    refused!(patched(field::OS_ABI, [9]), ElfError::OsAbi(9, 0));
    refused!(patched(field::ABI_VERSION, [1]), ElfError::OsAbi(0, 1));
    refused!(patched(field::VERSION, [2]), ElfError::Version(2));
    refused!(patched(field::MACHINE, [183]), ElfError::Machine(183));
    for other in [0, 1, 4, 5] {
        refused!(patched(field::FILE_TYPE, [other]), ElfError::FileType(_));
    }
    refused!(patched(field::FLAGS, [1]), ElfError::FileFlags(1));
    refused!(patched(field::HEADER_BYTES, [63]), ElfError::HeaderSize(63));
    refused!(patched(field::ENTRY_BYTES, [32]), ElfError::EntrySize(32));
    let none = patched(field::ENTRY_COUNT, [0]);
    refused!(none, ElfError::HeaderCount(0));
    let extended = patched(field::ENTRY_COUNT, [0xff; 2]);
    refused!(extended, ElfError::HeaderCount(0xffff));
    let many = patched(field::ENTRY_COUNT, [0xfe, 0xff]);
    refused!(many, ElfError::HeadersOutsideFile(64, 0xfffe, _));
    for offset in [0x290, u64::MAX, u64::MAX - 279] {
        let file = patched(field::HEADERS_OFFSET, offset.to_le_bytes());
        refused!(file, ElfError::HeadersOutsideFile(..));
    }
}

#[test]
fn program_header_types() {
    let with = |kind| changed(|file| file.headers[3].kind = kind);
    refused!(with(elf::PT_INTERP.0), ElfError::Interpreter(_));
    refused!(with(elf::PT_TLS.0), ElfError::ThreadLocal(_));
    for unknown in [5, 8, 0x6000_0000, 0x6474_e555, 0x7000_0000, u32::MAX] {
        refused!(with(unknown), ElfError::UnknownHeader(..));
    }
    for ignored in [elf::PT_NULL, elf::PT_GNU_EH_FRAME, elf::PT_GNU_PROPERTY] {
        load_checked(&with(ignored.0)).unwrap();
    }
    let stack = changed(|file| file.headers[4].flags = 7);
    refused!(stack, ElfError::ExecutableStack(_));
    let unloaded = changed(|file| file.headers.drain(..3).for_each(drop));
    refused!(unloaded, ElfError::NothingToLoad);
    let crowded = changed(|file| file.headers.extend(many(SEGMENTS_MAX)));
    refused!(crowded, ElfError::TooManyLoads);
    for twice in [pie::DYNAMIC_HEADER, pie::RELRO_HEADER] {
        let file = changed_pie(|file| file.headers.push(file.headers[twice]));
        refused!(file, ElfError::SecondHeader(..));
    }
}

#[test]
fn relro_must_leave_room_for_its_pieces() {
    // As many segments as there may be, one of which RELRO cuts into three.
    let file = changed_pie(|file| {
        file.headers[pie::RELRO_HEADER].address = 0x3000;
        file.headers[pie::RELRO_HEADER].memory_bytes = 0x1000;
        file.headers.extend(many(SEGMENTS_MAX - 3));
    });
    const PIECES: usize = SEGMENTS_MAX + 2;
    refused!(file, ElfError::TooManySegments(PIECES));
}

#[test]
fn protections() {
    refused!(
        changed(|file| file.headers[2].flags = 7),
        ElfError::WritableAndExecutable(Place {
            index: 2,
            address: 0x40_2240
        })
    );
    refused!(
        changed(|file| file.headers[2].flags = 3),
        ElfError::WritableAndExecutable(_)
    );
    for flags in [0, 1, 2, 8 | 4, 0x8000_0004] {
        let file = changed(|file| file.headers[2].flags = flags);
        refused!(file, ElfError::Flags(..));
    }
}

#[test]
fn sizes_and_places_of_one_segment() {
    for alignment in [3, 0x1001, ALIGNMENT_MAX * 2, 1 << 63, u64::MAX] {
        let file = changed(|file| file.headers[0].alignment = alignment);
        refused!(file, ElfError::Alignment(..));
    }
    for alignment in [0, 1, 16, ALIGNMENT_MAX] {
        load_checked(&changed(|file| file.headers[0].alignment = alignment)).unwrap();
    }
    let file = changed(|file| file.headers[2].address += 8);
    refused!(file, ElfError::Misaligned(..));
    let file = changed(|file| file.headers[2].memory_bytes = 0x3f);
    refused!(file, ElfError::FileExceedsMemory(_, 0x40, 0x3f));
    let file = changed(|file| file.headers[1].memory_bytes = 0x24);
    refused!(file, ElfError::ZeroedCode(_, 1));
    for offset in [0x1240, 1 << 40 | 0x240, u64::MAX - 0xdbf] {
        let file = changed(|file| file.headers[2].offset = offset);
        refused!(file, ElfError::OutsideFile(..));
    }
    for bytes in [0x51, 0x1000, u64::MAX] {
        let file = changed(|file| {
            file.headers[2].file_bytes = bytes;
            file.headers[2].memory_bytes = bytes;
        });
        refused!(file, ElfError::OutsideFile(..));
    }
    for address in [
        0x240,
        0xf240,
        0x1_0000_0240,
        1 << 47 | 0x240,
        u64::MAX - 0xdbf,
    ] {
        let file = changed(|file| file.headers[2].address = address);
        refused!(file, ElfError::OutsideGuest(..));
    }
    for memory in [1 << 32, u64::MAX - 0x40_2240, u64::MAX] {
        let file = changed(|file| file.headers[2].memory_bytes = memory);
        refused!(file, ElfError::OutsideGuest(..));
    }
    // Wraps around only when it is placed.
    let file = changed_pie(|file| file.headers[2].address = u64::MAX - 0xcff);
    refused!(file, ElfError::OutsideGuest(..));
    let file = changed(|file| file.headers[2].memory_bytes = MEMORY_BYTES_MAX);
    refused!(file, ElfError::TooLarge(_));
}

#[test]
fn segments_against_each_other() {
    let file = changed(|file| file.headers.swap(0, 1));
    refused!(file, ElfError::Unordered(..));
    let file = changed(|file| file.headers[2].address = 0x40_0240);
    refused!(file, ElfError::Unordered(..));
    let file = changed(|file| file.headers[0].memory_bytes = 0x1201);
    refused!(file, ElfError::Overlap(..));
    let file = changed(|file| file.headers[0].memory_bytes = 0x1001);
    refused!(file, ElfError::SharedPage(..));
    let file = changed(|file| file.headers[2].address = 0x40_1240);
    refused!(file, ElfError::SharedPage(..));
    // Small segments that bring the same bytes again and again.
    let file = changed(|file| {
        let again = |at: u64| Header::load(R, 0, 0x50_0000 + at * 0x1000, 0x200);
        file.headers.extend((0..3).map(again));
    });
    refused!(file, ElfError::FileBytesShared(_));
}

#[test]
fn entries() {
    for entry in [0, 0x40_0000, 0x40_11ff, 0x40_1223, 0x40_2240, u64::MAX] {
        refused!(changed(|file| file.entry = entry), ElfError::Entry(_));
    }
    for entry in [0, 0x12df, 0x1300, u64::MAX] {
        refused!(changed_pie(|file| file.entry = entry), ElfError::Entry(_));
    }
}

#[test]
fn dynamic_sections() {
    let none = changed_pie(|file| file.headers[pie::DYNAMIC_HEADER].kind = elf::PT_NULL.0);
    refused!(none, ElfError::NoDynamic);
    for address in [0x2430, 0x3000, 0x10_0000, u64::MAX] {
        let file = changed_pie(|file| file.headers[pie::DYNAMIC_HEADER].address = address);
        refused!(file, ElfError::DynamicOutside(_));
    }
    for bytes in [0, 15, 16] {
        let file = changed_pie(|file| file.headers[pie::DYNAMIC_HEADER].memory_bytes = bytes);
        refused!(file, ElfError::DynamicEnd);
    }
    let file = changed_pie(|file| file.headers[pie::DYNAMIC_HEADER].memory_bytes = 0x141);
    refused!(file, ElfError::DynamicOutside(_));
}

/// A static-PIE with one more tag.
fn tagged(tag: elf::DynamicTag, value: u64) -> Vec<u8> {
    let dynamic = Dynamic {
        tags: vec![(tag.0, value)],
        rela: vec![relative(pie::DATA, 0)],
        ..Dynamic::default()
    };
    dynamic.pie().write()
}

#[test]
fn dynamic_tags() {
    refused!(tagged(elf::DT_NEEDED, 1), ElfError::Needed);
    refused!(tagged(elf::DT_TEXTREL, 0), ElfError::TextRelocations);
    refused!(
        tagged(elf::DT_FLAGS, elf::DF_TEXTREL.0),
        ElfError::TextRelocations
    );
    let flags = tagged(elf::DT_FLAGS, elf::DF_STATIC_TLS.0);
    refused!(flags, ElfError::DynamicFlags("DT_FLAGS", _));
    let flags = tagged(elf::DT_FLAGS_1, elf::DF_1_INITFIRST.0);
    refused!(flags, ElfError::DynamicFlags("DT_FLAGS_1", _));
    for tag in [
        elf::DT_INIT,
        elf::DT_FINI,
        elf::DT_INIT_ARRAYSZ,
        elf::DT_FINI_ARRAYSZ,
        elf::DT_PREINIT_ARRAYSZ,
    ] {
        refused!(tagged(tag, 8), ElfError::Constructors(_));
    }
    for tag in [elf::DT_RELSZ, elf::DT_PLTRELSZ] {
        refused!(tagged(tag, 24), ElfError::ForeignRelocations(_, 24));
    }
    for tag in [elf::DT_SONAME, elf::DT_VERNEED, elf::DT_ANDROID_RELA] {
        refused!(tagged(tag, 1), ElfError::UnknownTag(_));
    }
    refused!(tagged(elf::DynamicTag(-1), 1), ElfError::UnknownTag(-1));
    refused!(tagged(elf::DT_RELA, 1), ElfError::SecondTag("DT_RELA"));
}

/// A static-PIE with no tags but these.
fn only(tags: &[(elf::DynamicTag, u64)]) -> Vec<u8> {
    let tags = tags.iter().map(|&(tag, value)| (tag.0, value)).collect();
    let dynamic = Dynamic {
        tags,
        ..Dynamic::default()
    };
    dynamic.pie().write()
}

#[test]
fn relocation_tables() {
    let (rela, size, entry) = (elf::DT_RELA, elf::DT_RELASZ, elf::DT_RELAENT);
    let (relr, relr_size, relr_entry) = (elf::DT_RELR, elf::DT_RELRSZ, elf::DT_RELRENT);
    for odd in [
        only(&[(rela, 0x200)]),
        only(&[(size, 24)]),
        only(&[(entry, 24)]),
        only(&[(rela, 0x200), (size, 24)]),
        only(&[(rela, 0x200), (size, 24), (entry, 0)]),
        only(&[(rela, 0x200), (size, 24), (entry, 16)]),
        only(&[(rela, 0x200), (size, 25), (entry, 24)]),
        only(&[(relr, 0x200), (relr_size, 8)]),
        only(&[(relr, 0x200), (relr_size, 8), (relr_entry, 24)]),
        only(&[(relr, 0x200), (relr_size, 9), (relr_entry, 8)]),
    ] {
        refused!(odd, ElfError::Table(..));
    }
    for (address, bytes) in [
        (0x2d0, 24),
        (0x3000, 24),
        (0x10_0000, 24),
        (u64::MAX, 24),
        (u64::MAX - 0x40_0000, 24),
        (0x200, u64::MAX - u64::MAX % 24),
    ] {
        let file = only(&[(rela, address), (size, bytes), (entry, 24)]);
        refused!(file, ElfError::TableOutside(..));
    }
}

#[test]
fn relocations() {
    let with = |rela: &[[u64; 3]], relr: &[u64]| {
        let dynamic = Dynamic {
            rela: rela.to_vec(),
            relr: relr.to_vec(),
            ..Dynamic::default()
        };
        dynamic.pie().write()
    };
    let good = relative(pie::DATA, 0);
    let ifunc = [good, [pie::DATA, 37, 0]];
    refused!(with(&ifunc, &[]), ElfError::IndirectFunction(1));
    for kind in [0, 1, 5, 6, 7, 18, 36, 38, 0xffff_ffff] {
        let other = [good, [pie::DATA, kind, 0]];
        refused!(with(&other, &[]), ElfError::RelocationType(1, _));
    }
    let symbol = [[pie::DATA, 8 | 3 << 32, 0]];
    refused!(with(&symbol, &[]), ElfError::RelocationSymbol(0, 3));
    // Code, the filler around it, memory without bytes, no memory, straddling an end.
    for code in [pie::CODE, 0x1000, 0x1ff8] {
        refused!(with(&[relative(code, 0)], &[]), ElfError::RelocatedCode(_));
        refused!(with(&[], &[code]), ElfError::RelocatedCode(_));
    }
    for outside in [
        pie::END - 6,
        pie::END,
        0x3000,
        0x5000,
        1 << 40,
        u64::MAX - 1,
    ] {
        let rela = with(&[relative(outside, 0)], &[]);
        refused!(rela, ElfError::RelocationOutside(_));
        refused!(with(&[], &[outside]), ElfError::RelocationOutside(_));
    }
    refused!(
        with(&[], &[pie::DATA, u64::MAX]),
        ElfError::RelocationOutside(_)
    );
    refused!(with(&[], &[1, pie::DATA]), ElfError::RelrBitmap);
}

#[test]
fn relro_outside_writable_data() {
    for address in [0, 0x1000, 0x5000, 1 << 40, u64::MAX] {
        let file = changed_pie(|file| file.headers[pie::RELRO_HEADER].address = address);
        refused!(file, ElfError::RelroOutside(..));
    }
    for bytes in [0x2d01, 1 << 40, u64::MAX] {
        let file = changed_pie(|file| file.headers[pie::RELRO_HEADER].memory_bytes = bytes);
        refused!(file, ElfError::RelroOutside(..));
    }
}

#[test]
fn messages_name_the_place_and_the_remedy() {
    let file = changed(|file| file.headers[2].flags |= RW | 1);
    let message = load_checked(&file).unwrap_err().to_string();
    assert_eq!(
        message,
        "segment 2 at 0x402240 is writable and executable; \
         link with -z separate-code and without -N"
    );
}
