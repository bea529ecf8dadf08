//! Reads an image and refuses what the jail could not rely on.

use std::fmt;
use std::ops::Range;

use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _};
use object::{LittleEndian as Le, SymbolIndex};

type Header = elf::FileHeader64<Le>;
type Program = elf::ProgramHeader64<Le>;

/// What an image at fixed addresses has to be.
#[derive(Clone, Debug)]
pub struct Expect {
    /// Where the entry may be.
    pub entry: Range<u64>,
    /// The addresses that every loaded segment has to lie in.
    pub image: Range<u64>,
    /// The most bytes that the file may have, and that its segments may fill in memory.
    pub bytes_max: u64,
}

/// What an image turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where it starts.
    pub entry: u64,
    /// Its loaded segments, in ascending order.
    pub segments: Vec<Segment>,
    /// The bytes of the file.
    pub file_bytes: u64,
    /// The bytes that all segments fill in memory.
    pub memory_bytes: u64,
}

/// A loaded segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first address.
    pub address: u64,
    /// How many bytes of it are in the file.
    pub file_bytes: u64,
    /// How many bytes it has in memory; those that the file lacks are zero.
    pub memory_bytes: u64,
    /// Its `PF_*` flags.
    pub flags: u32,
}

impl fmt::Display for Segment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |bit, letter| if self.flags & bit == 0 { '-' } else { letter };
        write!(
            out,
            "{:#x} {}{}{} {} bytes in the file, {} in memory",
            self.address,
            flag(elf::PF_R.0, 'r'),
            flag(elf::PF_W.0, 'w'),
            flag(elf::PF_X.0, 'x'),
            self.file_bytes,
            self.memory_bytes
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            writeln!(out, "{segment}")?;
        }
        write!(
            out,
            "entry {:#x}; {} bytes in the file, {} in memory",
            self.entry, self.file_bytes, self.memory_bytes
        )
    }
}

