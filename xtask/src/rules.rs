//! The zygote's system calls against its filter: every rule is needed, and after the lock-down no
//! call is made that the filter would kill for.

use std::collections::BTreeSet;

use cellwall_zygote::policy::RULES;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};
use linux_raw::nr::Nr;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

use crate::Failure;

/// Where the worker's code begins once guests run: what they call, and what the kernel calls.
const ENTRIES: [&str; 6] = [
    "cellwall_hostcall",
    "cellwall_finish",
    "cellwall_out_of_gas",
    "cellwall_evict",
    "cellwall_interrupt",
    "cellwall_idle",
];

/// The handler of faults, another of these: `zygote::signal::handler` up to its hash.
const HANDLER: &str = "_ZN6zygote6signal7handler17h";

/// What enters the guest, hence the only code with a jump that nobody can follow.
const ENTERS_GUESTS: &str = "cellwall_enter";

/// The text of an image, decoded.
struct Text {
    instructions: Vec<Instruction>,
    /// The symbols in it, by address.
    symbols: Vec<(u64, String)>,
    /// Where control may come from somewhere else than the instruction before.
    labels: BTreeSet<u64>,
    /// What is read and never written: constants with jump tables, pointers to functions.
    constants: Vec<(u64, Vec<u8>)>,
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
    let after = text.calls(&text.reachable()?)?;
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
        let mut symbols = Vec::new();
        for symbol in file.symbols() {
            if symbol.section_index() == Some(section.index()) {
                symbols.push((symbol.address(), symbol.name()?.to_owned()));
            }
        }
        let mut constants = Vec::new();
        for section in file.sections() {
            if matches!(section.name()?, ".rodata" | ".got") {
                constants.push((section.address(), section.data()?.to_vec()));
            }
        }
        Ok(Self::new(
            section.address(),
            section.data()?,
            symbols,
            constants,
        ))
    }

    fn new(
        address: u64,
        code: &[u8],
        mut symbols: Vec<(u64, String)>,
        constants: Vec<(u64, Vec<u8>)>,
    ) -> Self {
        symbols.sort();
        let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        let mut text = Self {
            instructions: decoder.into_iter().collect(),
            labels: symbols.iter().map(|symbol| symbol.0).collect(),
            symbols,
            constants,
        };
        text.find_labels();
        text
    }

    /// Where jumps, calls and jump tables lead. A table is a row of distances from its own address,
    /// which some `lea` loads; other constants that look like one do no harm.
    fn find_labels(&mut self) {
        let mut found = Vec::new();
        for instruction in &self.instructions {
            if instruction.op0_kind() == OpKind::NearBranch64 {
                found.push(instruction.near_branch_target());
            }
            if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
                let table = instruction.ip_rel_memory_address();
                found.push(table);
                let targets = (table..)
                    .step_by(4)
                    .map_while(|at| self.constant(at).map(i32::from_le_bytes))
                    .map(|distance| table.wrapping_add_signed(distance.into()));
                found.extend(targets.take_while(|target| self.index(*target).is_some()));
            }
        }
        self.labels.extend(found);
    }

    /// Constant bytes at an address.
    fn constant<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        self.constants.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..)?.first_chunk().copied()
        })
    }

    /// Where the instruction at an address is in the list.
    fn index(&self, address: u64) -> Option<usize> {
        self.instructions
            .binary_search_by_key(&address, Instruction::ip)
            .ok()
    }

    /// The name of the code at an address.
    fn symbol_of(&self, address: u64) -> &str {
        let after = self.symbols.partition_point(|symbol| symbol.0 <= address);
        let symbol = after.checked_sub(1).and_then(|at| self.symbols.get(at));
        symbol.map_or("", |symbol| symbol.1.as_str())
    }

    /// Where the instructions of [`ENTRIES`] and [`HANDLER`] are.
    fn entries(&self) -> Result<Vec<usize>, Failure> {
        let mut found = Vec::new();
        for entry in ENTRIES.into_iter().chain([HANDLER]) {
            let is_entry = |name: &str| match name.strip_prefix(entry) {
                // Sixteen digits and an `E`.
                Some(hash) if entry == HANDLER => hash.len() == 17,
                Some(rest) => rest.is_empty(),
                None => false,
            };
            let mut symbols = self.symbols.iter().filter(|symbol| is_entry(&symbol.1));
            let (Some(symbol), None) = (symbols.next(), symbols.next()) else {
                return Err(format!("the image has not one symbol {entry}").into());
            };
            let index = self.index(symbol.0);
            found.push(index.ok_or(format!("{entry} is between two instructions"))?);
        }
        Ok(found)
    }

    /// The instructions that run after the lock-down: everything that jumps, calls and falling
    /// through reach from the entries. The one jump that nobody can follow goes to the guest.
    fn reachable(&self) -> Result<BTreeSet<usize>, Failure> {
        let mut to_visit = self.entries()?;
        let mut seen = BTreeSet::new();
        while let Some(index) = to_visit.pop() {
            let Some(instruction) = self.instructions.get(index) else {
                continue;
            };
            if !seen.insert(index) {
                continue;
            }
            if let Some(target) = self.target(instruction)? {
                to_visit.push(target);
            }
            if !matches!(
                instruction.flow_control(),
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

    /// Where an instruction leads beside the next one: in its own words, or in those of a constant.
    fn target(&self, instruction: &Instruction) -> Result<Option<usize>, Failure> {
        let from = instruction.ip();
        let flow = instruction.flow_control();
        // A system call is a call too, but not to code of ours.
        let target = if instruction.op0_kind() == OpKind::NearBranch64 {
            instruction.near_branch_target()
        } else if !matches!(
            flow,
            FlowControl::IndirectCall | FlowControl::IndirectBranch
        ) {
            return Ok(None);
        } else if instruction.is_ip_rel_memory_operand()
            && let Some(pointer) = self.constant(instruction.ip_rel_memory_address())
        {
            u64::from_le_bytes(pointer)
        } else if flow == FlowControl::IndirectBranch && self.symbol_of(from) == ENTERS_GUESTS {
            return Ok(None);
        } else {
            let code = self.symbol_of(from);
            return Err(format!("nobody knows where {from:#x} in {code} leads").into());
        };
        let index = self.index(target);
        let index = index.ok_or_else(|| format!("{from:#x} leads to no instruction: {target:#x}"));
        Ok(Some(index?))
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
                    let (at, code) = (instruction.ip(), self.symbol_of(instruction.ip()));
                    format!("{at:#x} in {code}: a system call without a plain number")
                })?;
                calls.insert(Nr::from_raw(number));
            }
        }
        Ok(calls)
    }

    /// What the code before a `syscall` puts into `eax`: a constant, in every call that we make,
    /// and on the only way that leads there.
    fn number_before(&self, syscall: usize) -> Option<u32> {
        let mut factory = InstructionInfoFactory::new();
        let mut at = syscall;
        loop {
            if self.labels.contains(&self.instructions.get(at)?.ip()) {
                return None;
            }
            at = at.checked_sub(1)?;
            let before = self.instructions.get(at)?;
            // What is called may change `eax`; after a jump nothing goes on.
            let goes_on = [FlowControl::Next, FlowControl::ConditionalBranch];
            if !goes_on.contains(&before.flow_control()) {
                return None;
            }
            let used = factory.info(before).used_registers();
            let is_written = used.iter().any(|used| {
                used.register().full_register() == Register::RAX
                    && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
            });
            if is_written {
                return constant_in_rax(before);
            }
        }
    }
}

