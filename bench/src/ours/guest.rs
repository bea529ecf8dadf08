//! A guest that touches pages and makes hostcalls, and what runs it.

use cellwall::abi::{CODE_WINDOW, HOSTCALL};
use cellwall::{Config, Engine, Instance, Interrupt, Module, ModuleBuilder};

use crate::cpus::two_cpus;
use crate::measure::Failure;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;

/// Where the pages are that it touches.
pub(crate) const DATA: u64 = 0x1000_0000;

/// Writes a 1 to each page from the first argument up to the second, the third one apart.
pub(crate) const WRITE: u64 = CODE_WINDOW.start;

/// Reads a byte of each of these pages.
pub(crate) const READ: u64 = CODE_WINDOW.start + 0x10;

/// Nothing but hostcalls, without end.
pub(crate) const HOSTCALLS: u64 = CODE_WINDOW.start + 0x20;

/// Gives its argument back.
pub(crate) const IDENTITY: u64 = CODE_WINDOW.start + 0x40;

/// An engine whose workers are on one CPU; this thread stays on another from now on.
pub(crate) fn engine() -> Result<Engine, Failure> {
    engine_with(Config::default())
}

/// The same with more to choose.
pub(crate) fn engine_with(config: Config) -> Result<Engine, Failure> {
    let (here, there) = two_cpus()?;
    let engine = Engine::new(&config.cpus(&[there.number()]))?;
    // After the engine's own thread was started, which belongs to neither.
    here.pin()?;
    Ok(engine)
}

/// The guest's code and stack: its data is for each figure to add.
pub(crate) fn parts() -> ModuleBuilder {
    parts_with(&[])
}

/// The same with further bytes of code, which are never reached.
pub(crate) fn parts_with(never: &[u8]) -> ModuleBuilder {
    // 1: mov byte ptr [rdi], 1; add rdi, rdx; cmp rdi, rsi; jb 1b; ret
    let mut code = vec![
        0xc6, 7, 1, 0x48, 1, 0xd7, 0x48, 0x39, 0xf7, 0x72, 0xf5, 0xc3,
    ];
    code.resize(0x10, 0xcc);
    // 1: mov al, [rdi]; add rdi, rdx; cmp rdi, rsi; jb 1b; ret
    code.extend([0x8a, 7, 0x48, 1, 0xd7, 0x48, 0x39, 0xf7, 0x72, 0xf6, 0xc3]);
    code.resize(0x20, 0xcc);
    // 1: mov eax, 1; movabs r11, HOSTCALL; call r11; jmp 1b
    code.extend([0xb8, 1, 0, 0, 0, 0x49, 0xbb]);
    code.extend(HOSTCALL.to_le_bytes());
    code.extend([0x41, 0xff, 0xd3, 0xeb, 0xec]);
    code.resize(0x40, 0xcc);
    // mov rax, rdi; ret
    code.extend([0x48, 0x89, 0xf8, 0xc3]);
    code.extend(never);
    Module::builder().code(&code).stack(0x10_0000, 0x1_0000)
}

/// So many pages of its data, so many bytes apart.
#[derive(Clone, Copy)]
pub(crate) struct Pages {
    pub(crate) count: u64,
    pub(crate) stride: u64,
}

impl Pages {
    /// Pages that touch each other.
    pub(crate) fn together(count: u64) -> Self {
        Self {
            count,
            stride: PAGE,
        }
    }

    /// The address of the last one.
    pub(crate) fn last(self) -> u64 {
        DATA + (self.count - 1) * self.stride
    }

    /// For `WRITE` and `READ`.
    pub(crate) fn args(self) -> [u64; 3] {
        [DATA, DATA + self.count * self.stride, self.stride]
    }
}

/// One call to its end.
pub(crate) fn finish(instance: &mut Instance, entry: u64, args: &[u64]) -> Result<(), Failure> {
    instance.call(entry, args)?;
    match instance.run()? {
        Interrupt::Finished(_) => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// One call that gives its argument back.
pub(crate) fn identity(instance: &mut Instance, value: u64) -> Result<(), Failure> {
    instance.call(IDENTITY, &[value])?;
    match instance.run()? {
        Interrupt::Finished(found) if found == value => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// What a guest should not have done.
pub(crate) fn unexpected(interrupt: Interrupt) -> Failure {
    format!("the guest's run ended with: {interrupt}").into()
}
