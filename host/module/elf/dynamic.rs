//! The dynamic section: where the relocations are, and whether anything else is asked for.

use object::LittleEndian;
use object::elf::{self, Dyn64, DynamicTag};

use super::Segment;
use super::error::ElfError;
use super::header::Part;
use super::segments::{contents, placed};

/// The relocation tables, copied: what a relocation writes must not change the entries after it.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// `DT_RELA`: entries of 24 bytes.
    pub(super) rela: Vec<u8>,
    /// `DT_RELR`: entries of 8 bytes.
    pub(super) relr: Vec<u8>,
}

/// The size of an `Elf64_Dyn`: a tag and a value.
const ENTRY_BYTES: usize = size_of::<Dyn64<LittleEndian>>();
/// The size of an `Elf64_Rela`.
pub(super) const RELA_BYTES: usize = size_of::<elf::Rela64<LittleEndian>>();
/// The size of an `Elf64_Relr`.
pub(super) const RELR_BYTES: usize = size_of::<elf::Relr64<LittleEndian>>();

/// Bits of `DT_FLAGS` that ask for nothing: about symbols, libraries, and binding at once, which
/// is all that we do.
const HARMLESS: u64 = elf::DF_ORIGIN.0 | elf::DF_SYMBOLIC.0 | elf::DF_BIND_NOW.0;
/// The same of `DT_FLAGS_1`.
const HARMLESS_1: u64 = elf::DF_1_NOW.0 | elf::DF_1_PIE.0;

/// The three tags that describe a relocation table.
#[derive(Debug, Default)]
struct Table {
    address: Option<u64>,
    bytes: Option<u64>,
    entry: Option<u64>,
}

/// Reads the dynamic section that `part` tells of, where the segments have it.
pub(super) fn read(segments: &[Segment], part: &Part, bias: u64) -> Result<Tables, ElfError> {
    // From memory, not from the part's file offset: a guest that looks sees the same bytes.
    let section = placed(part.address, part.memory_bytes, bias)
        .and_then(|span| contents(segments, &span))
        .ok_or(ElfError::DynamicOutside(part.place()))?;
    let mut rela = Table::default();
    let mut relr = Table::default();
    let mut ended = false;
    for entry in section.chunks_exact(ENTRY_BYTES) {
        let (tag, value) = entry.split_at(8);
        let tag = DynamicTag(i64::from_le_bytes(word(tag)));
        let value = u64::from_le_bytes(word(value));
        match tag {
            elf::DT_NULL => {
                ended = true;
                break;
            }
            elf::DT_RELA => set_once(&mut rela.address, "DT_RELA", value)?,
            elf::DT_RELASZ => set_once(&mut rela.bytes, "DT_RELASZ", value)?,
            elf::DT_RELAENT => set_once(&mut rela.entry, "DT_RELAENT", value)?,
            elf::DT_RELR => set_once(&mut relr.address, "DT_RELR", value)?,
            elf::DT_RELRSZ => set_once(&mut relr.bytes, "DT_RELRSZ", value)?,
            elf::DT_RELRENT => set_once(&mut relr.entry, "DT_RELRENT", value)?,
            _ => check(tag, value)?,
        }
    }
    if !ended {
        return Err(ElfError::DynamicEnd);
    }
    Ok(Tables {
        rela: rela.read(segments, bias, "DT_RELA", RELA_BYTES)?,
        relr: relr.read(segments, bias, "DT_RELR", RELR_BYTES)?,
    })
}

