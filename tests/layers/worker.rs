//! A worker that makes whatever system call a test wants, behind the layers that are left.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;

use cellwall::abi::CODE_WINDOW;
use cellwall::{
    Config, Death, Engine, Errno, Error, Instance, Interrupt, Layer, Layers, Module, Protection,
    Signal, TrapKind,
};
use iced_x86::code_asm::{
    CodeAssembler, byte_ptr, eax, edi, qword_ptr, r8, r9, r10, rax, rdi, rdx, rsi, sil,
};
use linux_raw::sys::general as sys;

/// The guest's memory: first the words of a call, then what its arguments point to.
pub(crate) const DATA: u64 = 0x2_0000;
pub(crate) const DATA_BYTES: u64 = 0x1_0000;
/// A page of the module's that is never written.
pub(crate) const CONSTANTS: u64 = 0x4_0000;
const STACK: u64 = 0x10_0000;
const STACK_BYTES: u64 = 0x1_0000;
/// A call: its number and six arguments.
const CALL_WORDS: usize = 7;

/// What the guest can do, and where its code for it begins.
const CALL: u64 = CODE_WINDOW.start;
const LOAD: u64 = CODE_WINDOW.start + 0x80;
const STORE: u64 = CODE_WINDOW.start + 0xa0;
const READ_COUNTER: u64 = CODE_WINDOW.start + 0xc0;

/// The last page of the module's data, which nothing else of the guest needs.
pub(crate) const SPARE_PAGE: u64 = DATA + DATA_BYTES - cellwall::abi::PAGE_BYTES;

/// How an attempt was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The call failed.
    Refused(Errno),
    /// A signal ended the worker.
    Killed(Signal),
    /// The filter ended it.
    Forbidden,
    /// Everything seemed to work, and what was wanted has not happened.
    NoEffect,
    /// The worker executed a program, which ended with this status.
    Exited(i32),
}

/// Whether something got through.
pub(crate) type Attempt = Result<(), Stop>;

/// Got through if this was seen.
pub(crate) fn seen(effect: bool) -> Attempt {
    if effect { Ok(()) } else { Err(Stop::NoEffect) }
}

/// A guest that is at our service.
pub(crate) struct Worker {
    instance: Instance,
    free: u64,
}

/// What it forked, which outlives it without the layers that would end it too.
impl Drop for Worker {
    fn drop(&mut self) {
        let id = self.instance.process_id();
        let path = format!("/proc/{id}/task/{id}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        for child in children.split_whitespace() {
            let killed = std::process::Command::new("kill")
                .args(["-KILL", child])
                .status();
            assert!(killed.is_ok_and(|status| status.success()), "kill {child}");
        }
    }
}

impl Worker {
    /// Starts one behind these layers and those that no worker is without.
    pub(crate) fn start(config: &Config, kept: &[Layer]) -> Result<Self, Error> {
        let engine = Engine::new(&config.clone().only(kept))?;
        let module = Module::builder()
            .code(&code())
            .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
            .data(CONSTANTS, b"constants of the module", Protection::Read)
            .stack(STACK, STACK_BYTES)
            .build(&engine)?;
        Ok(Self {
            instance: engine.instantiate(&module)?,
            free: DATA + 0x100,
        })
    }

    /// One that acts for the host, with nothing to hinder it.
    pub(crate) fn unhindered() -> Self {
        Self::start(&Config::default(), &[]).expect("a worker without layers")
    }

    pub(crate) fn layers(&self) -> Layers {
        self.instance.layers()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.instance.process_id()
    }