/// Why an image is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not an ELF file, or a damaged one.
    #[error("not a readable ELF file: {0}")]
    Unreadable(String),
    /// Another machine, class, byte order or file type.
    #[error("not a fixed-address x86-64 executable: {0}")]
    Kind(&'static str),
    /// It needs a dynamic loader.
    #[error("it needs a dynamic loader: it has {0}")]
    Dynamic(&'static str),
    /// A segment of a type that has no place in an image.
    #[error("program header {index} has type {kind:#x}")]
    SegmentType {
        /// The program header's index.
        index: usize,
        /// Its `PT_*` type.
        kind: u32,
    },
    /// A segment that could be written and then executed.
    #[error("the segment at {0:#x} is writable and executable")]
    WritableCode(u64),
    /// Nothing, or the wrong thing, is said about the stack.
    #[error("the stack is not marked as not executable (no PT_GNU_STACK, or with PF_X)")]
    Stack,
    /// A segment outside the image's addresses, in another's, or before its predecessor.
    #[error("the segment at {0:#x} lies outside the image's addresses or over another one")]
    Placement(u64),
    /// The entry is not where it should be, or not in an executable segment.
    #[error("the entry {0:#x} is not where it should be")]
    Entry(u64),
    /// A relocation is left for somebody to apply.
    #[error("section {0} holds relocations")]
    Relocations(usize),
    /// A symbol that nobody defines.
    #[error("the symbol `{0}` is undefined")]
    Undefined(String),
    /// Too large.
    #[error("it has {bytes} bytes {place}, and {bytes_max} are allowed")]
    TooLarge {
        /// How many it has.
        bytes: u64,
        /// In the file or in memory.
        place: &'static str,
        /// How many are allowed.
        bytes_max: u64,
    },
}

impl From<object::Error> for Refused {
    fn from(error: object::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Checks an image that was linked at fixed addresses.
///
/// # Errors
///
/// The first thing found that the jail could not rely on.
pub fn fixed(image: &[u8], expect: &Expect) -> Result<Report, Refused> {
    let header = Header::parse(image)?;
    let endian = header.endian()?;
    kind(header, endian)?;
    let segments = segments(header.program_headers(endian, image)?, endian, expect)?;
    sections(header, endian, image)?;

    let entry = header.e_entry(endian);
    let in_code = segments.iter().any(|segment| {
        segment.flags & elf::PF_X.0 != 0
            && (segment.address..segment.address + segment.memory_bytes).contains(&entry)
    });
    if !in_code || !expect.entry.contains(&entry) {
        return Err(Refused::Entry(entry));
    }
    let memory_bytes = segments.iter().map(|segment| segment.memory_bytes).sum();
    let file_bytes = image.len() as u64;
    for (bytes, place) in [(file_bytes, "in the file"), (memory_bytes, "in memory")] {
        if bytes > expect.bytes_max {
            return Err(Refused::TooLarge {
                bytes,
                place,
                bytes_max: expect.bytes_max,
            });
        }
    }
    Ok(Report {
        entry,
        segments,
        file_bytes,
        memory_bytes,
    })
}

fn kind(header: &Header, endian: Le) -> Result<(), Refused> {
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err(Refused::Kind("another machine"));
    }
    match header.e_type(endian) {
        elf::ET_EXEC => Ok(()),
        elf::ET_DYN => Err(Refused::Kind("position-independent")),
        _ => Err(Refused::Kind("another file type")),
    }
}

/// The loaded segments, each checked by itself and against its predecessor.
fn segments(headers: &[Program], endian: Le, expect: &Expect) -> Result<Vec<Segment>, Refused> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut stack_is_data = false;
    for (index, header) in headers.iter().enumerate() {
        let flags = header.p_flags(endian).0;
        match header.p_type(endian) {
            elf::PT_LOAD => {}
            elf::PT_GNU_STACK => {
                stack_is_data = flags & elf::PF_X.0 == 0;
                continue;
            }
            elf::PT_INTERP => return Err(Refused::Dynamic("PT_INTERP")),
            elf::PT_DYNAMIC => return Err(Refused::Dynamic("PT_DYNAMIC")),
            other => {
                return Err(Refused::SegmentType {
                    index,
                    kind: other.0,
                });
            }
        }
        let segment = Segment {
            address: header.p_vaddr(endian),
            file_bytes: header.p_filesz(endian),
            memory_bytes: header.p_memsz(endian),
            flags,
        };
        if flags & elf::PF_W.0 != 0 && flags & elf::PF_X.0 != 0 {
            return Err(Refused::WritableCode(segment.address));
        }
        let lowest = segments.last().map_or(expect.image.start, |last| {
            // Cannot overflow: `last` passed this very check.
            last.address + last.memory_bytes
        });
        let inside = segment.address >= lowest
            && segment.file_bytes <= segment.memory_bytes
            && segment
                .address
                .checked_add(segment.memory_bytes)
                .is_some_and(|end| end <= expect.image.end);
        if !inside {
            return Err(Refused::Placement(segment.address));
        }
        segments.push(segment);
    }
    if stack_is_data {
        Ok(segments)
    } else {
        Err(Refused::Stack)
    }
}

/// Refuses what a linker leaves in sections for somebody else to do.
fn sections(header: &Header, endian: Le, image: &[u8]) -> Result<(), Refused> {
    let sections = header.sections(endian, image)?;
    for (index, section) in sections.enumerate() {
        match section.sh_type(endian) {
            elf::SHT_REL | elf::SHT_RELA | elf::SHT_RELR if section.sh_size(endian) != 0 => {
                return Err(Refused::Relocations(index.0));
            }
            elf::SHT_DYNAMIC => return Err(Refused::Dynamic("a dynamic section")),
            elf::SHT_DYNSYM => return Err(Refused::Dynamic("dynamic symbols")),
            _ => {}
        }
    }
    let symbols = sections.symbols(endian, image, elf::SHT_SYMTAB)?;
    for (index, symbol) in symbols.enumerate() {
        // The first entry of every table is empty.
        if index != SymbolIndex(0) && symbol.is_undefined(endian) {
            let name = symbols.symbol_name(endian, symbol)?;
            return Err(Refused::Undefined(
                String::from_utf8_lossy(name).into_owned(),
            ));
        }
    }
    Ok(())
}
