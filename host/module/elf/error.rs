//! Why a file is refused.

use std::fmt;

use thiserror::Error;

use super::{ALIGNMENT_MAX, LOADS_MAX, MEMORY_BYTES_MAX, SEGMENTS_MAX};

/// Which program header, and the address that the file gives it.
///
/// Both as `readelf -lW` shows them: counted from 0, and before a static-PIE is placed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The number of the program header.
    pub index: usize,
    /// Its `p_vaddr`.
    pub address: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "segment {} at {:#x}", self.index, self.address)
    }
}

/// Why a file is no guest that we can load.
///
/// The messages speak to whoever built the file: what is wrong, where, and which option of the
/// compiler or linker avoids it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ElfError {
    /// Fewer bytes than an ELF header has.
    #[error("the file has only {0} bytes; an ELF header has 64")]
    Truncated(usize),
    /// No `\x7fELF`.
    #[error("not an ELF file: it begins with {0:02x?}")]
    Magic([u8; 4]),
    /// `EI_CLASS`.
    #[error("ELF class {0}; a guest is a 64-bit file (class 2), see -m64")]
    Class(u8),
    /// `EI_DATA`.
    #[error("ELF data encoding {0}; a guest is a little-endian file (encoding 1)")]
    Encoding(u8),
    /// `EI_VERSION` or `e_version`.
    #[error("ELF version {0}; only version 1 is defined")]
    Version(u32),
    /// `EI_OSABI` and `EI_ABIVERSION`.
    #[error(
        "made for operating system ABI {0}, version {1}; \
         a guest is made for System V (0) or GNU (3), version 0"
    )]
    OsAbi(u8, u8),
    /// `e_machine`.
    #[error("made for machine {0}; a guest is made for x86-64 (62)")]
    Machine(u16),
    /// `e_type`.
    #[error(
        "ELF type {0} (1: object file, 4: core); a guest is an executable (2) or a static-PIE (3): \
         link it with -static or -static-pie"
    )]
    FileType(u16),
    /// `e_flags`, of which x86-64 defines none.
    #[error("processor flags {0:#x}; x86-64 defines none")]
    FileFlags(u32),
    /// `e_ehsize`.
    #[error("the ELF header says that it has {0} bytes; it has 64")]
    HeaderSize(u16),
    /// `e_phentsize`.
    #[error("program headers of {0} bytes each; they have 56")]
    EntrySize(u16),
    /// `e_phnum` of 0 or `PN_XNUM`.
    #[error("{0} program headers; there must be at least one and fewer than 65535")]
    HeaderCount(u16),
    /// `e_phoff`.
    #[error("{1} program headers at offset {0:#x} do not lie within the file's {2} bytes")]
    HeadersOutsideFile(u64, u16, usize),

    /// No `PT_LOAD` with any memory.
    #[error("no segment is to be loaded")]
    NothingToLoad,
    /// More `PT_LOAD` headers than any sane linker makes.
    #[error("more than {LOADS_MAX} segments to load")]
    TooManyLoads,
    /// More pieces of memory than a worker can map.
    #[error("{0} pieces of memory with protections of their own; at most {SEGMENTS_MAX} fit")]
    TooManySegments(usize),
    /// The same kind of header twice, which is legal once.
    #[error("{0}: a second program header of type {1:#x}; only one is allowed")]
    SecondHeader(Place, u32),
    /// `PT_INTERP`.
    #[error("{0}: asks for a dynamic loader (PT_INTERP); link with -static or -static-pie")]
    Interpreter(Place),
    /// `PT_TLS`.
    #[error("{0}: thread-local storage (PT_TLS); a guest has one thread and no thread pointer")]
    ThreadLocal(Place),
    /// A program header that we know nothing about.
    #[error("{0}: unknown program header type {1:#x}")]
    UnknownHeader(Place, u32),
    /// `PT_GNU_STACK` with `PF_X`.
    #[error("{0}: asks for an executable stack (PT_GNU_STACK); link with -z noexecstack")]
    ExecutableStack(Place),

    /// `PF_W` and `PF_X`.
    #[error("{0} is writable and executable; link with -z separate-code and without -N")]
    WritableAndExecutable(Place),
    /// No `PF_R`, or a flag beyond `PF_R`, `PF_W` and `PF_X`.
    #[error("{0} has flags {1:#x}; a guest's memory is R (4), RW (6) or RX (5)")]
    Flags(Place, u32),
    /// `p_align`.
    #[error("{0} has alignment {1:#x}; it must be a power of two of at most {ALIGNMENT_MAX:#x}")]
    Alignment(Place, u64),
    /// `p_vaddr` and `p_offset` differ within a page.
    #[error("{0} lies at file offset {1:#x}, not at the same place within a page of 4096 bytes")]
    Misaligned(Place, u64),
    /// `p_filesz` over `p_memsz`.
    #[error("{0} has {1:#x} bytes in the file, more than its {2:#x} bytes of memory")]
    FileExceedsMemory(Place, u64, u64),
    /// `p_offset` and `p_filesz`.
    #[error("{0}: {2:#x} bytes at offset {1:#x} do not lie within the file")]
    OutsideFile(Place, u64, u64),
    /// Segments that together take more bytes than the file has.
    #[error("{0}: the segments take more bytes of the file than it has; two share some")]
    FileBytesShared(Place),
    /// `p_vaddr` and `p_memsz`, placed, leave the guest's addresses.
    #[error("{0} of {1:#x} bytes does not lie within a guest's addresses, 0x10000 to 0x100000000")]
    OutsideGuest(Place, u64),
    /// More memory than a file may ask for.
    #[error("{0}: the segments have more than {MEMORY_BYTES_MAX:#x} bytes of memory")]
    TooLarge(Place),
    /// `PT_LOAD` headers must ascend by address.
    #[error("{0} follows {1}; segments to load must ascend by address")]
    Unordered(Place, Place),
    /// Two segments claim the same bytes.
    #[error("{0} overlaps {1}")]
    Overlap(Place, Place),
    /// Two segments with different protections claim the same page.
    #[error(
        "{0} shares a page with {1}, which has another protection; \
         link with -z separate-code and -z max-page-size=4096"
    )]
    SharedPage(Place, Place),
    /// `.bss` in an executable segment.
    #[error("{0} is executable and {1:#x} bytes of it are not in the file; move .bss out of it")]
    ZeroedCode(Place, u64),
    /// `e_entry`.
    #[error("the entry point {0:#x} lies in no executable segment's bytes")]
    Entry(u64),

    /// A position-independent file without `PT_DYNAMIC`.
    #[error(
        "position-independent, but no PT_DYNAMIC tells what to relocate; link with -static-pie"
    )]
    NoDynamic,
    /// `PT_DYNAMIC` outside what the file brings.
    #[error("{0}: the dynamic section does not lie within one segment's bytes")]
    DynamicOutside(Place),
    /// No `DT_NULL`.
    #[error("the dynamic section has no DT_NULL at its end")]
    DynamicEnd,
    /// `DT_NEEDED`.
    #[error("needs a shared library (DT_NEEDED); link with -static-pie -nostdlib")]
    Needed,
    /// `DT_TEXTREL`.
    #[error("asks for relocations of its code (DT_TEXTREL); compile with -fPIE")]
    TextRelocations,
    /// Constructors or destructors, by the tag that lists them.
    #[error(
        "has functions to run before or after its entry ({0}); \
         a guest is entered once, at its entry, which must call them itself"
    )]
    Constructors(&'static str),
    /// `DT_REL` or `DT_JMPREL` with entries, by the tag that has their size.
    #[error("has relocations of a kind that a static-PIE needs none of ({0} is {1} bytes)")]
    ForeignRelocations(&'static str, u64),
    /// `DT_FLAGS` or `DT_FLAGS_1` with a bit that asks for more than we do.
    #[error("{0} is {1:#x}, which asks for more than this loader does")]
    DynamicFlags(&'static str, u64),
    /// A dynamic tag that we know nothing about.
    #[error("unknown dynamic tag {0:#x}; is it a shared library? link with -static-pie")]
    UnknownTag(i64),
    /// A dynamic tag twice, which is legal once.
    #[error("the dynamic section has {0} twice")]
    SecondTag(&'static str),
    /// A relocation table without one of the tags for its place, its size and the size of its
    /// entries, or with sizes that do not go together. What is missing counts as 0.
    #[error(
        "the tags of the relocation table {0} do not go together: {1} bytes, {2} an entry; \
         its address and both sizes must be there, and the entries be of the ABI's size"
    )]
    Table(&'static str, u64, u64),
    /// A relocation table outside what the file brings.
    #[error(
        "the relocation table at {0:#x} of {1:#x} bytes does not lie within one segment's bytes"
    )]
    TableOutside(u64, u64),

    /// `R_X86_64_IRELATIVE`: a function that chooses a function.
    #[error("relocation {0} is IRELATIVE (an IFUNC); no guest code runs while a file is loaded")]
    IndirectFunction(usize),
    /// Anything but `R_X86_64_RELATIVE`.
    #[error("relocation {0} has type {1}; only R_X86_64_RELATIVE (8) is understood")]
    RelocationType(usize, u32),
    /// An `R_X86_64_RELATIVE` that names a symbol.
    #[error("relocation {0} is R_X86_64_RELATIVE and names symbol {1}")]
    RelocationSymbol(usize, u32),
    /// A relocation of an executable segment.
    #[error("a relocation at {0:#x} changes code; compile with -fPIE")]
    RelocatedCode(u64),
    /// A relocation of memory that the file has no bytes for.
    #[error("a relocation at {0:#x} lies in no segment's bytes")]
    RelocationOutside(u64),
    /// A `DT_RELR` bitmap with no address before it.
    #[error("the DT_RELR table begins with a bitmap")]
    RelrBitmap,
    /// `PT_GNU_RELRO` outside a writable segment.
    #[error("{0}: PT_GNU_RELRO of {1:#x} bytes does not lie within one writable segment")]
    RelroOutside(Place, u64),
}