    /// Puts bytes where the guest can pass them to the kernel; gives the address.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> u64 {
        let address = self.free;
        self.free = (address + bytes.len() as u64).next_multiple_of(16);
        assert!(self.free <= SPARE_PAGE, "the guest's memory is full");
        self.instance.write(address, bytes).expect("memory");
        address
    }

    /// The same for words.
    pub(crate) fn put_words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// The same for a path or another text that ends with a NUL.
    pub(crate) fn text(&mut self, text: impl AsRef<OsStr>) -> u64 {
        let text = CString::new(text.as_ref().as_bytes()).expect("no NUL inside");
        self.put(text.as_bytes_with_nul())
    }

    /// Reads the guest's memory.
    pub(crate) fn get(&mut self, address: u64, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        self.instance
            .read_into(address, &mut found)
            .expect("memory");
        found
    }

    /// Makes the guest make a system call.
    pub(crate) fn call(&mut self, number: u32, args: &[u64]) -> Result<u64, Stop> {
        let mut words = [0; CALL_WORDS];
        words[0] = number.into();
        words[1..=args.len()].copy_from_slice(args);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.instance.write(DATA, &bytes).expect("memory");
        let answer = self.run(CALL, &[DATA])?;
        // The kernel's errors are the last 4,095 values.
        match u16::try_from(answer.wrapping_neg()).ok() {
            Some(error @ 1..4096) => Err(Stop::Refused(Errno::from_raw(error).expect("an errno"))),
            _ => Ok(answer),
        }
    }

    /// Opens a file, as open(2) does.
    pub(crate) fn open(&mut self, path: impl AsRef<OsStr>, flags: u32) -> Result<u64, Stop> {
        let path = self.text(path);
        self.call(sys::__NR_open, &[path, flags.into()])
    }

    /// Executes a program; its end is the worker's.
    pub(crate) fn execute(&mut self, program: impl AsRef<OsStr>, args: &[&OsStr]) -> Stop {
        let path = self.text(program);
        let mut argv: Vec<u64> = args.iter().map(|arg| self.text(arg)).collect();
        argv.push(0);
        let argv = self.put_words(&argv);
        let environment = self.put_words(&[0]);
        match self.call(sys::__NR_execve, &[path, argv, environment]) {
            Err(stop) => stop,
            Ok(answer) => unreachable!("an exec returned {answer}"),
        }
    }

    /// Makes the guest read a word of its memory.
    pub(crate) fn load(&mut self, address: u64) -> Result<u64, Stop> {
        self.run(LOAD, &[address])
    }

    /// Makes the guest write a byte to its memory.
    pub(crate) fn store(&mut self, address: u64, byte: u8) -> Result<u64, Stop> {
        self.run(STORE, &[address, byte.into()])
    }

    /// Makes the guest read the CPU's counter.
    pub(crate) fn read_counter(&mut self) -> Result<u64, Stop> {
        self.run(READ_COUNTER, &[])
    }

    fn run(&mut self, entry: u64, args: &[u64]) -> Result<u64, Stop> {
        self.instance
            .set_deadline(std::time::Duration::from_secs(10));
        self.instance.call(entry, args).expect("a living worker");
        match self.instance.run().expect("an honest worker") {
            Interrupt::Finished(value) => Ok(value),
            Interrupt::Died(Death::Killed(signal)) => Err(Stop::Killed(signal)),
            Interrupt::Died(Death::Exited(status)) => Err(Stop::Exited(status)),
            Interrupt::Trap(trap) if trap.kind == TrapKind::ForbiddenCall => Err(Stop::Forbidden),
            other => panic!("unexpected: {other}"),
        }
    }
}

/// The guest's code: each piece at its address.
fn code() -> Vec<u8> {
    type Piece = (u64, fn(&mut CodeAssembler));
    let mut code = Vec::new();
    let pieces: [Piece; 4] = [
        (CALL, forward),
        (LOAD, |code| code.mov(rax, qword_ptr(rdi)).unwrap()),
        (STORE, |code| code.mov(byte_ptr(rdi), sil).unwrap()),
        (READ_COUNTER, |code| code.rdtsc().unwrap()),
    ];
    for (address, write) in pieces {
        let mut piece = CodeAssembler::new(64).expect("an assembler");
        write(&mut piece);
        piece.ret().unwrap();
        let offset = usize::try_from(address - CODE_WINDOW.start).expect("a small offset");
        assert!(code.len() <= offset, "the pieces overlap");
        code.resize(offset, 0xcc);
        code.extend(piece.assemble(address).expect("valid instructions"));
    }
    code
}

/// Makes the call whose words `rdi` points to. A forked child ends at once: it shares our memory,
/// and the host knows of one worker only.
fn forward(code: &mut CodeAssembler) {
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.mov(rsi, qword_ptr(rdi + 16)).unwrap();
    code.mov(rdx, qword_ptr(rdi + 24)).unwrap();
    code.mov(r10, qword_ptr(rdi + 32)).unwrap();
    code.mov(r8, qword_ptr(rdi + 40)).unwrap();
    code.mov(r9, qword_ptr(rdi + 48)).unwrap();
    code.mov(rdi, qword_ptr(rdi + 8)).unwrap();
    code.syscall().unwrap();
    let mut done = code.create_label();
    code.test(rax, rax).unwrap();
    code.jne(done).unwrap();
    code.mov(rdx, DATA).unwrap();
    code.cmp(qword_ptr(rdx), sys::__NR_fork.cast_signed())
        .unwrap();
    code.jne(done).unwrap();
    code.xor(edi, edi).unwrap();
    code.mov(eax, sys::__NR_exit_group).unwrap();
    code.syscall().unwrap();
    code.set_label(&mut done).unwrap();
    code.nop().unwrap();
}
