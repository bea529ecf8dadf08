//! The guest: a few functions that touch what they are told, and what the model says they see.

use std::rc::Rc;

use cellwall::abi::{CODE_WINDOW, FINISH, HOSTCALL, PAGE_BYTES};
use cellwall::{Access, Trap, TrapKind};
use iced_x86::BlockEncoderOptions;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, byte_ptr, dword_ptr, eax, esi, qword_ptr, r12, r13, rax, rbx, rcx,
    rdi, rdx, rsi, si, sil, word_ptr,
};

use super::layout::STACK_TOP;
use super::map::{Map, Obstacle};

/// What the guest's checksum multiplies by.
const FACTOR: u64 = 0x0100_0000_01b3;

/// The functions' addresses, and of their instructions that touch what they are told.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) code: Vec<u8>,
    /// By width: 1, 2, 4, 8 bytes.
    pub(super) loads: [u64; 4],
    pub(super) stores: [u64; 4],
    /// Swaps the word at `rdi` with `rsi`.
    pub(super) swap: u64,
    /// Adds `rdx` to the first word of `rsi` pages from `rdi` on.
    pub(super) stride: u64,
    /// Goes through a list at `rdi` of `rsi` pairs: reads the word at the first, and writes the
    /// second there unless it is 0. Where the first is 0 it makes a hostcall of the second number.
    pub(super) walk: u64,
    walk_load: u64,
    walk_store: u64,
    walk_return: u64,
    /// A checksum of `rsi` words from `rdi` on.
    pub(super) checksum: u64,
}

impl Program {
    pub(super) fn new() -> Self {
        let mut code = CodeAssembler::new(64).unwrap();
        let mut labels = [(); 15].map(|()| code.create_label());
        let [
            l1,
            l2,
            l4,
            l8,
            s1,
            s2,
            s4,
            s8,
            swap,
            stride,
            walk,
            load,
            store,
            back,
            sum,
        ] = &mut labels;
        function(&mut code, l1, |code| {
            code.movzx(eax, byte_ptr(rdi)).unwrap()
        });
        function(&mut code, l2, |code| {
            code.movzx(eax, word_ptr(rdi)).unwrap()
        });
        function(&mut code, l4, |code| code.mov(eax, dword_ptr(rdi)).unwrap());
        function(&mut code, l8, |code| code.mov(rax, qword_ptr(rdi)).unwrap());
        function(&mut code, s1, |code| code.mov(byte_ptr(rdi), sil).unwrap());
        function(&mut code, s2, |code| code.mov(word_ptr(rdi), si).unwrap());
        function(&mut code, s4, |code| code.mov(dword_ptr(rdi), esi).unwrap());
        function(&mut code, s8, |code| code.mov(qword_ptr(rdi), rsi).unwrap());
        function(&mut code, swap, |code| {
            code.xchg(qword_ptr(rdi), rsi).unwrap();
            code.mov(rax, rsi).unwrap();
        });
        write_stride(&mut code, stride);
        write_walk(&mut code, walk, load, store, back);
        write_checksum(&mut code, sum);
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let done = code.assemble_options(CODE_WINDOW.start, options).unwrap();
        let [
            l1,
            l2,
            l4,
            l8,
            s1,
            s2,
            s4,
            s8,
            swap,
            stride,
            walk,
            load,
            store,
            back,
            sum,
        ] = labels.map(|label| done.label_ip(&label).unwrap());
        Self {
            code: done.inner.code_buffer,
            loads: [l1, l2, l4, l8],
            stores: [s1, s2, s4, s8],
            swap,
            stride,
            walk,
            walk_load: load,
            walk_store: store,
            walk_return: back,
            checksum: sum,
        }
    }
}

fn function(
    code: &mut CodeAssembler,
    label: &mut CodeLabel,
    body: impl FnOnce(&mut CodeAssembler),
) {
    code.set_label(label).unwrap();
    body(code);
    code.ret().unwrap();
}

