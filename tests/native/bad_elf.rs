//! A real guest's file with one thing wrong: refused with the reason for it.

use cellwall::elf::ElfError as Why;
use cellwall::native::{Options, Program};
use cellwall::{Config, Engine};

use super::elf_files::{number, parts, reason};
use super::runner::{bytes, image};
use crate::harness::{alone, children};

const TYPE: usize = 0;
const FLAGS: usize = 4;
const OFFSET: usize = 8;
const ADDRESS: usize = 16;
const FILE_BYTES: usize = 32;
const MEMORY_BYTES: usize = 40;
const ALIGNMENT: usize = 48;

const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const INTERPRETER: u64 = 3;
const STACK: u64 = 0x6474_e551;

/// A file and where its parts are.
struct File {
    bytes: Vec<u8>,
    constants: usize,
    code: usize,
    data: usize,
    dynamic: usize,
    stack: usize,
}

impl File {
    fn new() -> Self {
        let file = image("hello");
        let part = |kind, flags| {
            let fits = |at: &usize| {
                number(file, at + TYPE, 4) == kind && number(file, at + FLAGS, 4) == flags
            };
            parts(file).into_iter().find(fits).expect("such a part")
        };
        Self {
            bytes: file.to_vec(),
            constants: part(LOAD, 4),
            code: part(LOAD, 5),
            data: part(LOAD, 6),
            dynamic: part(DYNAMIC, 6),
            stack: part(STACK, 6),
        }
    }

