//! The zygote's system calls against its filter: every rule is needed, and after the lock-down no
//! call is made that the filter would kill for.

use std::collections::BTreeSet;

use cellwall_zygote::policy::RULES;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use linux_raw::nr::Nr;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

use crate::Failure;

/// Where the worker's code begins once guests run: what they call, and what the kernel calls.
const ENTRIES: [&str; 5] = [
    "cellwall_hostcall",
    "cellwall_finish",
    "cellwall_trapped",
    "cellwall_idle",
    "handler",
];

/// The text of an image, decoded.
struct Text {
    instructions: Vec<Instruction>,
}

/// Checks an image that still has its symbols.
pub(crate) fn check(image: &[u8]) -> Result<(), Failure> {
    let file = object::File::parse(image)?;
    let text = Text::decode(&file)?;
    let all = (0..text.instructions.len()).collect();
    let made = text.calls(&all)?;
    for rule in RULES {
        if !made.contains(&rule.call) {
            let name = rule.call.name();
            return Err(format!("the filter allows {name}, which the zygote never calls").into());
        }
    }
    let after = text.calls(&text.reachable(&file)?)?;
    for call in &after {
        if !RULES.iter().any(|rule| rule.call == *call) {
            let name = call.name();
            return Err(format!("{name} is called while guests run, and the filter kills").into());
        }
    }
    let names = |calls: &BTreeSet<Nr>| {
        let names: Vec<&str> = calls.iter().map(|call| call.name()).collect();
        names.join(", ")
    };
    println!(
        "each of the filter's {} rules is used; while guests run the zygote calls {}",
        RULES.len(),
        names(&after)
    );
    Ok(())
}

impl Text {
    fn decode(file: &object::File<'_>) -> Result<Self, Failure> {
        let section = file
            .sections()
            .find(|section| section.kind() == SectionKind::Text)
            .ok_or("the image has no text")?;
        let decoder =
            Decoder::with_ip(64, section.data()?, section.address(), DecoderOptions::NONE);
        Ok(Self {
            instructions: decoder.into_iter().collect(),
        })
    }

    /// Where the instruction at an address is in the list.
    fn index(&self, address: u64) -> Option<usize> {
        self.instructions
            .binary_search_by_key(&address, Instruction::ip)
            .ok()
    }

    /// The instructions that run after the lock-down: everything that jumps, calls and falling
    /// through reach from the entries. Indirect jumps go to the guest.
    fn reachable(&self, file: &object::File<'_>) -> Result<BTreeSet<usize>, Failure> {
        let mut to_visit = Vec::new();
        for entry in ENTRIES {
            let is_entry = |name: &str| name == entry || name.contains(&format!("6signal7{entry}"));
            let symbol = file
                .symbols()
                .find(|symbol| symbol.name().is_ok_and(is_entry))
                .ok_or(format!("the image has no symbol {entry}"))?;
            let index = self.index(symbol.address());
            to_visit.push(index.ok_or(format!("{entry} is between two instructions"))?);
        }
        let mut seen = BTreeSet::new();
        while let Some(index) = to_visit.pop() {
            let Some(instruction) = self.instructions.get(index) else {
                continue;
            };
            if !seen.insert(index) {
                continue;
            }
            let flow = instruction.flow_control();
            // A system call is a call too, but not to code of ours.
            if instruction.op0_kind() == OpKind::NearBranch64 {
                let from = instruction.ip();
                let target = self.index(instruction.near_branch_target());
                to_visit.push(target.ok_or_else(|| {
                    format!("the jump at {from:#x} is to the middle of an instruction")
                })?);
            }
            if !matches!(
                flow,
                FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Return
                    | FlowControl::Exception
                    | FlowControl::Interrupt
            ) {
                to_visit.push(index + 1);
            }
        }
        Ok(seen)
    }

    /// The numbers of the system calls among these instructions.
    fn calls(&self, indices: &BTreeSet<usize>) -> Result<BTreeSet<Nr>, Failure> {
        let mut calls = BTreeSet::new();
        for &index in indices {
            let Some(instruction) = self.instructions.get(index) else {
                continue;
            };
            if instruction.code() == Code::Syscall {
                let number = self.number_before(index).ok_or_else(|| {
                    format!(
                        "{:#x}: a system call without a plain number",
                        instruction.ip()
                    )
                })?;
                calls.insert(Nr::from_raw(number));
            }
        }
        Ok(calls)
    }

    /// What the code before a `syscall` puts into `eax`: a constant, in every call that we make.
    fn number_before(&self, index: usize) -> Option<u32> {
        let writes = self
            .instructions
            .get(..index)?
            .iter()
            .rev()
            .find(|before| {
                before.op0_kind() == OpKind::Register
                    && before.op0_register().full_register() == Register::RAX
                    && !matches!(
                        before.mnemonic(),
                        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push
                    )
            })?;
        match writes.mnemonic() {
            Mnemonic::Mov => writes
                .try_immediate(1)
                .ok()
                .and_then(|value| value.try_into().ok()),
            Mnemonic::Xor if writes.op1_register() == writes.op0_register() => Some(0),
            _ => None,
        }
    }
}
