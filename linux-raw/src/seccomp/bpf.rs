#![expect(
    clippy::indexing_slicing,
    reason = "runs at compile time, where an index out of range breaks the build"
)]
//! A const assembler for the kernel's classic BPF: jumps go to labels.

use linux_raw_sys::ptrace as sys;

/// Loads the 32-bit word at an offset of [`SeccompData`] (`BPF_LD | BPF_W | BPF_ABS`).
pub const LOAD: u16 = code(sys::BPF_LD | sys::BPF_W | sys::BPF_ABS);
/// Keeps the bits of a mask (`BPF_ALU | BPF_AND | BPF_K`).
pub const AND: u16 = code(sys::BPF_ALU | sys::BPF_AND | sys::BPF_K);
/// Jumps if equal (`BPF_JMP | BPF_JEQ | BPF_K`).
pub const JUMP_IF_EQUAL: u16 = code(sys::BPF_JMP | sys::BPF_JEQ | sys::BPF_K);
/// Jumps if at least, unsigned (`BPF_JMP | BPF_JGE | BPF_K`).
pub const JUMP_IF_AT_LEAST: u16 = code(sys::BPF_JMP | sys::BPF_JGE | sys::BPF_K);
/// Jumps if any bit of a mask is set (`BPF_JMP | BPF_JSET | BPF_K`).
pub const JUMP_IF_ANY_BIT: u16 = code(sys::BPF_JMP | sys::BPF_JSET | sys::BPF_K);
/// Answers (`BPF_RET | BPF_K`).
pub const RETURN: u16 = code(sys::BPF_RET | sys::BPF_K);

/// The parts of an instruction's code, which are small numbers.
#[expect(
    clippy::cast_possible_truncation,
    reason = "asserted, and at compile time"
)]
pub(super) const fn code(parts: u32) -> u16 {
    assert!(parts <= u16::MAX as u32, "bpf: no code is that large");
    parts as u16
}

/// The longest program that the assembler takes; the kernel's limit is 4096.
pub const INSTRUCTIONS_MAX: usize = 512;
/// How many labels a program may have.
pub const LABELS_MAX: usize = 256;

/// One instruction (`struct sock_filter`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a condition holds.
    pub if_true: u8,
    /// How many to skip if it does not.
    pub if_false: u8,
    /// The operand.
    pub operand: u32,
}

same_layout!(Instruction, sys::sock_filter:
    code = code, if_true = jt, if_false = jf, operand = k,
);

/// What a filter looks at (`struct seccomp_data`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct SeccompData {
    /// The call's number.
    pub nr: u32,
    /// The audit number of the architecture that it was made for.
    pub arch: u32,
    /// The address after the instruction that made it.
    pub instruction_pointer: u64,
    /// Its arguments, as whole registers.
    pub args: [u64; 6],
}

same_layout!(SeccompData, sys::seccomp_data:
    nr = nr, arch = arch, instruction_pointer = instruction_pointer, args = args,
);
const _: () = {
    assert!(
        cfg!(target_endian = "little"),
        "halves of arguments are low half first"
    );
};

/// A place in a program that jumps go to, always forward.
#[derive(Clone, Copy, Debug)]
pub struct Label(usize);

/// Where one arm of a jump goes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// To the next instruction.
    Next,
    /// To a label.
    To(Label),
}

/// An instruction whose arms are not numbers yet.
#[derive(Clone, Copy)]
struct Draft {
    code: u16,
    operand: u32,
    if_true: Target,
    if_false: Target,
}

/// A program being written.
pub struct Assembler {
    drafts: [Draft; INSTRUCTIONS_MAX],
    length: usize,
    /// Where each label is, or [`UNPLACED`].
    labels: [usize; LABELS_MAX],
    label_count: usize,
}

/// A label that is not anywhere yet.
const UNPLACED: usize = usize::MAX;

impl Default for Assembler {
    fn default() -> Self {
        Self::new()
    }
}

