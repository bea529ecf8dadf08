//! Faults in the middle of instructions that do much: they go on from where they were.

use cellwall::{Access, Interrupt, Protection};
use iced_x86::code_asm::{
    CodeAssembler, eax, ebx, ecx, edx, ptr, qword_ptr, r8, rax, rbx, rcx, rdi, rdx, rsi, rsp, xmm3,
    xmm15, xmmword_ptr,
};

use super::{NOWHERE, PAGE, called, map, next_fault, paging_engine, run_mapping};
use crate::harness::{DATA, STACK, call};

/// Where the copies go to, far from where they come from.
const TO: u64 = NOWHERE + 0x100 * PAGE;

/// Bytes that are like no neighbour of theirs.
fn pattern(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// Copies `rdx` bytes from `rsi` to `rdi`, upwards or downwards, and gives what is left in `rcx`,
/// with what the registers ended as in `DATA`.
fn copy(code: &mut CodeAssembler, down: bool) {
    code.mov(rcx, rdx).unwrap();
    if down {
        code.std().unwrap();
    }
    code.rep().movsb().unwrap();
    code.cld().unwrap();
    code.mov(qword_ptr(DATA), rdi).unwrap();
    code.mov(qword_ptr(DATA + 8), rsi).unwrap();
    code.mov(rax, rcx).unwrap();
    code.ret().unwrap();
}

#[test]
fn a_string_copy_goes_on_where_it_was() {
    let Some(engine) = paging_engine() else {
        return;
    };
    // Neither end at the edge of a page, and both ends at other places within theirs.
    let (from, to, bytes) = (NOWHERE + 100, TO + 3000, 6 * PAGE);
    for down in [false, true] {
        let (first, last) = if down { (bytes - 1, 0) } else { (0, bytes - 1) };
        let args = [to + first, from + first, bytes];
        let mut instance = called(&engine, &args, |code| copy(code, down));
        let contents = pattern(bytes);
        let (mut sources, mut targets, mut filled) = (0, 0, Vec::new());
        let end = loop {
            match instance.run().unwrap() {
                Interrupt::PageFault(fault) if fault.access == Access::Read => {
                    // The source has its contents only now.
                    let mut page = vec![0; 4096];
                    let begin = fault.page().max(from);
                    let end = (fault.page() + PAGE).min(from + bytes);
                    let within = usize::try_from(begin - fault.page()).unwrap();
                    let piece = &contents[usize::try_from(begin - from).unwrap()..]
                        [..usize::try_from(end - begin).unwrap()];
                    page[within..within + piece.len()].copy_from_slice(piece);
                    instance
                        .map_data(fault.page(), &page, Protection::Read)
                        .unwrap();
                    sources += 1;
                    filled.push(fault.page());
                }
                Interrupt::PageFault(fault) => {
                    assert_eq!(fault.access, Access::Write);
                    // What the registers say has been copied has been copied.
                    let registers = instance.registers().unwrap();
                    let (left, at) = (registers[14], registers[8]);
                    let done = bytes - left;
                    let there = if down { to + first - done } else { to + done };
                    assert_eq!(at, there);
                    map(&mut instance, &fault);
                    targets += 1;
                }
                other => break other,
            }
        };
        assert_eq!(end, Interrupt::Finished(0), "nothing is left");
        assert_eq!((sources, targets), (7, 7), "{filled:x?}");
        assert!(filled.is_sorted_by(|one, other| (one < other) != down));
        assert_eq!(instance.read(to, bytes).unwrap(), contents);
        let past = |start: u64| {
            if down {
                start.wrapping_sub(1)
            } else {
                start + bytes
            }
        };
        assert_eq!(instance.load::<u64>(DATA).unwrap(), past(to));
        assert_eq!(instance.load::<u64>(DATA + 8).unwrap(), past(from));
        assert_eq!(last + first, bytes - 1);
    }
}

#[test]
fn a_push_and_a_call_on_an_absent_page_of_stack_are_made_anew() {
    let Some(engine) = paging_engine() else {
        return;
    };
    // Recurses to a depth of its argument, with a push and a call each time, on another stack.
    let deep = |code: &mut CodeAssembler| {
        let mut down = code.create_label();
        let mut bottom = code.create_label();
        code.mov(r8, rsp).unwrap();
        code.mov(rsp, TO).unwrap();
        code.xor(eax, eax).unwrap();
        code.call(down).unwrap();
        code.mov(rsp, r8).unwrap();
        code.ret().unwrap();
        code.set_label(&mut down).unwrap();
        code.test(rdi, rdi).unwrap();
        code.je(bottom).unwrap();
        code.push(rdi).unwrap();
        code.dec(rdi).unwrap();
        code.call(down).unwrap();
        code.pop(rdi).unwrap();
        code.add(rax, rdi).unwrap();
        code.set_label(&mut bottom).unwrap();
        code.ret().unwrap();
    };
    let depth = 2000;
    let mut instance = called(&engine, &[depth], deep);
    let (end, faults) = run_mapping(&mut instance);
    assert_eq!(end, Interrupt::Finished(depth * (depth + 1) / 2));
    // 8 bytes for the first call and 16 each time, from the top down.
    let pages = (8 + 16 * depth).div_ceil(PAGE);
    let expected = (1..=pages).map(|page| (TO - (page - 1) * PAGE - 8, Access::Write));
    assert_eq!(faults, expected.collect::<Vec<_>>());
}

/// The guest's own stack, below which there is nothing at first: it grows as it is asked for.
#[test]
fn a_stack_can_grow_downwards_by_faults() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[], |code| {
        let mut again = code.create_label();
        code.mov(ecx, 0x3000).unwrap();
        code.set_label(&mut again).unwrap();
        code.push(rcx).unwrap();
        code.dec(ecx).unwrap();
        code.jne(again).unwrap();
        code.lea(rsp, ptr(rsp + 0x3000 * 8)).unwrap();
        code.mov(eax, 1).unwrap();
        code.ret().unwrap();
    });
    let (end, faults) = run_mapping(&mut instance);
    assert_eq!(end, Interrupt::Finished(1));
    // 64 KiB are there, the return address takes 8 bytes of them.
    let expected: Vec<_> = (0..9)
        .map(|page| (STACK - page * PAGE - 8, Access::Write))
        .collect();
    assert_eq!(faults, expected);
    assert_eq!(instance.load::<u64>(STACK - 8 * PAGE - 8).unwrap(), 1);
}