fn write_stride(code: &mut CodeAssembler, label: &mut CodeLabel) {
    code.set_label(label).unwrap();
    code.add(qword_ptr(rdi), rdx).unwrap();
    code.add(rdi, 0x1000).unwrap();
    code.dec(rsi).unwrap();
    code.jne(*label).unwrap();
    code.ret().unwrap();
}

fn write_walk(
    code: &mut CodeAssembler,
    label: &mut CodeLabel,
    load: &mut CodeLabel,
    store: &mut CodeLabel,
    back: &mut CodeLabel,
) {
    let [mut again, mut ask, mut next] = [(); 3].map(|()| code.create_label());
    code.set_label(label).unwrap();
    code.mov(rbx, rdi).unwrap();
    code.mov(r12, rsi).unwrap();
    code.set_label(&mut again).unwrap();
    code.mov(rdi, qword_ptr(rbx)).unwrap();
    code.mov(rsi, qword_ptr(rbx + 8)).unwrap();
    code.test(rdi, rdi).unwrap();
    code.je(ask).unwrap();
    code.set_label(load).unwrap();
    code.mov(rdx, qword_ptr(rdi)).unwrap();
    code.rol(r13, 7).unwrap();
    code.xor(r13, rdx).unwrap();
    code.test(rsi, rsi).unwrap();
    code.je(next).unwrap();
    code.set_label(store).unwrap();
    code.mov(qword_ptr(rdi), rsi).unwrap();
    code.jmp(next).unwrap();
    code.set_label(&mut ask).unwrap();
    code.mov(eax, esi).unwrap();
    code.mov(rdi, r13).unwrap();
    code.call(HOSTCALL).unwrap();
    code.set_label(back).unwrap();
    code.rol(r13, 7).unwrap();
    code.xor(r13, rax).unwrap();
    code.set_label(&mut next).unwrap();
    code.add(rbx, 16).unwrap();
    code.dec(r12).unwrap();
    code.jne(again).unwrap();
    code.mov(rax, r13).unwrap();
    code.ret().unwrap();
}

fn write_checksum(code: &mut CodeAssembler, label: &mut CodeLabel) {
    let mut again = code.create_label();
    code.set_label(label).unwrap();
    code.mov(rcx, FACTOR).unwrap();
    code.set_label(&mut again).unwrap();
    code.xor(rax, qword_ptr(rdi)).unwrap();
    code.imul_2(rax, rcx).unwrap();
    code.add(rdi, 8).unwrap();
    code.dec(rsi).unwrap();
    code.jne(again).unwrap();
    code.ret().unwrap();
}

/// What the guest's checksum of these pages is.
pub(super) fn checksum<'a>(pages: impl Iterator<Item = &'a [u8; 4096]>) -> u64 {
    let zeros = FACTOR.wrapping_pow(512);
    pages.fold(0, |sum: u64, page| {
        if page == &[0; 4096] {
            return sum.wrapping_mul(zeros);
        }
        page.chunks_exact(8).fold(sum, |sum, word| {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            (sum ^ word).wrapping_mul(FACTOR)
        })
    })
}

/// What a guest does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Load {
        address: u64,
        width: usize,
    },
    Store {
        address: u64,
        width: usize,
        value: u64,
    },
    Add {
        address: u64,
        value: u64,
    },
    Swap {
        address: u64,
        value: u64,
    },
    Call {
        number: u32,
    },
}

/// A guest on its way.
#[derive(Clone)]
pub(super) struct Run {
    /// Each with the address of its instruction.
    steps: Rc<[(Step, u64)]>,
    done: usize,
    value: u64,
}

/// Where a guest stops.
pub(super) enum Halt {
    Finished(u64),
    /// With this number and first argument.
    Hostcall(u32, u64),
    Absent(Trap),
    Trap(Trap),
}

impl Program {
    pub(super) fn load(&self, address: u64, width: usize) -> Run {
        let pc = self.loads[width.ilog2() as usize];
        Run::of([(Step::Load { address, width }, pc)])
    }

