//! The one module that every attempt runs: all programs beside each other, each at its own entry.

use std::collections::BTreeMap;

use cellwall::abi::CODE_WINDOW;
use cellwall::{Engine, Error, Module, Protection};
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

use super::{compat, guests, instructions};

/// Readable and writable memory: the props, then the block of words that the host writes.
pub(super) const DATA: u64 = 0x2_0000;
const DATA_BYTES: u64 = 0x1_0000;
pub(super) const BLOCK: u64 = DATA + 0x8000;
/// Memory that can only be read.
pub(super) const CONSTANTS: u64 = 0x4_0000;
/// Code below 4 GiB, for the 32-bit mode.
pub(super) const LOW_CODE: u64 = 0x8_0000;
pub(super) const STACK: u64 = 0x10_0000;
pub(super) const STACK_BYTES: u64 = 0x1_0000;
/// Where the worker's own memory is copied to, so that the host can read it.
pub(super) const COPIES: u64 = 0x20_0000;
pub(super) const COPIES_BYTES: u64 = 0x10_0000;
/// Memory that no guest but the bomb touches.
pub(super) const PLENTY: u64 = 0x1000_0000;
pub(super) const PLENTY_BYTES: u64 = 32 << 20;

/// Programs begin at multiples of this; what is between them is `int3`.
const ALIGNMENT: usize = 16;

/// One program.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) code: Code,
}

/// What a program consists of.
pub(super) enum Code {
    /// For the assembler.
    Written(fn(&mut CodeAssembler) -> Result<(), IcedError>),
    /// Machine code that stays what it is wherever it is.
    Bytes(Vec<u8>),
}

/// Where a program is.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) entry: u64,
    /// The address after its last byte.
    pub(super) end: u64,
}

impl Placed {
    /// The address of the two-byte instruction before the `ret` that ends a program: the door to
    /// the kernel that the program tries.
    pub(super) const fn door(self) -> u64 {
        self.end - 3
    }
}

/// All programs.
pub(super) struct Kit {
    code: Vec<u8>,
    low: Vec<u8>,
    places: BTreeMap<String, Placed>,
}

impl Kit {
    /// Assembles everything. That this works is a matter of the source alone, which a test runs.
    pub(super) fn new() -> Self {
        let mut places = BTreeMap::new();
        let programs = guests::programs()
            .into_iter()
            .chain(instructions::programs());
        let code = place(programs.collect(), 64, CODE_WINDOW.start, &mut places);
        let mut low = place(compat::native(), 64, LOW_CODE, &mut places);
        let next = LOW_CODE + low.len() as u64;
        low.extend(place(compat::programs(), 32, next, &mut places));
        Self { code, low, places }
    }

    pub(super) fn module(&self, engine: &Engine) -> Result<Module, Error> {
        Module::builder()
            .code(&self.code)
            .code_at(LOW_CODE, &self.low)
            .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
            .data(CONSTANTS, b"constants", Protection::Read)
            .stack(STACK, STACK_BYTES)
            .zeroed(COPIES, COPIES_BYTES, Protection::ReadWrite)
            .zeroed(PLENTY, PLENTY_BYTES, Protection::ReadWrite)
            .build(engine)
    }

    /// Where a program of this name is.
    pub(super) fn place(&self, name: &str) -> Placed {
        let place = self.places.get(name);
        *place.unwrap_or_else(|| panic!("no program is called {name}"))
    }

    pub(super) fn entry(&self, name: &str) -> u64 {
        self.place(name).entry
    }
}

fn place(
    programs: Vec<Program>,
    bits: u32,
    start: u64,
    places: &mut BTreeMap<String, Placed>,
) -> Vec<u8> {
    let mut all = Vec::new();
    for program in programs {
        let entry = start + all.len() as u64;
        let code = match program.code {
            Code::Bytes(bytes) => bytes,
            Code::Written(write) => assemble(write, bits, entry)
                .unwrap_or_else(|error| panic!("{}: {error}", program.name)),
        };
        let end = entry + code.len() as u64;
        all.extend(code);
        all.resize(all.len().next_multiple_of(ALIGNMENT), 0xcc);
        let known = places.insert(program.name.clone(), Placed { entry, end });
        assert!(known.is_none(), "two programs are called {}", program.name);
    }
    all
}

fn assemble(
    write: fn(&mut CodeAssembler) -> Result<(), IcedError>,
    bits: u32,
    entry: u64,
) -> Result<Vec<u8>, IcedError> {
    let mut code = CodeAssembler::new(bits)?;
    write(&mut code)?;
    code.assemble(entry)
}

#[cfg(test)]
mod tests {
    use super::{Kit, LOW_CODE};

    #[test]
    fn every_program_assembles_and_has_its_own_place() {
        let kit = Kit::new();
        let mut ends: Vec<_> = kit.places.values().map(|at| (at.entry, at.end)).collect();
        ends.sort_unstable();
        for pair in ends.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        assert!(kit.entry("far target") >= LOW_CODE);
    }

    #[test]
    fn the_doors_are_where_they_are_said_to_be() {
        let kit = Kit::new();
        for (name, door) in [
            ("syscall", [0x0f, 0x05]),
            ("int 0x80", [0xcd, 0x80]),
            ("sysenter", [0x0f, 0x34]),
            ("sysenter, no stack", [0x0f, 0x34]),
        ] {
            let start = cellwall::abi::CODE_WINDOW.start;
            let at = usize::try_from(kit.place(name).door() - start).unwrap();
            assert_eq!(kit.code[at..at + 3], [door[0], door[1], 0xc3], "{name}");
        }
    }
}
