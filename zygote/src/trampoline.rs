#![expect(unsafe_code, reason = "the code between guest and host is assembly")]
//! Handing the turn over: what a guest calls, and how it is entered.
//!
//! All of it is assembly, so that a hostcall changes no register but `rax`, `rcx`, `r11` and the
//! flags: no vector register has to be saved by generated code.
//!
//! | symbol | at | what |
//! |---|---|---|
//! | `cellwall_hostcall` | [`map::HOSTCALL`] | number in `eax`, six arguments, answer in `rax` |
//! | `cellwall_finish` | [`map::FINISH`] | value in `rax`; does not come back |
//! | `cellwall_out_of_gas` | [`map::OUT_OF_GAS`] | comes back with every register as it was |
//! | `cellwall_turn` | | publishes a state, waits for an order, enters or comes back |
//! | `cellwall_enter` | | enters the guest with nothing in its registers but its arguments |
//!
//! A hostcall's arguments are in `rdi rsi rdx rcx r8 r9`. `link.ld` asserts the fixed addresses.
//!
//! `host/turn/tests/twin.rs` is the twin of `cellwall_turn` in Rust, which a model checker runs
//! against the host's side: change both.

use core::arch::global_asm;
use core::mem::offset_of;

use vmctx::{GuestPage, HostPage, Options, State, StateWord, TurnLine, map};

/// What [`XSAVE_INIT`] is: the legacy region and the header of the XSAVE format, in bytes.
const XSAVE_BYTES: usize = 512 + 64;

#[repr(C, align(64))]
struct XsaveInit([u8; XSAVE_BYTES]);

/// An XSAVE area that names no component: `xrstor` puts all of them into their initial state.
/// Only MXCSR is always loaded from it: all exceptions masked, round to nearest.
static XSAVE_INIT: XsaveInit = {
    let mut area = [0; XSAVE_BYTES];
    area[24] = 0x80;
    area[25] = 0x1f;
    XsaveInit(area)
};