    pub(super) fn store(&self, address: u64, width: usize, value: u64) -> Run {
        let pc = self.stores[width.ilog2() as usize];
        Run::of([(
            Step::Store {
                address,
                width,
                value,
            },
            pc,
        )])
    }

    pub(super) fn swap(&self, address: u64, value: u64) -> Run {
        Run::of([(Step::Swap { address, value }, self.swap)])
    }

    pub(super) fn stride(&self, address: u64, pages: u64, value: u64) -> Run {
        let address = |page| address.wrapping_add(page * PAGE_BYTES);
        let step = |page| Step::Add {
            address: address(page),
            value,
        };
        Run::of((0..pages).map(|page| (step(page), self.stride)))
    }

    pub(super) fn walk(&self, list: &[(u64, u64)]) -> Run {
        let mut steps = Vec::new();
        for &(address, value) in list {
            if address == 0 {
                let number = u32::try_from(value).unwrap();
                steps.push((Step::Call { number }, self.walk_return));
                continue;
            }
            steps.push((Step::Load { address, width: 8 }, self.walk_load));
            if value != 0 {
                steps.push((
                    Step::Store {
                        address,
                        width: 8,
                        value,
                    },
                    self.walk_store,
                ));
            }
        }
        Run::of(steps)
    }
}

impl Run {
    fn of(steps: impl IntoIterator<Item = (Step, u64)>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            done: 0,
            value: 0,
        }
    }

    /// Goes on until something is in the way.
    pub(super) fn go_on(&mut self, map: &mut Map) -> Halt {
        while let Some(&(step, pc)) = self.steps.get(self.done) {
            if let Step::Call { number } = step {
                push(map, 2, pc);
                return Halt::Hostcall(number, self.value);
            }
            let (address, width, access) = step.touches();
            let in_the_way = |address| {
                let mut trap = Trap::new(TrapKind::Memory);
                (trap.address, trap.access, trap.pc) = (Some(address), Some(access), Some(pc));
                trap
            };
            match map.touch(address, width as u64, access) {
                Ok(()) => self.take(step, map),
                Err(Obstacle::Absent(address)) => return Halt::Absent(in_the_way(address)),
                Err(Obstacle::Refused(address)) => return Halt::Trap(in_the_way(address)),
            }
        }
        Halt::Finished(self.value)
    }

    /// The host has answered.
    pub(super) fn answered(&mut self, answer: u64) {
        self.saw(answer);
    }

    fn take(&mut self, step: Step, map: &mut Map) {
        let word = |map: &Map, address, width| {
            let mut word = [0; 8];
            word[..width].copy_from_slice(&map.copy_out(address, width));
            u64::from_le_bytes(word)
        };
        let (address, width, new) = match step {
            Step::Load { address, width } => return self.saw(word(map, address, width)),
            Step::Store {
                address,
                width,
                value,
            } => (address, width, value),
            Step::Add { address, value } => (address, 8, word(map, address, 8).wrapping_add(value)),
            Step::Swap { address, value } => {
                self.saw(word(map, address, 8));
                map.copy_in(address, &value.to_le_bytes());
                return;
            }
            Step::Call { .. } => unreachable!("touches nothing"),
        };
        self.done += 1;
        map.copy_in(address, &new.to_le_bytes()[..width]);
    }

    fn saw(&mut self, value: u64) {
        self.value = self.value.rotate_left(7) ^ value;
        self.done += 1;
    }
}

impl Step {
    fn touches(self) -> (u64, usize, Access) {
        match self {
            Self::Load { address, width } => (address, width, Access::Read),
            Self::Store { address, width, .. } => (address, width, Access::Write),
            Self::Add { address, .. } | Self::Swap { address, .. } => (address, 8, Access::Write),
            Self::Call { .. } => unreachable!("touches nothing"),
        }
    }
}

/// Pushes the address that a guest returns to.
pub(super) fn enter(map: &mut Map) {
    push(map, 1, FINISH);
}

/// Writes the word of this number from the top of the stack.
fn push(map: &mut Map, number: u64, word: u64) {
    map.copy_in(STACK_TOP - 8 * number, &word.to_le_bytes());
}
