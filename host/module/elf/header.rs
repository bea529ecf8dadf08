//! The file header and the list of program headers: what the file says it is made of.

use std::mem::size_of;

use object::LittleEndian;
use object::elf::{self, FileHeader64, Ident, ProgramHeader64, ProgramType};
use object::pod::{self, Pod};

use super::error::{ElfError, Place};
use super::{LOAD_BIAS, LOADS_MAX};

type FileHeader = FileHeader64<LittleEndian>;
type ProgramHeader = ProgramHeader64<LittleEndian>;

/// A program header, as the file says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) kind: ProgramType,
    pub(super) flags: u32,
    pub(super) offset: u64,
    /// Not yet placed: the bias of a static-PIE is to be added.
    pub(super) address: u64,
    pub(super) file_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) alignment: u64,
}

impl Part {
    pub(super) fn place(&self) -> Place {
        Place {
            index: self.index,
            address: self.address,
        }
    }
}

/// All that the headers say.
#[derive(Debug)]
pub(super) struct Program {
    /// What to add to every address of the file.
    pub(super) bias: u64,
    /// Where to begin, placed.
    pub(super) entry: u64,
    /// `PT_LOAD`, as many as [`LOADS_MAX`], none of them without memory.
    pub(super) loads: Vec<Part>,
    /// `PT_DYNAMIC`, which a static-PIE has.
    pub(super) dynamic: Option<Part>,
    /// `PT_GNU_RELRO`.
    pub(super) relro: Option<Part>,
}

/// Reads the headers of `file`.
pub(super) fn read(file: &[u8]) -> Result<Program, ElfError> {
    let header = read_pod::<FileHeader>(file).ok_or(ElfError::Truncated(file.len()))?;
    check_ident(&header.e_ident)?;
    let relocatable = check_header(&header)?;
    let bias = if relocatable { LOAD_BIAS } else { 0 };
    let entry = header.e_entry.get(LittleEndian);
    let mut program = Program {
        bias,
        entry: entry.checked_add(bias).ok_or(ElfError::Entry(entry))?,
        loads: Vec::new(),
        dynamic: None,
        relro: None,
    };
    for (index, raw) in program_headers(file, &header)?.enumerate() {
        sort(&mut program, part(index, &raw))?;
    }
    if relocatable && program.dynamic.is_none() {
        return Err(ElfError::NoDynamic);
    }
    Ok(program)
}

/// The structure that `bytes` begin with. Copied, since a file in memory may lie at any address
/// and the structures of `object` want theirs aligned.
fn read_pod<T: Pod>(bytes: &[u8]) -> Option<T> {
    let mut aligned = [0_u64; size_of::<FileHeader>() / 8];
    let copy = pod::bytes_of_slice_mut(&mut aligned).get_mut(..size_of::<T>())?;
    copy.copy_from_slice(bytes.get(..size_of::<T>())?);
    pod::from_bytes::<T>(copy).ok().map(|(value, _)| *value)
}

fn check_ident(ident: &Ident) -> Result<(), ElfError> {
    if ident.magic != elf::ELFMAG {
        return Err(ElfError::Magic(ident.magic));
    }
    if ident.class != elf::ELFCLASS64 {
        return Err(ElfError::Class(ident.class.0));
    }
    if ident.data != elf::ELFDATA2LSB {
        return Err(ElfError::Encoding(ident.data.0));
    }
    if ident.version != elf::EV_CURRENT {
        return Err(ElfError::Version(ident.version.0.into()));
    }
    // GNU says that GNU's extensions are used; those that matter show up as headers we refuse.
    let known = [elf::ELFOSABI_SYSV, elf::ELFOSABI_GNU].contains(&ident.os_abi);
    if !known || ident.abi_version != 0 {
        return Err(ElfError::OsAbi(ident.os_abi.0, ident.abi_version));
    }
    Ok(())
}

