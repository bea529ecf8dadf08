//! The memory around the guests, and the modules that most instances are of.

use cellwall::abi::{CODE_WINDOW, PAGE_BYTES};
use cellwall::{Engine, Error, Module, ModuleBuilder, Protection};

use crate::guests;

pub(crate) const PAGE: u64 = PAGE_BYTES;

/// What a guest may only read, and what is in it.
pub(crate) const CONSTANTS: u64 = 0x2_0000;
pub(crate) const CONSTANT_WORDS: [u64; 3] = [0x0123_4567_89ab_cdef, 42, u64::MAX];
/// What it may change, and what is in it at first.
pub(crate) const INITIAL: u64 = 0x3_0000;
pub(crate) const INITIAL_WORD: u64 = 0x1717_1717_1717_1717;
pub(crate) const INITIAL_BYTES: u64 = 3 * PAGE;
/// Random bytes.
pub(crate) const SEED: u64 = 0x4_0000;
pub(crate) const SEED_BYTES: u64 = 32;
pub(crate) const INPUT: u64 = 0x5_0000;
pub(crate) const INPUT_BYTES: u64 = 2 * PAGE;
/// Zeros at first.
pub(crate) const DATA: u64 = 0x10_0000;
pub(crate) const DATA_BYTES: u64 = 64 * PAGE;
pub(crate) const STACK: u64 = 0x80_0000;
pub(crate) const STACK_BYTES: u64 = 16 * PAGE;
pub(crate) const HEAP: u64 = 0x1000_0000;
pub(crate) const HEAP_BYTES: u64 = 64 << 20;
/// Where nothing is at first.
pub(crate) const FREE: u64 = 0x4000_0000;
pub(crate) const FREE_BYTES: u64 = 0x2000_0000;
/// Code that comes later.
pub(crate) const WINDOW: u64 = CODE_WINDOW.start + 0x10_0000;
pub(crate) const WINDOW_BYTES: u64 = 16 * PAGE;

/// Whose instances are made most: the pool keeps workers by module.
#[derive(Clone)]
pub(crate) struct Modules {
    pub(crate) plain: Module,
    /// The host is asked for what is not there.
    pub(crate) paged: Module,
    /// With room for code.
    pub(crate) open: Module,
}

impl Modules {
    pub(crate) fn new(engine: &Engine) -> Result<Self, Error> {
        let open = builder().code_window(WINDOW, WINDOW_BYTES);
        Ok(Self {
            plain: builder().build(engine)?,
            paged: builder().dynamic_paging().build(engine)?,
            open: open.build(engine)?,
        })
    }
}

/// What all of them have.
pub(crate) fn builder() -> ModuleBuilder {
    let constants: Vec<u8> = CONSTANT_WORDS
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect();
    Module::builder()
        .code(&guests::code())
        .data(CONSTANTS, &constants, Protection::Read)
        .data(INITIAL, &initial(), Protection::ReadWrite)
        .zeroed(SEED, PAGE, Protection::ReadWrite)
        .entropy(SEED, SEED_BYTES)
        .input(INPUT, INPUT_BYTES)
        .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
        .stack(STACK, STACK_BYTES)
        .heap(HEAP, HEAP_BYTES)
}

/// The contents of [`INITIAL`].
pub(crate) fn initial() -> Vec<u8> {
    let words = usize::try_from(INITIAL_BYTES / 8).unwrap_or(0);
    INITIAL_WORD.to_le_bytes().repeat(words)
}
