//! A real guest's file, to be spoiled at one place.

use cellwall::elf::ElfError as Why;

use super::elf_files::{number, parts};
use super::runner::{bytes, image};

const TYPE: usize = 0;
pub(crate) const FLAGS: usize = 4;
pub(crate) const OFFSET: usize = 8;
pub(crate) const ADDRESS: usize = 16;
pub(crate) const FILE_BYTES: usize = 32;
pub(crate) const MEMORY_BYTES: usize = 40;
pub(crate) const ALIGNMENT: usize = 48;

pub(crate) const LOAD: u64 = 1;
pub(crate) const DYNAMIC: u64 = 2;
pub(crate) const INTERPRETER: u64 = 3;
pub(crate) const STACK: u64 = 0x6474_e551;

/// A file and where its parts are.
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) constants: usize,
    pub(crate) code: usize,
    pub(crate) data: usize,
    pub(crate) dynamic: usize,
    pub(crate) stack: usize,
}

impl File {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn set(&mut self, at: usize, size: usize, value: u64) {
        self.bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        number(&self.bytes, at, 8)
    }

    /// Where the value of a dynamic tag is.
    pub(crate) fn tag(&self, tag: u64) -> usize {
        let start = bytes(self.get(self.dynamic + OFFSET));
        let end = start + bytes(self.get(self.dynamic + FILE_BYTES));
        let mut entries = (start..end).step_by(16);
        let entry = entries.find(|&at| self.get(at) == tag);
        entry.expect("such a tag") + 8
    }

    /// Where the first entry of the relocation table is. Its addresses are file offsets: the
    /// segment with the table begins with the file.
    pub(crate) fn relocation(&self) -> usize {
        bytes(self.get(self.tag(7)))
    }
}

/// What is wrong, how it comes about, and whether this is the reason for it.
pub(crate) type Case = (&'static str, fn(&mut File), fn(&Why) -> bool);
