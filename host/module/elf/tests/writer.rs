//! Writes small ELF files, right by default and wrong in any field.

use object::elf;

pub(super) const R: u32 = 4;
pub(super) const RW: u32 = 6;
pub(super) const RX: u32 = 5;

/// Offsets of the file header's fields.
pub(super) mod field {
    pub(in super::super) const CLASS: usize = 4;
    pub(in super::super) const ENCODING: usize = 5;
    pub(in super::super) const IDENT_VERSION: usize = 6;
    pub(in super::super) const OS_ABI: usize = 7;
    pub(in super::super) const ABI_VERSION: usize = 8;
    pub(in super::super) const FILE_TYPE: usize = 16;
    pub(in super::super) const MACHINE: usize = 18;
    pub(in super::super) const VERSION: usize = 20;
    pub(in super::super) const HEADERS_OFFSET: usize = 32;
    pub(in super::super) const FLAGS: usize = 48;
    pub(in super::super) const HEADER_BYTES: usize = 52;
    pub(in super::super) const ENTRY_BYTES: usize = 54;
    pub(in super::super) const ENTRY_COUNT: usize = 56;
}

/// A program header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) alignment: u64,
}

impl Header {
    /// A segment to load whose memory the file has whole.
    pub(super) fn load(flags: u32, offset: u64, address: u64, bytes: u64) -> Self {
        Self {
            kind: elf::PT_LOAD.0,
            flags,
            offset,
            address,
            file_bytes: bytes,
            memory_bytes: bytes,
            alignment: 4096,
        }
    }

    /// The same with more memory than bytes.
    pub(super) fn memory(self, memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            ..self
        }
    }

    /// The same of another type.
    pub(super) fn kind(self, kind: elf::ProgramType) -> Self {
        Self {
            kind: kind.0,
            ..self
        }
    }
}

/// A file in the making.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    pub(super) file_type: elf::FileType,
    pub(super) entry: u64,
    pub(super) headers: Vec<Header>,
    /// Bytes and the offset in the file that they go to, over what is there.
    pub(super) chunks: Vec<(usize, Vec<u8>)>,
    pub(super) length: usize,
}

impl Elf {
    /// Where the program headers end.
    pub(super) fn headers_end(&self) -> usize {
        64 + 56 * self.headers.len()
    }

