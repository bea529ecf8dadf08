//! Guests that no compiler makes: machine code in the smallest ELF file.

use std::ffi::OsString;

use iced_x86::code_asm::{CodeAssembler, eax, r11, rdi, rsi};
use vmctx::map;

use crate::harness::{Outcome, file, run};

/// Where the file is mapped. Code comes first, then [`TEXT`].
const BASE: u64 = 0x40_0000;
const CODE: u64 = 0x1000;
const BYTES: u64 = 0x2000;
/// Where the guest's text is.
pub(crate) const TEXT: u64 = BASE + CODE + 0x800;

/// Runs a guest of this code and text.
pub(crate) fn run_code(text: &[u8], write: impl FnOnce(&mut CodeAssembler)) -> Outcome {
    let guest = file("guest", &elf(text, write));
    run(&[OsString::from("run"), guest.path.clone().into()])
}

/// Makes this hostcall with an address and a length, and finishes with its answer.
pub(crate) fn tell(number: u32, text: &[u8]) -> Outcome {
    run_code(text, |code| {
        code.mov(rdi, TEXT).unwrap();
        code.mov(rsi, text.len() as u64).unwrap();
        code.mov(eax, number).unwrap();
        code.mov(r11, map::HOSTCALL).unwrap();
        code.call(r11).unwrap();
        code.ret().unwrap();
    })
}

/// Finishes with this value.
pub(crate) fn finish(value: u64) -> Outcome {
    run_code(b"", |code| {
        code.mov(iced_x86::code_asm::rax, value).unwrap();
        code.ret().unwrap();
    })
}

/// Writes a word where the worker keeps its state, and goes on for ever.
pub(crate) fn forge(word: u32) -> Outcome {
    run_code(b"", |code| {
        let mut again = code.create_label();
        code.mov(r11, map::STATE_WORD).unwrap();
        code.set_label(&mut again).unwrap();
        code.mov(iced_x86::code_asm::dword_ptr(r11), word).unwrap();
        code.jmp(again).unwrap();
    })
}

fn elf(text: &[u8], write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut code = CodeAssembler::new(64).unwrap();
    write(&mut code);
    let code = code.assemble(BASE + CODE).unwrap();
    assert!(BASE + CODE + code.len() as u64 <= TEXT && TEXT + text.len() as u64 <= BASE + BYTES);
    let mut file = vec![0; usize::try_from(BYTES).unwrap()];
    let mut put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        file[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2_u16.to_le_bytes()); // ET_EXEC
    put(18, &62_u16.to_le_bytes()); // x86-64
    put(20, &1_u32.to_le_bytes());
    put(24, &(BASE + CODE).to_le_bytes()); // entry
    put(32, &64_u64.to_le_bytes()); // program headers
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &1_u16.to_le_bytes()); // one
    put(64, &1_u32.to_le_bytes()); // PT_LOAD
    put(68, &5_u32.to_le_bytes()); // read, execute
    for address in [80, 88] {
        put(address, &BASE.to_le_bytes());
    }
    for length in [96, 104] {
        put(length, &BYTES.to_le_bytes());
    }
    put(112, &0x1000_u64.to_le_bytes());
    put(CODE, &code);
    put(TEXT - BASE, text);
    file
}