/// What an instruction makes the whole of `rax`, if that is a constant.
fn constant_in_rax(writes: &Instruction) -> Option<u32> {
    if !matches!(writes.op0_register(), Register::EAX | Register::RAX) {
        return None;
    }
    match writes.mnemonic() {
        Mnemonic::Mov => writes.try_immediate(1).ok()?.try_into().ok(),
        Mnemonic::Xor if writes.op1_register() == writes.op0_register() => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES, HANDLER, Text};

    /// Where the code of these tests is, and a pointer that it reads.
    const CODE: u64 = 0x1000;
    const POINTER: u64 = 0x2000;

    const MOV_EAX_24: [u8; 5] = [0xb8, 24, 0, 0, 0];
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    const UD2: [u8; 2] = [0x0f, 0x0b];

    /// Every entry is at the start; other symbols where they are said to be.
    fn text(parts: &[&[u8]], others: &[(u64, &str)]) -> Text {
        let handler = format!("{HANDLER}0123456789abcdefE");
        let names = ENTRIES.into_iter().chain([handler.as_str()]);
        let mut symbols: Vec<_> = names.map(|name| (CODE, name.to_owned())).collect();
        symbols.extend(others.iter().map(|(at, name)| (*at, (*name).to_owned())));
        let pointers = vec![(POINTER, (CODE + 8).to_le_bytes().to_vec())];
        Text::new(CODE, &parts.concat(), symbols, pointers)
    }

    /// The numbers of the calls that are reached, or why nobody knows.
    fn calls(text: &Text) -> Result<Vec<u32>, String> {
        let reached = text.reachable().map_err(|failure| failure.to_string())?;
        let calls = text
            .calls(&reached)
            .map_err(|failure| failure.to_string())?;
        Ok(calls.into_iter().map(|call| call.raw()).collect())
    }

    fn fails(text: &Text, with: &str) {
        let failure = calls(text).unwrap_err();
        assert!(failure.contains(with), "{failure}");
    }

    #[test]
    fn a_number_is_a_constant_on_the_only_way() {
        let plain: &[&[u8]] = &[&[0x90], &MOV_EAX_24, &SYSCALL, &UD2];
        assert_eq!(calls(&text(plain, &[])), Ok(vec![24]));
        // A function that begins in between, a jump that comes back, a call, another register.
        fails(
            &text(plain, &[(CODE + 6, "other")]),
            "without a plain number",
        );
        let jumps: &[&[u8]] = &[&MOV_EAX_24, &SYSCALL, &[0xeb, 0xfc]];
        fails(&text(jumps, &[]), "without a plain number");
        let called: &[&[u8]] = &[&MOV_EAX_24, &[0xe8, 2, 0, 0, 0], &SYSCALL, &[0xc3]];
        fails(&text(called, &[]), "without a plain number");
        let exchanged: &[&[u8]] = &[&MOV_EAX_24, &[0x48, 0x87, 0xc3], &SYSCALL, &UD2];
        fails(&text(exchanged, &[]), "without a plain number");
        let byte: &[&[u8]] = &[&[0x90], &[0xb0, 24], &SYSCALL, &UD2];
        fails(&text(byte, &[]), "without a plain number");
    }

    #[test]
    fn pointers_are_followed_or_refused() {
        // call [rip + POINTER]; ud2: the code behind it makes a call.
        let through: &[&[u8]] = &[&[0xff, 0x15, 0xfa, 0x0f, 0, 0], &UD2, &MOV_EAX_24, &SYSCALL];
        assert_eq!(calls(&text(through, &[])), Ok(vec![24]));
        let elsewhere: &[&[u8]] = &[&[0xff, 0x15, 0xfa, 0x1f, 0, 0], &UD2];
        fails(&text(elsewhere, &[]), "nobody knows where 0x1000");
        fails(
            &text(&[&[0xff, 0xd0], &UD2], &[]),
            "nobody knows where 0x1000",
        );
        // jmp r11 enters the guest, in the code that does so and nowhere else.
        let jump: &[&[u8]] = &[&[0x90], &[0x41, 0xff, 0xe3]];
        assert_eq!(
            calls(&text(jump, &[(CODE + 1, "cellwall_enter")])),
            Ok(vec![])
        );
        fails(&text(jump, &[(CODE + 1, "other")]), "0x1001 in other");
    }

    #[test]
    fn entries_are_there_once() {
        assert!(text(&[&UD2], &[]).entries().is_ok());
        let twice = format!("{HANDLER}fedcba9876543210E");
        assert!(text(&[&UD2], &[(CODE, &twice)]).entries().is_err());
        let longer = format!("{HANDLER}fedcba9876543210Etail");
        assert!(text(&[&UD2], &[(CODE, &longer)]).entries().is_ok());
    }
}