/// Whether the file is position-independent; its program headers are counted and sized elsewhere.
fn check_header(header: &FileHeader) -> Result<bool, ElfError> {
    let machine = header.e_machine.get(LittleEndian);
    if machine != elf::EM_X86_64 {
        return Err(ElfError::Machine(machine.0));
    }
    let version = header.e_version.get(LittleEndian);
    if version != u32::from(elf::EV_CURRENT.0) {
        return Err(ElfError::Version(version));
    }
    let flags = header.e_flags.get(LittleEndian);
    if flags.0 != 0 {
        return Err(ElfError::FileFlags(flags.0));
    }
    let size = header.e_ehsize.get(LittleEndian);
    if usize::from(size) != size_of::<FileHeader>() {
        return Err(ElfError::HeaderSize(size));
    }
    match header.e_type.get(LittleEndian) {
        elf::ET_EXEC => Ok(false),
        elf::ET_DYN => Ok(true),
        other => Err(ElfError::FileType(other.0)),
    }
}

/// The program headers of `file`, in its order.
fn program_headers<'file>(
    file: &'file [u8],
    header: &FileHeader,
) -> Result<impl Iterator<Item = ProgramHeader> + 'file, ElfError> {
    const ENTRY_BYTES: usize = size_of::<ProgramHeader>();
    let entry_size = header.e_phentsize.get(LittleEndian);
    let count = header.e_phnum.get(LittleEndian);
    let offset = header.e_phoff.get(LittleEndian);
    // The count first: a file without program headers, an object file say, may have no size either.
    if count == 0 || count == elf::PN_XNUM {
        return Err(ElfError::HeaderCount(count));
    }
    if usize::from(entry_size) != ENTRY_BYTES {
        return Err(ElfError::EntrySize(entry_size));
    }
    // At most 65534 * 56: no overflow.
    let bytes = u64::from(count) * u64::from(entry_size);
    let table = slice(file, offset, bytes).ok_or(ElfError::HeadersOutsideFile(
        offset,
        count,
        file.len(),
    ))?;
    Ok(table.chunks_exact(ENTRY_BYTES).filter_map(read_pod))
}

fn part(index: usize, raw: &ProgramHeader) -> Part {
    Part {
        index,
        kind: raw.p_type.get(LittleEndian),
        flags: raw.p_flags.get(LittleEndian).0,
        offset: raw.p_offset.get(LittleEndian),
        address: raw.p_vaddr.get(LittleEndian),
        file_bytes: raw.p_filesz.get(LittleEndian),
        memory_bytes: raw.p_memsz.get(LittleEndian),
        alignment: raw.p_align.get(LittleEndian),
    }
}

/// Puts one program header where it belongs, or refuses it. The module's page has the reasons.
fn sort(program: &mut Program, part: Part) -> Result<(), ElfError> {
    match part.kind {
        elf::PT_LOAD if part.memory_bytes == 0 && part.file_bytes == 0 => {}
        elf::PT_LOAD if program.loads.len() == LOADS_MAX => return Err(ElfError::TooManyLoads),
        elf::PT_LOAD => program.loads.push(part),
        elf::PT_DYNAMIC => set_once(&mut program.dynamic, part)?,
        elf::PT_GNU_RELRO => set_once(&mut program.relro, part)?,
        elf::PT_GNU_STACK if part.flags & elf::PF_X.0 != 0 => {
            return Err(ElfError::ExecutableStack(part.place()));
        }
        elf::PT_INTERP => return Err(ElfError::Interpreter(part.place())),
        elf::PT_TLS => return Err(ElfError::ThreadLocal(part.place())),
        elf::PT_NULL
        | elf::PT_NOTE
        | elf::PT_PHDR
        | elf::PT_GNU_STACK
        | elf::PT_GNU_PROPERTY
        | elf::PT_GNU_EH_FRAME
        | elf::PT_GNU_SFRAME => {}
        unknown => return Err(ElfError::UnknownHeader(part.place(), unknown.0)),
    }
    Ok(())
}

fn set_once(slot: &mut Option<Part>, part: Part) -> Result<(), ElfError> {
    match slot.replace(part) {
        None => Ok(()),
        Some(_) => Err(ElfError::SecondHeader(part.place(), part.kind.0)),
    }
}

/// The `bytes` bytes of `file` at `offset`, if it has them all.
pub(super) fn slice(file: &[u8], offset: u64, bytes: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(bytes)?).ok()?;
    file.get(start..end)
}