// In `cellwall_turn`, a plain load of the state suffices for Acquire and the `xchg` is a full
// barrier: it pairs with the host's exchange and Acquire load in `host/turn/`. A host that sees
// the new state also sees the words written before it.
//
// The sleep bit is set by compare-and-exchange, so that a host that publishes in between is seen:
// then either the exchange fails here or the host's own exchange returns the bit and it wakes us.
// The wait has no timeout, since a stop signal would turn that into `restart_syscall`, which the
// filter kills. The host's death ends it.
global_asm!(
    ".pushsection .text.trampoline, \"ax\", @progbits",
    ".globl cellwall_hostcall",
    "cellwall_hostcall:",
    "  call 1f",
    "  mov rax, qword ptr [r11 + {value}]",
    "  ret",
    // As in `cellwall_turn`, but everything else is done before the line is written: the host reads
    // it all the time, and what it takes away before the exchange has to be fetched again.
    "1:",
    "  push rdi",
    "  push rsi",
    "  push rdx",
    "  push r10",
    "  push rbx",
    "  movabs r11, {turn_line}",
    "  mov ebx, dword ptr [r11 + {cpu}]",
    "  and ebx, {cpu_bits}",
    "  mov r10d, eax",
    "  lea eax, [rbx + {hostcall}]",
    "  mov dword ptr [r11 + {number}], r10d",
    "  mov qword ptr [r11 + {args}], rdi",
    "  mov qword ptr [r11 + {args} + 8], rsi",
    "  mov qword ptr [r11 + {args} + 16], rdx",
    "  mov qword ptr [r11 + {args} + 24], rcx",
    "  mov qword ptr [r11 + {args} + 32], r8",
    "  mov qword ptr [r11 + {args} + 40], r9",
    "  jmp cellwall_exchange",
    ".balign 256, 0xcc",
    ".globl cellwall_finish",
    "cellwall_finish:",
    "  movabs r11, {turn_line}",
    "  mov qword ptr [r11 + {value}], rax",
    "  mov eax, {finished}",
    "  jmp 2f",
    ".balign 256, 0xcc",
    ".globl cellwall_out_of_gas",
    "cellwall_out_of_gas:",
    "  push rax",
    "  push rcx",
    "  push r11",
    "  mov eax, {out_of_gas}",
    "  call cellwall_turn",
    "  pop r11",
    "  pop rcx",
    "  pop rax",
    "  ret",
    ".globl cellwall_idle",
    "cellwall_idle:",
    "  mov eax, {idle}",
    "2:",
    "  movabs rsp, {stack}",
    "  call cellwall_turn",
    // The handler of the signal by which the host takes the thread away from a guest. The frame,
    // with all registers of that guest, goes; nothing is published, since the turn is the host's.
    ".globl cellwall_evict",
    "cellwall_evict:",
    "  push 2",
    "  popfq",
    "  movabs rcx, {alt_stack}",
    "  mov rdi, rsp",
    "  sub rcx, rdi",
    "  xor eax, eax",
    "  rep stosb",
    "  movabs rsp, {stack}",
    "  movabs r11, {turn_line}",
    "  jmp 5f",
    ".globl cellwall_enter",
    "cellwall_enter:",
    "  mov eax, -1",
    "  mov edx, -1",
    "  lea r11, [rip + {xsave_init}]",
    "  xrstor64 [r11]",
    "  movabs r11, {turn_line}",
    "  mov rdi, qword ptr [r11 + {args}]",
    "  mov rsi, qword ptr [r11 + {args} + 8]",
    "  mov rdx, qword ptr [r11 + {args} + 16]",
    "  mov rcx, qword ptr [r11 + {args} + 24]",
    "  mov r8, qword ptr [r11 + {args} + 32]",
    "  mov r9, qword ptr [r11 + {args} + 40]",
    "  movabs rax, {host_page}",
    "  mov rsp, qword ptr [rax + {guest_stack}]",
    "  mov r11, qword ptr [rax + {guest_entry}]",
    "  xor ebx, ebx",
    "  xor ebp, ebp",
    "  xor r10d, r10d",
    "  xor r12d, r12d",
    "  xor r13d, r13d",
    "  xor r14d, r14d",
    "  xor r15d, r15d",
    // Nothing of the one who was here before: no segment, and no flag, direction, alignment and
    // trap flag among them.
    "  mov ds, ebx",
    "  mov es, ebx",
    "  mov fs, ebx",
    "  mov gs, ebx",
    "  test dword ptr [rax + {lock_options}], {segment_bases}",
    "  jz 2f",
    "  wrfsbase rbx",
    "  wrgsbase rbx",
    "2:",
    "  push 2",
    "  popfq",
    "  movabs rax, {finish}",
    "  push rax",
    "  mov eax, 0",
    "  jmp r11",
    // In: the state to publish in eax. An order to enter is followed from here; one to resume comes
    // back, with r11 on the turn line, rax and rcx clobbered.
    //
    // From the exchange on, which gives the turn to the host, nothing is written but the state
    // word until there is an order, and nothing is read from the stack unless the order is to
    // resume: the host may wipe all memory that this process can write, and find it as it left it.
    //
    // Where this thread runs is asked only on the slow way, and kept for the turns that follow: the
    // instruction takes as long as a cache line from CPU to CPU.
    ".balign 64, 0xcc",
    ".globl cellwall_turn",
    "cellwall_turn:",
    "  push rdi",
    "  push rsi",
    "  push rdx",
    "  push r10",
    "  push rbx",
    "  movabs r11, {turn_line}",
    "  mov ebx, dword ptr [r11 + {cpu}]",
    "  and ebx, {cpu_bits}",
    "  or eax, ebx",
    "cellwall_exchange:",
    "  xchg dword ptr [r11 + {state}], eax",
    "  test eax, {host_sleeps}",
    "  jnz 8f",
    // If the host last ran on this very CPU, spinning would only keep it from answering.
    "  xor eax, ebx",
    "  shr eax, {cpu_shift}",
    "  jz 5f",
    "  mov esi, dword ptr [r11 + {spin_iterations}]",
    "  test esi, esi",
    "  jz 5f",
    // As `Pace` in `host/turn/spin.rs`: a look that comes too early takes the line from the host.
    "  movzx edx, byte ptr [r11 + {pace}]",
    "  mov ecx, edx",
    "  shr ecx, 3",
    "  jz 4f",
    "10:",
    "  pause",
    "  sub ecx, 1",
    "  jnz 10b",
    "4:",
    "  mov eax, dword ptr [r11 + {state}]",
    "  sub al, {enter}",
    "  cmp al, {orders}",
    "  jb 11f",
    "  add ecx, 1",
    "  cmp ecx, esi",
    "  jae 5f",
    "  pause",
    "  jmp 4b",
    // In ecx: how many looks were in vain.
    "11:",
    "  cmp ecx, 16",
    "  ja 7f",
    "  test ecx, ecx",
    "  setnz cl",
    "  lea edx, [rdx + rcx * 8 - 1]",
    "  cmp edx, 255",
    "  ja 7f",
    "  mov byte ptr [r11 + {pace}], dl",
    "  jmp 7f",
    "5:",
    "  mov esi, dword ptr [r11 + {spin_yields}]",
    "6:",
    "  mov eax, dword ptr [r11 + {state}]",
    "  mov edx, eax",
    "  sub al, {enter}",
    "  cmp al, {orders}",
    "  jb 3f",
    "  sub esi, 1",
    "  jb 9f",
    "  mov eax, {sys_sched_yield}",
    "  syscall",
    "  movabs r11, {turn_line}",
    "  jmp 6b",
    "9:",
    "  xor esi, esi",
    "  mov eax, edx",
    "  or edx, {worker_sleeps}",
    "  lock cmpxchg dword ptr [r11 + {state}], edx",
    "  jne 6b",
    "  mov eax, {sys_futex}",
    "  mov rdi, r11",
    "  xor r10d, r10d",
    "  syscall",
    "  movabs r11, {turn_line}",
    "  jmp 6b",
    // The segment that the vdso reads too: its limit holds the CPU in the low 12 bits.
    "3:",
    "  mov ecx, 0x7b",
    "  lsl ecx, ecx",
    "  and ecx, 0xfff",
    "  inc ecx",
    "  shl ecx, {cpu_shift}",
    "  mov dword ptr [r11 + {cpu}], ecx",
    "7:",
    "  test al, al",
    "  jz cellwall_enter",
    "  pop rbx",
    "  pop r10",
    "  pop rdx",
    "  pop rsi",
    "  pop rdi",
    "  ret",
    // The host sleeps on the word: wake it. That takes longer than a spin.
    "8:",
    "  mov eax, {sys_futex}",
    "  mov rdi, r11",
    "  mov esi, 1",
    "  mov edx, 1",
    "  xor r10d, r10d",
    "  syscall",
    "  movabs r11, {turn_line}",
    "  jmp 5b",
    ".popsection",
    turn_line = const map::TURN_PAGE.start,
    host_page = const map::HOST_PAGE.start,
    stack = const map::STACK.end,
    alt_stack = const map::ALT_STACK.end,
    finish = const map::FINISH,
    xsave_init = sym XSAVE_INIT,
    state = const offset_of!(TurnLine, state),
    number = const offset_of!(TurnLine, number),
    args = const offset_of!(TurnLine, args),
    value = const offset_of!(TurnLine, value),
    guest_entry = const offset_of!(HostPage, entry),
    guest_stack = const offset_of!(HostPage, stack),
    lock_options = const offset_of!(HostPage, options),
    segment_bases = const Options::SEGMENT_BASES.bits(),
    // Relative to the turn line, from which both pages are one displacement away.
    spin_iterations =
        const from_turn_line(map::HOST_PAGE.start, offset_of!(HostPage, spin_iterations)),
    spin_yields = const from_turn_line(map::HOST_PAGE.start, offset_of!(HostPage, spin_yields)),
    idle = const State::Idle as u32,
    enter = const State::Enter as u32,
    orders = const 2,
    hostcall = const State::Hostcall as u32,
    finished = const State::Finished as u32,
    out_of_gas = const State::OutOfGas as u32,
    pace = const from_turn_line(map::GUEST_PAGE.start, offset_of!(GuestPage, pace)),
    cpu = const from_turn_line(map::GUEST_PAGE.start, offset_of!(GuestPage, cpu)),
    cpu_bits = const !0_u32 << StateWord::CPU_SHIFT,
    cpu_shift = const StateWord::CPU_SHIFT,
    host_sleeps = const StateWord::HOST_SLEEPS,
    worker_sleeps = const StateWord::WORKER_SLEEPS,
    sys_futex = const linux_raw::nr::FUTEX.raw(),
    sys_sched_yield = const linux_raw::nr::SCHED_YIELD.raw(),
);

/// The displacement of a word of the host page or the guest page from the turn line.
const fn from_turn_line(page: u64, offset: usize) -> i64 {
    page.cast_signed() + (offset as u64).cast_signed() - map::TURN_PAGE.start.cast_signed()
}
// The two orders are neighbours, so that one comparison finds either.
const _: () = assert!(State::Enter as u32 + 1 == State::Resume as u32);

unsafe extern "C" {
    /// Publishes that the worker is ready, and never comes back: guests run from here on.
    pub(crate) fn cellwall_idle() -> !;
    /// The handler of [`vmctx::EVICTION`]: for the kernel alone.
    pub(crate) fn cellwall_evict();
    /// Publishes the state in `eax`, and comes back with the order to resume: for assembly alone.
    pub(crate) fn cellwall_turn();
}