    fn set(&mut self, at: usize, size: usize, value: u64) {
        self.bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    fn get(&self, at: usize) -> u64 {
        number(&self.bytes, at, 8)
    }

    /// Where the value of a dynamic tag is.
    fn tag(&self, tag: u64) -> usize {
        let start = bytes(self.get(self.dynamic + OFFSET));
        let end = start + bytes(self.get(self.dynamic + FILE_BYTES));
        let mut entries = (start..end).step_by(16);
        let entry = entries.find(|&at| self.get(at) == tag);
        entry.expect("such a tag") + 8
    }

    /// Where the first entry of the relocation table is. Its addresses are file offsets: the
    /// segment with the table begins with the file.
    fn relocation(&self) -> usize {
        bytes(self.get(self.tag(7)))
    }
}

type Case = (&'static str, fn(&mut File), fn(&Why) -> bool);

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

const PART_CASES: &[Case] = &[
    (
        "interpreter",
        |file| file.set(file.stack, 4, INTERPRETER),
        |why| matches!(why, Why::Interpreter(_)),
    ),
    (
        "thread-local",
        |file| file.set(file.stack, 4, 7),
        |why| matches!(why, Why::ThreadLocal(_)),
    ),
    (
        "unknown part",
        |file| file.set(file.stack, 4, 0x7000_0000),
        |why| matches!(why, Why::UnknownHeader(_, 0x7000_0000)),
    ),
    (
        "executable stack",
        |file| file.set(file.stack + FLAGS, 4, 7),
        |why| matches!(why, Why::ExecutableStack(_)),
    ),
    (
        "no dynamic section",
        |file| file.set(file.dynamic, 4, 0),
        |why| *why == Why::NoDynamic,
    ),
    (
        "two dynamic sections",
        |file| file.set(file.stack, 4, DYNAMIC),
        |why| matches!(why, Why::SecondHeader(_, 2)),
    ),
    (
        "writable code",
        |file| file.set(file.code + FLAGS, 4, 7),
        |why| matches!(why, Why::WritableAndExecutable(_)),
    ),
    (
        "executable data",
        |file| file.set(file.data + FLAGS, 4, 7),
        |why| matches!(why, Why::WritableAndExecutable(_)),
    ),
    (
        "write-only",
        |file| file.set(file.data + FLAGS, 4, 2),
        |why| matches!(why, Why::Flags(_, 2)),
    ),
    (
        "execute-only",
        |file| file.set(file.code + FLAGS, 4, 1),
        |why| matches!(why, Why::Flags(_, 1)),
    ),
    (
        "no access",
        |file| file.set(file.code + FLAGS, 4, 0),
        |why| matches!(why, Why::Flags(_, 0)),
    ),
    (
        "alignment 3",
        |file| file.set(file.data + ALIGNMENT, 8, 3),
        |why| matches!(why, Why::Alignment(_, 3)),
    ),
    (
        "alignment 2^63",
        |file| file.set(file.data + ALIGNMENT, 8, 1 << 63),
        |why| matches!(why, Why::Alignment(..)),
    ),
    (
        "not where it is in the file",
        |file| file.set(file.data + ADDRESS, 8, file.get(file.data + ADDRESS) + 8),
        |why| matches!(why, Why::Misaligned(..)),
    ),
    (
        "2^63 bytes",
        |file| file.set(file.data + MEMORY_BYTES, 8, 1 << 63),
        |why| matches!(why, Why::OutsideGuest(..)),
    ),
    (
        "all bytes",
        |file| file.set(file.data + MEMORY_BYTES, 8, u64::MAX),
        |why| matches!(why, Why::OutsideGuest(..)),
    ),
    (
        "4 GiB",
        |file| file.set(file.data + MEMORY_BYTES, 8, 1 << 32),
        |why| matches!(why, Why::OutsideGuest(..)),
    ),
    (
        "2 GiB",
        |file| file.set(file.data + MEMORY_BYTES, 8, 2 << 30),
        |why| matches!(why, Why::TooLarge(_)),
    ),
    (
        "memory for no code",
        |file| {
            file.set(
                file.code + MEMORY_BYTES,
                8,
                file.get(file.code + MEMORY_BYTES) + 1,
            );
        },
        |why| matches!(why, Why::ZeroedCode(_, 1)),
    ),
    (
        "more in the file",
        |file| file.set(file.data + MEMORY_BYTES, 8, 1),
        |why| matches!(why, Why::FileExceedsMemory(..)),
    ),
    (
        "beyond the file",
        |file| {
            file.set(file.data + FILE_BYTES, 8, 1 << 20);
            file.set(file.data + MEMORY_BYTES, 8, 1 << 20);
        },
        |why| matches!(why, Why::OutsideFile(..)),
    ),
    (
        "far beyond the file",
        |file| {
            let place = file.get(file.data + OFFSET) % 4096;
            file.set(file.data + OFFSET, 8, u64::MAX - 4095 + place);
        },
        |why| matches!(why, Why::OutsideFile(..)),
    ),
    (
        "above the guest's addresses",
        |file| {
            file.set(
                file.data + ADDRESS,
                8,
                file.get(file.data + ADDRESS) + (1 << 32),
            )
        },
        |why| matches!(why, Why::OutsideGuest(..)),
    ),
    (
        "in the worker's addresses",
        |file| {
            file.set(
                file.data + ADDRESS,
                8,
                file.get(file.data + ADDRESS) + 0x1_4000_0000,
            )
        },
        |why| matches!(why, Why::OutsideGuest(..)),
    ),
    (
        "around the end",
        |file| {
            let place = file.get(file.data + OFFSET) % 4096;
            file.set(file.data + ADDRESS, 8, u64::MAX - 4095 + place);
        },
        // Placed, it would come back at the low end, below the one before.
        |why| matches!(why, Why::OutsideGuest(..)),
    ),
    (
        "overlap",
        |file| {
            // Read-only as the constants, over their end.
            let address = file.get(file.constants + ADDRESS);
            let place = file.get(file.data + OFFSET) % 4096;
            file.set(file.constants + MEMORY_BYTES, 8, 0x2_0000);
            file.set(file.data + ADDRESS, 8, address + 0x8000 + place);
        },
        |why| matches!(why, Why::Overlap(..)),
    ),
    (
        "a page with two protections",
        |file| {
            let end = file.get(file.code + ADDRESS);
            file.set(file.constants + MEMORY_BYTES, 8, end - end % 4096 + 1);
        },
        |why| matches!(why, Why::SharedPage(..)),
    ),
    (
        "descending",
        |file| {
            let (low, high) = (file.constants, file.code);
            let (first, second) = (low.min(high), low.max(high));
            let (head, tail) = file.bytes.split_at_mut(second);
            head[first..first + 56].swap_with_slice(&mut tail[..56]);
        },
        |why| matches!(why, Why::Unordered(..)),
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
        let engine = Engine::new(&Config::default()).unwrap();
        let options = Options::new();
        assert!(Program::load(&engine, &File::new().bytes, &options).is_ok());
        for (name, spoil, expected) in [HEADER_CASES, PART_CASES, DYNAMIC_CASES].concat() {
            let mut file = File::new();
            spoil(&mut file);
            let refused = Program::load(&engine, &file.bytes, &options).err();
            let why = reason(refused.unwrap_or_else(|| panic!("{name} was accepted")));
            assert!(expected(&why), "{name}: {why}");
        }
        assert_eq!(children(), 0, "nothing was ever started");
    });
}