#[test]
fn a_wide_exchange_happens_once_or_not_at_all() {
    if !is_x86_feature_detected!("cmpxchg16b") {
        return absence::absent("cmpxchg16b", "no exchange of 16 bytes");
    }
    let Some(engine) = paging_engine() else {
        return;
    };
    let exchange = |code: &mut CodeAssembler| {
        code.mov(eax, 1).unwrap();
        code.mov(edx, 2).unwrap();
        code.mov(ebx, 3).unwrap();
        code.mov(ecx, 4).unwrap();
        code.lock().cmpxchg16b(xmmword_ptr(rdi)).unwrap();
        code.setne(iced_x86::code_asm::al).unwrap();
        code.mov(qword_ptr(DATA), rdx).unwrap();
        code.mov(qword_ptr(DATA + 8), rbx).unwrap();
        code.and(eax, 1).unwrap();
        code.ret().unwrap();
    };
    // What is there when the page comes decides.
    for (before, after, differs) in [([1_u64, 2], [3_u64, 4], 0), ([1, 9], [1, 9], 1)] {
        let at = NOWHERE + PAGE - 16;
        let mut instance = called(&engine, &[at], exchange);
        let fault = next_fault(&mut instance);
        assert_eq!((fault.address, fault.access), (at, Access::Write));
        let mut page = vec![0; 4080];
        page.extend(before.iter().flat_map(|word| word.to_le_bytes()));
        instance
            .map_data(NOWHERE, &page, Protection::ReadWrite)
            .unwrap();
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(differs));
        let found: [u64; 2] = [instance.load(at).unwrap(), instance.load(at + 8).unwrap()];
        assert_eq!(found, after);
    }
}

/// A store of a whole state across two absent pages, and the same loaded back.
#[test]
fn a_state_is_stored_across_two_absent_pages_and_loaded_back() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let at = NOWHERE + PAGE - 320; // on 64 bytes, and the page ends within the legacy part
    let mut instance = called(&engine, &[at], |code| {
        code.movups(xmm3, ptr(DATA)).unwrap();
        code.movups(xmm15, ptr(DATA + 16)).unwrap();
        code.fldpi().unwrap();
        code.mov(eax, 3).unwrap();
        code.xor(edx, edx).unwrap();
        code.xsave64(ptr(rdi)).unwrap();
        code.fninit().unwrap();
        code.xorps(xmm3, xmm3).unwrap();
        code.xorps(xmm15, xmm15).unwrap();
        code.mov(rsi, rdi).unwrap();
        code.add(rsi, 0x20_0000).unwrap();
        // Loaded from pages that are not there either, which the host fills with the same.
        code.xrstor64(ptr(rsi)).unwrap();
        code.movups(ptr(DATA + 0x100), xmm3).unwrap();
        code.movups(ptr(DATA + 0x110), xmm15).unwrap();
        code.fstp(qword_ptr(DATA + 0x120)).unwrap();
        code.xor(eax, eax).unwrap();
        code.ret().unwrap();
    });
    let values = pattern(32);
    instance.write(DATA, &values).unwrap();
    let mut faults = Vec::new();
    let end = loop {
        match instance.run().unwrap() {
            Interrupt::PageFault(fault) if fault.access == Access::Write => {
                faults.push(fault.page());
                map(&mut instance, &fault);
            }
            Interrupt::PageFault(fault) => {
                faults.push(fault.page());
                let stored = instance.read(fault.page() - 0x20_0000, PAGE).unwrap();
                instance
                    .map_data(fault.page(), &stored, Protection::Read)
                    .unwrap();
            }
            other => break other,
        }
    };
    assert_eq!(end, Interrupt::Finished(0));
    faults.sort_unstable();
    let (first, second) = (NOWHERE, NOWHERE + PAGE);
    assert_eq!(
        faults,
        [first, second, first + 0x20_0000, second + 0x20_0000]
    );
    assert_eq!(instance.read(DATA + 0x100, 32).unwrap(), values);
    let pi = f64::from_bits(instance.load(DATA + 0x120).unwrap());
    assert!((pi - std::f64::consts::PI).abs() < f64::EPSILON, "{pi}");
}

/// Each element of a string of comparisons may fault, and the flags are those of the last.
#[test]
fn a_string_comparison_has_the_flags_of_the_pair_that_ended_it() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[TO, NOWHERE, 3 * PAGE], |code| {
        code.mov(rcx, rdx).unwrap();
        code.repe().cmpsb().unwrap();
        code.mov(rax, rcx).unwrap();
        code.ret().unwrap();
    });
    let end = loop {
        match instance.run().unwrap() {
            Interrupt::PageFault(fault) => {
                let mut page = [7; 4096];
                if fault.page() == TO + 2 * PAGE {
                    page[17] = 8;
                }
                instance
                    .map_data(fault.page(), &page, Protection::Read)
                    .unwrap();
            }
            other => break other,
        }
    };
    assert_eq!(end, Interrupt::Finished(PAGE - 18));
    call(&mut instance, &[TO, NOWHERE, 2 * PAGE]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
}
