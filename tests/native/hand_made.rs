//! ELF files made segment by segment, with code from an assembler.

use iced_x86::code_asm::CodeAssembler;

/// Readable, and what else a segment is.
pub(crate) const READ: u32 = 4;
pub(crate) const READ_WRITE: u32 = 6;
pub(crate) const READ_EXECUTE: u32 = 5;

/// Where the code of [`executable`] is.
pub(crate) const CODE: u64 = 0x40_0000;

/// A segment to be loaded, behind a page boundary.
pub(crate) struct Load {
    pub(crate) address: u64,
    pub(crate) flags: u32,
    pub(crate) contents: Vec<u8>,
    pub(crate) memory_bytes: u64,
}

impl Load {
    /// As large as its contents.
    pub(crate) fn full(address: u64, flags: u32, contents: &[u8]) -> Self {
        Self {
            address,
            flags,
            contents: contents.to_vec(),
            memory_bytes: contents.len() as u64,
        }
    }
}

/// An executable at fixed addresses: this code at [`CODE`], and more segments behind it.
pub(crate) fn executable(write: impl FnOnce(&mut CodeAssembler), more: Vec<Load>) -> Vec<u8> {
    let mut code = CodeAssembler::new(64).expect("an assembler");
    write(&mut code);
    let code = code.assemble(CODE).expect("valid instructions");
    let mut loads = vec![Load::full(CODE, READ_EXECUTE, &code)];
    loads.extend(more);

    // ET_EXEC for x86-64; the program headers follow this one.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file.extend([CODE, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(b"\0\0\0\0\x40\0\x38\0");
    let count = u64::try_from(loads.len()).expect("a count");
    // Their number, and that there are no sections.
    file.extend(count.to_le_bytes());
    let mut offset = (64 + 56 * count).next_multiple_of(0x1000);
    for load in &loads {
        let bytes = load.contents.len() as u64;
        file.extend(1_u32.to_le_bytes());
        file.extend(load.flags.to_le_bytes());
        let place = offset + load.address % 0x1000;
        let words = [
            place,
            load.address,
            load.address,
            bytes,
            load.memory_bytes,
            0x1000,
        ];
        file.extend(words.map(u64::to_le_bytes).concat());
        offset = (place + bytes).next_multiple_of(0x1000);
    }
    for load in &loads {
        // What lies between two segments belongs to none of them and must not show up.
        let place = file.len().next_multiple_of(0x1000);
        file.resize(place, 0xee);
        let within = usize::try_from(load.address % 0x1000).expect("within a page");
        file.resize(place + within, 0xee);
        file.extend(&load.contents);
    }
    let end = file.len().next_multiple_of(0x1000);
    file.resize(end, 0xee);
    file
}