impl Assembler {
    /// No instructions yet.
    #[must_use]
    pub const fn new() -> Self {
        const NOTHING: Draft = Draft {
            code: RETURN,
            operand: 0,
            if_true: Target::Next,
            if_false: Target::Next,
        };
        Self {
            drafts: [NOTHING; INSTRUCTIONS_MAX],
            length: 0,
            labels: [UNPLACED; LABELS_MAX],
            label_count: 0,
        }
    }

    /// How many instructions there are.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// A new label, to be placed later.
    pub const fn label(&mut self) -> Label {
        assert!(
            self.label_count < LABELS_MAX,
            "bpf: more than LABELS_MAX labels"
        );
        let label = Label(self.label_count);
        self.label_count += 1;
        label
    }

    /// Puts a label before the next instruction.
    pub const fn place(&mut self, label: Label) {
        assert!(
            self.labels[label.0] == UNPLACED,
            "bpf: a label was placed twice"
        );
        self.labels[label.0] = self.length;
    }

    /// Loads the word at an offset of [`SeccompData`].
    pub const fn load(&mut self, offset: usize) {
        assert!(
            offset.is_multiple_of(4) && offset < size_of::<SeccompData>(),
            "bpf: a load outside of the data"
        );
        #[expect(clippy::cast_possible_truncation, reason = "below 64, asserted above")]
        self.push(LOAD, offset as u32, Target::Next, Target::Next);
    }

    /// Keeps the bits of a mask.
    pub const fn and(&mut self, mask: u32) {
        self.push(AND, mask, Target::Next, Target::Next);
    }

    /// Jumps by whether the loaded word equals `value`.
    pub const fn if_equal(&mut self, value: u32, if_true: Target, if_false: Target) {
        self.push(JUMP_IF_EQUAL, value, if_true, if_false);
    }

    /// Jumps by whether the loaded word is at least `value`.
    pub const fn if_at_least(&mut self, value: u32, if_true: Target, if_false: Target) {
        self.push(JUMP_IF_AT_LEAST, value, if_true, if_false);
    }

    /// Jumps by whether the loaded word has any bit of `mask`.
    pub const fn if_any_bit(&mut self, mask: u32, if_true: Target, if_false: Target) {
        self.push(JUMP_IF_ANY_BIT, mask, if_true, if_false);
    }

    /// Answers.
    pub const fn answer(&mut self, answer: u32) {
        self.push(RETURN, answer, Target::Next, Target::Next);
    }

    /// Adds an instruction.
    const fn push(&mut self, code: u16, operand: u32, if_true: Target, if_false: Target) {
        assert!(
            self.length < INSTRUCTIONS_MAX,
            "bpf: more than INSTRUCTIONS_MAX instructions"
        );
        self.drafts[self.length] = Draft {
            code,
            operand,
            if_true,
            if_false,
        };
        self.length += 1;
    }

    /// The program, all of whose jumps are in range; `N` must be [`Self::length`].
    #[must_use]
    pub const fn finish<const N: usize>(&self) -> [Instruction; N] {
        assert!(N == self.length, "bpf: N must be the program's length");
        assert!(
            N > 0 && self.drafts[N - 1].code == RETURN,
            "bpf: the last instruction must answer"
        );
        let mut program = [Instruction {
            code: RETURN,
            if_true: 0,
            if_false: 0,
            operand: 0,
        }; N];
        let mut at = 0;
        while at < N {
            let draft = self.drafts[at];
            program[at] = Instruction {
                code: draft.code,
                if_true: self.distance(at, draft.if_true),
                if_false: self.distance(at, draft.if_false),
                operand: draft.operand,
            };
            at += 1;
        }
        program
    }

    /// How many instructions to skip from `at` to a target.
    const fn distance(&self, at: usize, target: Target) -> u8 {
        let Target::To(label) = target else { return 0 };
        let place = self.labels[label.0];
        assert!(
            place != UNPLACED,
            "bpf: a jump to a label that was never placed"
        );
        assert!(place < self.length, "bpf: a jump past the end");
        assert!(place > at, "bpf: a jump backwards");
        let distance = place - at - 1;
        assert!(
            distance <= 255,
            "bpf: a jump over more than 255 instructions"
        );
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most 255, asserted above"
        )]
        let distance = distance as u8;
        distance
    }
}