/// Refuses a tag that asks for something.
fn check(tag: DynamicTag, value: u64) -> Result<(), ElfError> {
    match tag {
        // For those who look up symbols or search for libraries, which nobody does here; and
        // DT_RELACOUNT, DT_RELCOUNT, which repeat what the tables say.
        elf::DT_HASH
        | elf::DT_GNU_HASH
        | elf::DT_STRTAB
        | elf::DT_STRSZ
        | elf::DT_SYMTAB
        | elf::DT_SYMENT
        | elf::DT_SYMBOLIC
        | elf::DT_BIND_NOW
        | elf::DT_DEBUG
        | elf::DT_RPATH
        | elf::DT_RUNPATH
        | elf::DT_RELACOUNT
        | elf::DT_RELCOUNT => Ok(()),
        // Where a table is and of what kind. Those with bytes are refused by their sizes, below.
        elf::DT_PLTGOT
        | elf::DT_JMPREL
        | elf::DT_PLTREL
        | elf::DT_REL
        | elf::DT_RELENT
        | elf::DT_INIT_ARRAY
        | elf::DT_FINI_ARRAY
        | elf::DT_PREINIT_ARRAY => Ok(()),
        elf::DT_RELSZ => no_relocations("DT_RELSZ", value),
        elf::DT_PLTRELSZ => no_relocations("DT_PLTRELSZ", value),
        elf::DT_INIT => no_functions("DT_INIT", value),
        elf::DT_FINI => no_functions("DT_FINI", value),
        elf::DT_INIT_ARRAYSZ => no_functions("DT_INIT_ARRAY", value),
        elf::DT_FINI_ARRAYSZ => no_functions("DT_FINI_ARRAY", value),
        elf::DT_PREINIT_ARRAYSZ => no_functions("DT_PREINIT_ARRAY", value),
        elf::DT_NEEDED => Err(ElfError::Needed),
        elf::DT_TEXTREL => Err(ElfError::TextRelocations),
        elf::DT_FLAGS if value & elf::DF_TEXTREL.0 != 0 => Err(ElfError::TextRelocations),
        elf::DT_FLAGS if value & !HARMLESS == 0 => Ok(()),
        elf::DT_FLAGS => Err(ElfError::DynamicFlags("DT_FLAGS", value)),
        elf::DT_FLAGS_1 if value & !HARMLESS_1 == 0 => Ok(()),
        elf::DT_FLAGS_1 => Err(ElfError::DynamicFlags("DT_FLAGS_1", value)),
        _ => Err(ElfError::UnknownTag(tag.0)),
    }
}

fn no_relocations(tag: &'static str, bytes: u64) -> Result<(), ElfError> {
    match bytes {
        0 => Ok(()),
        bytes => Err(ElfError::ForeignRelocations(tag, bytes)),
    }
}

fn no_functions(tag: &'static str, value: u64) -> Result<(), ElfError> {
    match value {
        0 => Ok(()),
        _ => Err(ElfError::Constructors(tag)),
    }
}

impl Table {
    /// The table's bytes: none at all if no tag tells of it.
    fn read(
        &self,
        segments: &[Segment],
        bias: u64,
        tag: &'static str,
        entry_bytes: usize,
    ) -> Result<Vec<u8>, ElfError> {
        let odd = || {
            let (bytes, entry) = (self.bytes.unwrap_or(0), self.entry.unwrap_or(0));
            ElfError::Table(tag, bytes, entry)
        };
        let (address, bytes, entry) = match (self.address, self.bytes, self.entry) {
            (None, None, None) => return Ok(Vec::new()),
            (Some(address), Some(bytes), Some(entry)) => (address, bytes, entry),
            _ => return Err(odd()),
        };
        if usize::try_from(entry) != Ok(entry_bytes) || !bytes.is_multiple_of(entry) {
            return Err(odd());
        }
        if bytes == 0 {
            // Some linkers give a table of no bytes no place either.
            return Ok(Vec::new());
        }
        placed(address, bytes, bias)
            .and_then(|span| contents(segments, &span))
            .map(<[u8]>::to_vec)
            .ok_or(ElfError::TableOutside(address, bytes))
    }
}

fn set_once(slot: &mut Option<u64>, tag: &'static str, value: u64) -> Result<(), ElfError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ElfError::SecondTag(tag)),
    }
}

/// A slice of eight bytes as an array.
pub(super) fn word(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().expect("the caller cut eight bytes")
}