    /// The file. More program headers than there is room for at its beginning go to its end.
    pub(super) fn write(&self) -> Vec<u8> {
        const ROOM: usize = 0x200;
        let table = if self.headers_end() <= ROOM {
            64
        } else {
            self.length
        };
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.extend([0; 8]);
        file.extend(self.file_type.0.to_le_bytes());
        file.extend(elf::EM_X86_64.0.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(self.entry.to_le_bytes());
        file.extend((table as u64).to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        let count = u16::try_from(self.headers.len()).unwrap();
        for half in [64, 56, count, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        file.resize(table, 0);
        for header in &self.headers {
            file.extend(header.kind.to_le_bytes());
            file.extend(header.flags.to_le_bytes());
            // The physical address is the same as the virtual one, as linkers have it.
            for word in [
                header.offset,
                header.address,
                header.address,
                header.file_bytes,
                header.memory_bytes,
                header.alignment,
            ] {
                file.extend(word.to_le_bytes());
            }
        }
        file.resize(file.len().max(self.length), 0);
        for (at, bytes) in &self.chunks {
            file[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        file
    }
}

/// An executable at a fixed address: headers and constants, code, data with zeroed memory.
pub(super) fn executable() -> Elf {
    Elf {
        file_type: elf::ET_EXEC,
        entry: 0x40_1208,
        headers: vec![
            Header::load(R, 0, 0x40_0000, 0x200),
            Header::load(RX, 0x200, 0x40_1200, 0x23),
            Header::load(RW, 0x240, 0x40_2240, 0x40).memory(0x3000),
            Header::default().kind(elf::PT_NOTE),
            Header {
                flags: RW,
                ..Header::default().kind(elf::PT_GNU_STACK)
            },
        ],
        chunks: vec![(0x200, vec![0x90; 0x23]), (0x240, vec![0xdd; 0x40])],
        length: 0x290,
    }
}

/// Where things are in the static-PIE below.
pub(super) mod pie {
    pub(in super::super) const RELA: u64 = 0x200;
    pub(in super::super) const RELR: u64 = 0x2a0;
    pub(in super::super) const CODE: u64 = 0x12e0;
    pub(in super::super) const DYNAMIC: u64 = 0x2300;
    pub(in super::super) const DATA: u64 = 0x2400;
    pub(in super::super) const END: u64 = 0x2440;
    pub(in super::super) const DYNAMIC_HEADER: usize = 3;
    pub(in super::super) const RELRO_HEADER: usize = 4;
    /// The first words of `DATA`, before relocation.
    pub(in super::super) const WORDS: [u64; 2] = [0x1111, 0x2222];
}

/// What a static-PIE has beyond the least.
#[derive(Clone, Debug, Default)]
pub(super) struct Dynamic {
    /// `DT_RELA` entries: address, type and symbol, addend. At most six.
    pub(super) rela: Vec<[u64; 3]>,
    /// `DT_RELR` entries, at most eight.
    pub(super) relr: Vec<u64>,
    /// More entries of the dynamic section, at most nine.
    pub(super) tags: Vec<(i64, u64)>,
}

impl Dynamic {
    /// A static-PIE with one page of data that is read-only after relocation, and two of zeros.
    pub(super) fn pie(&self) -> Elf {
        let bytes_of = |words: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
            words.flat_map(u64::to_le_bytes).collect()
        };
        let rela = bytes_of(&mut self.rela.iter().flatten().copied());
        let relr = bytes_of(&mut self.relr.iter().copied());
        let mut tags = self.tags.clone();
        if !rela.is_empty() {
            tags.push((elf::DT_RELA.0, pie::RELA));
            tags.push((elf::DT_RELASZ.0, rela.len() as u64));
            tags.push((elf::DT_RELAENT.0, 24));
        }
        if !relr.is_empty() {
            tags.push((elf::DT_RELR.0, pie::RELR));
            tags.push((elf::DT_RELRSZ.0, relr.len() as u64));
            tags.push((elf::DT_RELRENT.0, 8));
        }
        tags.push((elf::DT_NULL.0, 0));
        let tags = bytes_of(
            &mut tags
                .iter()
                .flat_map(|&(tag, value)| [u64::from_le_bytes(tag.to_le_bytes()), value]),
        );
        assert!(rela.len() <= 0xa0 && relr.len() <= 0x40 && tags.len() <= 0x100);
        let dynamic = Header::load(RW, 0x300, pie::DYNAMIC, tags.len() as u64);
        let relro = Header::load(R, 0x300, pie::DYNAMIC, 0x140).memory(0xd00);
        Elf {
            file_type: elf::ET_DYN,
            entry: pie::CODE,
            headers: vec![
                Header::load(R, 0, 0, 0x2e0),
                Header::load(RX, 0x2e0, pie::CODE, 0x20),
                Header::load(RW, 0x300, pie::DYNAMIC, 0x140).memory(0x2d00),
                dynamic.kind(elf::PT_DYNAMIC),
                relro.kind(elf::PT_GNU_RELRO),
                Header::load(R, 64, 64, 0x188).kind(elf::PT_PHDR),
                Header::default().kind(elf::PT_GNU_STACK),
            ],
            chunks: vec![
                (0x200, rela),
                (0x2a0, relr),
                (0x2e0, vec![0x90; 0x20]),
                (0x300, tags),
                (0x400, bytes_of(&mut pie::WORDS.into_iter())),
            ],
            length: 0x440,
        }
    }
}

/// A relocation that sets the word at `address` to `addend`, placed.
pub(super) fn relative(address: u64, addend: u64) -> [u64; 3] {
    [address, u64::from(elf::R_X86_64_RELATIVE.0), addend]
}

/// A static-PIE with relocations of both kinds.
pub(super) fn static_pie() -> Elf {
    let dynamic = Dynamic {
        rela: vec![relative(pie::DATA + 16, pie::CODE)],
        relr: vec![pie::DATA, 0b11],
        tags: vec![(elf::DT_FLAGS_1.0, elf::DF_1_PIE.0 | elf::DF_1_NOW.0)],
    };
    dynamic.pie()
}
