//! The smallest program: it exits with status 0.

/// Where it is mapped.
const BASE: u64 = 0x40_0000;
const HEADER_BYTES: u16 = 64;
const SEGMENT_BYTES: u16 = 56;
const CODE: [u8; 9] = [
    0x31, 0xff, // xor edi, edi
    0xb8, 0xe7, 0, 0, 0, // mov eax, 231 (exit_group)
    0x0f, 0x05, // syscall
];
const CODE_AT: usize = HEADER_BYTES as usize + SEGMENT_BYTES as usize;
const BYTES: usize = CODE_AT + CODE.len();

/// A static x86-64 ELF file.
pub(super) static EXITS: [u8; BYTES] = build();

const fn build() -> [u8; BYTES] {
    let file = [0; BYTES];
    let file = put(file, 0, *b"\x7fELF\x02\x01\x01"); // 64-bit, little-endian, version 1
    let file = put(file, 16, 2_u16.to_le_bytes()); // e_type: ET_EXEC
    let file = put(file, 18, 62_u16.to_le_bytes()); // e_machine: EM_X86_64
    let file = put(file, 20, 1_u32.to_le_bytes()); // e_version
    let file = put(file, 24, (BASE + CODE_AT as u64).to_le_bytes()); // e_entry
    let file = put(file, 32, (HEADER_BYTES as u64).to_le_bytes()); // e_phoff
    let file = put(file, 52, HEADER_BYTES.to_le_bytes()); // e_ehsize
    let file = put(file, 54, SEGMENT_BYTES.to_le_bytes()); // e_phentsize
    let file = put(file, 56, 1_u16.to_le_bytes()); // e_phnum
    let segment = HEADER_BYTES as usize;
    let file = put(file, segment, 1_u32.to_le_bytes()); // p_type: PT_LOAD
    let file = put(file, segment + 4, 5_u32.to_le_bytes()); // p_flags: read, execute
    let file = put(file, segment + 16, BASE.to_le_bytes()); // p_vaddr; p_offset is 0
    let file = put(file, segment + 24, BASE.to_le_bytes()); // p_paddr
    let file = put(file, segment + 32, (BYTES as u64).to_le_bytes()); // p_filesz
    let file = put(file, segment + 40, (BYTES as u64).to_le_bytes()); // p_memsz
    let file = put(file, segment + 48, 0x1000_u64.to_le_bytes()); // p_align
    put(file, CODE_AT, CODE)
}

const fn put<const N: usize>(mut file: [u8; BYTES], at: usize, bytes: [u8; N]) -> [u8; BYTES] {
    let mut index = 0;
    while index < N {
        file[at + index] = bytes[index];
        index += 1;
    }
    file
}
