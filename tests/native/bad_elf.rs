//! A real guest's file with one thing wrong: refused with the reason for it.

use cellwall::elf::ElfError as Why;
use cellwall::native::{Options, Program};

use super::bad_parts;
use super::elf_files::reason;
use super::spoiled::{ADDRESS, Case, File, MEMORY_BYTES};
use crate::harness::{alone, children};

const HEADER_CASES: &[Case] = &[
    (
        "magic",
        |file| file.bytes[1] = b'e',
        |why| matches!(why, Why::Magic(_)),
    ),
    (
        "32-bit",
        |file| file.bytes[4] = 1,
        |why| *why == Why::Class(1),
    ),
    (
        "big-endian",
        |file| file.bytes[5] = 2,
        |why| *why == Why::Encoding(2),
    ),
    (
        "ident version",
        |file| file.bytes[6] = 0,
        |why| *why == Why::Version(0),
    ),
    (
        "FreeBSD",
        |file| file.bytes[7] = 9,
        |why| *why == Why::OsAbi(9, 0),
    ),
    (
        "object file",
        |file| file.set(16, 2, 1),
        |why| *why == Why::FileType(1),
    ),
    (
        "core file",
        |file| file.set(16, 2, 4),
        |why| *why == Why::FileType(4),
    ),
    (
        "aarch64",
        |file| file.set(18, 2, 183),
        |why| *why == Why::Machine(183),
    ),
    (
        "i386",
        |file| file.set(18, 2, 3),
        |why| *why == Why::Machine(3),
    ),
    (
        "version",
        |file| file.set(20, 4, 2),
        |why| *why == Why::Version(2),
    ),
    (
        "entry 0",
        |file| file.set(24, 8, 0),
        |why| *why == Why::Entry(0),
    ),
    (
        "entry in data",
        |file| file.set(24, 8, file.get(file.data + ADDRESS)),
        |why| matches!(why, Why::Entry(_)),
    ),
    (
        "entry behind the code",
        |file| {
            let end = file.get(file.code + ADDRESS) + file.get(file.code + MEMORY_BYTES);
            file.set(24, 8, end);
        },
        |why| matches!(why, Why::Entry(_)),
    ),
    (
        "entry far away",
        |file| file.set(24, 8, u64::MAX),
        |why| *why == Why::Entry(u64::MAX),
    ),
    (
        "flags",
        |file| file.set(48, 4, 1),
        |why| *why == Why::FileFlags(1),
    ),
    (
        "header size",
        |file| file.set(52, 2, 52),
        |why| *why == Why::HeaderSize(52),
    ),
    (
        "entry size",
        |file| file.set(54, 2, 32),
        |why| *why == Why::EntrySize(32),
    ),
    (
        "entry size 0",
        |file| file.set(54, 2, 0),
        |why| *why == Why::EntrySize(0),
    ),
    (
        "no parts",
        |file| file.set(56, 2, 0),
        |why| *why == Why::HeaderCount(0),
    ),
    (
        "extended count",
        |file| file.set(56, 2, 0xffff),
        |why| *why == Why::HeaderCount(0xffff),
    ),
    (
        "many parts",
        |file| file.set(56, 2, 0xfffe),
        |why| matches!(why, Why::HeadersOutsideFile(64, 0xfffe, _)),
    ),
    (
        "headers at the end",
        |file| file.set(32, 8, u64::MAX),
        |why| matches!(why, Why::HeadersOutsideFile(u64::MAX, ..)),
    ),
];

const DYNAMIC_CASES: &[Case] = &[
    (
        "outside",
        |file| file.set(file.dynamic + ADDRESS, 8, 0x10_0000),
        |why| matches!(why, Why::DynamicOutside(_)),
    ),
    (
        "endless",
        |file| file.set(file.dynamic + MEMORY_BYTES, 8, 32),
        |why| *why == Why::DynamicEnd,
    ),
    (
        "a library",
        |file| file.set(file.tag(5) - 8, 8, 1),
        |why| *why == Why::Needed,
    ),
    (
        "a constructor",
        |file| file.set(file.tag(5) - 8, 8, 12),
        |why| *why == Why::Constructors("DT_INIT"),
    ),
    (
        "relocated code",
        |file| file.set(file.tag(5) - 8, 8, 22),
        |why| *why == Why::TextRelocations,
    ),
    (
        "symbol versions",
        |file| file.set(file.tag(5) - 8, 8, 0x6fff_fff0),
        |why| *why == Why::UnknownTag(0x6fff_fff0),
    ),
    (
        "two tables",
        |file| file.set(file.tag(5) - 8, 8, 7),
        |why| *why == Why::SecondTag("DT_RELA"),
    ),
    (
        "odd table",
        |file| file.set(file.tag(8), 8, 25),
        |why| matches!(why, Why::Table(..)),
    ),
    (
        "endless table",
        |file| file.set(file.tag(8), 8, u64::MAX / 24 * 24),
        |why| matches!(why, Why::TableOutside(..)),
    ),
    (
        "table elsewhere",
        |file| file.set(file.tag(7), 8, u64::MAX - 7),
        |why| matches!(why, Why::TableOutside(..)),
    ),
    (
        "a function chooses",
        |file| file.set(file.relocation() + 8, 8, 37),
        |why| *why == Why::IndirectFunction(0),
    ),
    (
        "a symbol",
        |file| file.set(file.relocation() + 8, 8, 1 << 32 | 8),
        |why| *why == Why::RelocationSymbol(0, 1),
    ),
    (
        "an absolute address",
        |file| file.set(file.relocation() + 8, 8, 1),
        |why| *why == Why::RelocationType(0, 1),
    ),
    (
        "of code",
        |file| file.set(file.relocation(), 8, file.get(24)),
        |why| matches!(why, Why::RelocatedCode(_)),
    ),
    (
        "of nothing",
        |file| file.set(file.relocation(), 8, 0x100_0000),
        |why| matches!(why, Why::RelocationOutside(_)),
    ),
    (
        "around the end",
        |file| file.set(file.relocation(), 8, u64::MAX - 3),
        |why| matches!(why, Why::RelocationOutside(_)),
    ),
];

/// In a process of its own, whose children are this test's.
#[test]
fn each_mistake_has_its_reason() {
    alone("native::bad_elf::each_mistake_has_its_reason", || {
        let engine = crate::harness::engine();
        let options = Options::new();
        assert!(Program::load(&engine, &File::new().bytes, &options).is_ok());
        for (name, spoil, expected) in [HEADER_CASES, bad_parts::CASES, DYNAMIC_CASES].concat() {
            let mut file = File::new();
            spoil(&mut file);
            let refused = Program::load(&engine, &file.bytes, &options).err();
            let why = reason(refused.unwrap_or_else(|| panic!("{name} was accepted")));
            assert!(expected(&why), "{name}: {why}");
        }
        assert_eq!(children(), 0, "nothing was ever started");
    });
}
