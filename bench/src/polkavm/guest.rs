//! Programs for the peer, and one instance of it that runs them.

use std::fs;
use std::sync::Arc;

use polkavm::{
    BackendKind, Config, Engine, InterruptKind, MemoryProtection, Module, ModuleConfig,
    ProgramBlob, ProgramCounter, RETURN_TO_HOST, RawInstance, Reg, SandboxKind,
};
use polkavm_common::program::{InstructionSetKind, asm};
use polkavm_common::writer::ProgramBlobBuilder;

use crate::measure::Failure;

/// Without a 1 there it cannot make a userfaultfd in its worker, not even for root.
pub(crate) const PAGING_SYSCTL: &str = "/proc/sys/vm/unprivileged_userfaultfd";

/// Bytes of its pages.
pub(crate) const PAGE: u32 = 4096;

/// Where guest memory begins.
const LOWEST: u32 = 0x1_0000;

/// What a guest's memory is.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    /// So many bytes of zeroes.
    Zeroes(u32),
    /// So many bytes that come with the module.
    Data(u32),
    /// Absent until the host fills it: dynamic paging.
    Paged,
}

/// What a guest does.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    /// Writes a 1 into each page from `A0` up to `A1`.
    TouchPages,
    /// Nothing but hostcalls, without end.
    Hostcalls,
    /// Ends at once.
    Return,
    /// Writes a 1 into each page from `A0` up to `A1`; further instructions, as many and of this
    /// kind, are never reached.
    TouchPagesOf(usize, i32),
}

impl Program {
    fn blob(self, memory: Memory) -> Result<ProgramBlob, Failure> {
        let mut builder = ProgramBlobBuilder::new(InstructionSetKind::Latest64);
        match memory {
            Memory::Zeroes(bytes) => builder.set_rw_data_size(bytes),
            Memory::Data(bytes) => {
                builder.set_rw_data_size(bytes);
                builder.set_rw_data(vec![7; usize::try_from(bytes)?]);
            }
            Memory::Paged => {}
        }
        // Branches name basic blocks: both programs' loops are the first one.
        match self {
            Self::TouchPages => builder.set_code(
                &[
                    asm::store_imm_indirect_u8(Reg::A0, 0, 1),
                    asm::add_imm_64(Reg::A0, Reg::A0, PAGE.cast_signed()),
                    asm::branch_less_unsigned(Reg::A0, Reg::A1, 0),
                    asm::ret(),
                ],
                &[],
            ),
            Self::Return => builder.set_code(&[asm::ret()], &[]),
            Self::TouchPagesOf(padding, value) => {
                let mut code = vec![
                    asm::store_imm_indirect_u8(Reg::A0, 0, 1),
                    asm::add_imm_64(Reg::A0, Reg::A0, PAGE.cast_signed()),
                    asm::branch_less_unsigned(Reg::A0, Reg::A1, 0),
                    asm::ret(),
                ];
                code.extend((0..padding).map(|_| asm::add_imm_64(Reg::A2, Reg::A2, value)));
                code.push(asm::ret());
                builder.set_code(&code, &[]);
            }
            Self::Hostcalls => builder.set_code(&[asm::ecalli(0), asm::jump(0)], &[]),
        }
        builder.add_export_by_basic_block(0, b"main");
        Ok(ProgramBlob::parse(builder.into_vec()?.into())?)
    }
}

/// A compiled program, and the engine that its workers belong to.
pub(crate) struct Compiled {
    module: Module,
    memory: Memory,
    // Last: its workers outlive the instances.
    _engine: Arc<Engine>,
}

impl Compiled {
    /// Of an engine that keeps workers for the next instance.
    pub(crate) fn new(memory: Memory, program: Program) -> Result<Self, Failure> {
        Self::on(&engine(memory, WORKERS)?, memory, program)
    }

    /// Of an engine that is there.
    pub(crate) fn on(
        engine: &Arc<Engine>,
        memory: Memory,
        program: Program,
    ) -> Result<Self, Failure> {
        let paged = matches!(memory, Memory::Paged);
        let mut options = ModuleConfig::new();
        options.set_page_size(PAGE).set_dynamic_paging(paged);
        Ok(Self {
            module: Module::from_blob(engine, &options, program.blob(memory)?)?,
            memory,
            _engine: Arc::clone(engine),
        })
    }

    /// A new instance, which has not run.
    pub(crate) fn instance(&self) -> Result<Guest, Failure> {
        Ok(Guest {
            data: match self.memory {
                Memory::Zeroes(_) | Memory::Data(_) => self.module.memory_map().rw_data_address(),
                Memory::Paged => LOWEST,
            },
            instance: self.module.instantiate()?,
        })
    }
}

/// How many idle workers an engine keeps, unless told otherwise.
pub(crate) const WORKERS: usize = 2;

/// An engine that keeps so many idle workers for each CPU.
pub(crate) fn engine(memory: Memory, workers: usize) -> Result<Arc<Engine>, Failure> {
    let paged = matches!(memory, Memory::Paged);
    if paged && fs::read_to_string(PAGING_SYSCTL)?.trim() != "1" {
        return Err("needs vm.unprivileged_userfaultfd=1".into());
    }
    let mut config = Config::new();
    config
        .set_backend(Some(BackendKind::Compiler))
        .set_sandbox(Some(SandboxKind::Linux))
        .set_worker_count(workers)
        .set_allow_dynamic_paging(paged);
    Ok(Arc::new(Engine::new(&config)?))
}

/// One instance.
pub(crate) struct Guest {
    pub(crate) instance: RawInstance,
    /// The address of its first byte of data.
    pub(crate) data: u32,
}

impl Guest {
    /// Has the next run begin at the program's start, with so many pages to touch.
    pub(crate) fn start(&mut self, pages: u32) {
        let end = self.data + pages * PAGE;
        self.instance.set_reg(Reg::RA, RETURN_TO_HOST);
        self.instance.set_reg(Reg::A0, self.data.into());
        self.instance.set_reg(Reg::A1, end.into());
        self.instance.set_next_program_counter(ProgramCounter(0));
    }

    /// Answers a fault, or saves the guest some: zeroes that it may write, in paged memory.
    pub(crate) fn fill(&mut self, address: u32, pages: u32) -> Result<(), Failure> {
        let protection = MemoryProtection::ReadWrite;
        self.instance
            .zero_memory_with_memory_protection(address, pages * PAGE, protection)?;
        Ok(())
    }

    /// A run to the program's end, from its start, which touches so many pages.
    pub(crate) fn finish(&mut self, pages: u32) -> Result<(), Failure> {
        self.start(pages);
        expect(&self.instance.run()?, &InterruptKind::Finished)
    }
}

pub(crate) fn expect(found: &InterruptKind, expected: &InterruptKind) -> Result<(), Failure> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, found {found:?}").into())
    }
}
