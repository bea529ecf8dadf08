//! Program headers that are refused, and why.

use cellwall::elf::ElfError as Why;

use super::spoiled::{
    ADDRESS, ALIGNMENT, Case, DYNAMIC, FILE_BYTES, FLAGS, INTERPRETER, MEMORY_BYTES, OFFSET,
};

pub(crate) const CASES: &[Case] = &[
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
