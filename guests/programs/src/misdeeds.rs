#![expect(unsafe_code, reason = "misbehaves on purpose")]
//! What a guest must not do, for the tests that look what becomes of it.
//!
//! None of this is sound, and that is the point: the wall has to hold whatever a guest does. What
//! each `SAFETY` comment says is what stops the misdeed.

use alloc::format;
use alloc::vec;
use core::arch::asm;
use core::hint::black_box;

use cellwall_guest::{Errno, Handle, hostcall::hostcall, write_all};
use vmctx::{map, native};

/// A misdeed.
pub struct Misdeed {
    /// Its name on the command line.
    pub name: &'static str,
    /// Commits it; where it fails to do any harm, gives an exit status.
    pub commit: fn() -> u8,
}

/// All of them.
pub static MISDEEDS: [Misdeed; 20] = [
    Misdeed {
        name: "null",
        commit: null,
    },
    Misdeed {
        name: "gp",
        commit: non_canonical,
    },
    Misdeed {
        name: "unaligned-ac",
        commit: unaligned,
    },
    Misdeed {
        name: "write-code",
        commit: write_code,
    },
    Misdeed {
        name: "jump-data",
        commit: jump_to_data,
    },
    Misdeed {
        name: "jump-null",
        commit: jump_to_null,
    },
    Misdeed {
        name: "divide",
        commit: divide,
    },
    Misdeed {
        name: "ud2",
        commit: illegal,
    },
    Misdeed {
        name: "int3",
        commit: breakpoint,
    },
    Misdeed {
        name: "privileged",
        commit: privileged,
    },
    Misdeed {
        name: "stack",
        commit: overflow_stack,
    },
    Misdeed {
        name: "panic",
        commit: panic,
    },
    Misdeed {
        name: "syscall",
        commit: getpid,
    },
    Misdeed {
        name: "syscall-32",
        commit: getpid_32,
    },
    Misdeed {
        name: "exit-group",
        commit: exit_group,
    },
    Misdeed {
        name: "badcall",
        commit: unknown_hostcall,
    },
    Misdeed {
        name: "badptr",
        commit: write_from_the_worker,
    },
    Misdeed {
        name: "badptr-null",
        commit: write_from_null,
    },
    Misdeed {
        name: "badptr-wrap",
        commit: write_around_the_end,
    },
    Misdeed {
        name: "badptr-read",
        commit: read_over_the_worker,
    },
];

/// The misdeed had no effect.
const SURVIVED: u8 = 3;

fn load(address: usize) -> u8 {
    // SAFETY: nothing readable is at the addresses in use here; the processor faults.
    unsafe { asm!("mov al, byte ptr [{}]", in(reg) address, out("al") _) };
    SURVIVED
}

fn null() -> u8 {
    load(0)
}

fn non_canonical() -> u8 {
    load(1 << 63)
}

fn unaligned() -> u8 {
    let words = black_box([0u64; 2]);
    // SAFETY: asks the processor to fault on unaligned accesses, then makes one, in the array.
    unsafe {
        asm!(
            "pushfq",
            "or dword ptr [rsp], 0x40000",
            "popfq",
            "mov {scratch}, qword ptr [{words} + 1]",
            words = in(reg) words.as_ptr(),
            scratch = out(reg) _,
        );
    }
    SURVIVED
}

fn write_code() -> u8 {
    // SAFETY: code is mapped read-only; the processor faults.
    unsafe { asm!("mov byte ptr [{}], 0xc3", in(reg) write_code as *const ()) };
    SURVIVED
}

fn call(address: usize) -> u8 {
    // SAFETY: nothing executable is at the addresses in use here; the processor faults.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) };
    SURVIVED
}

fn jump_to_data() -> u8 {
    // A `ret`: executed, it would come back.
    let code = black_box(vec![0xc3_u8; 64]);
    call(code.as_ptr().addr())
}

fn jump_to_null() -> u8 {
    call(0)
}

fn divide() -> u8 {
    // SAFETY: the processor faults.
    unsafe { asm!("div {:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
    SURVIVED
}

fn illegal() -> u8 {
    // SAFETY: the processor faults.
    unsafe { asm!("ud2", options(noreturn)) };
}

fn breakpoint() -> u8 {
    // SAFETY: the processor traps.
    unsafe { asm!("int3") };
    SURVIVED
}

fn privileged() -> u8 {
    // SAFETY: the instruction is the kernel's alone; the processor faults.
    unsafe { asm!("hlt") };
    SURVIVED
}

fn overflow_stack() -> u8 {
    // SAFETY: nothing writable is below the stack; the processor faults there.
    unsafe { asm!("2: push rax", "jmp 2b", options(noreturn)) };
}

fn panic() -> u8 {
    panic!("as requested");
}

fn system_call(number: u64, arg: u64) -> u64 {
    let answer;
    // SAFETY: the filter allows none but `exit_group` of those in use here, which takes numbers.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => answer,
            in("rdi") arg,
            out("rcx") _,
            out("r11") _,
        );
    }
    answer
}

fn getpid() -> u8 {
    say("syscall", system_call(39, 0))
}

fn getpid_32() -> u8 {
    let answer: u32;
    // SAFETY: getpid by the 32-bit table, which the filter refuses as another architecture.
    unsafe { asm!("int 0x80", inout("eax") 20 => answer) };
    say("syscall-32", u64::from(answer))
}

fn exit_group() -> u8 {
    say("exit-group", system_call(231, 3))
}

fn unknown_hostcall() -> u8 {
    // SAFETY: the host knows no such number, and none of the arguments is an address.
    say("badcall", unsafe { hostcall(9999, [1, 2, 3, 4, 5, 6]) })
}

fn write_from_the_worker() -> u8 {
    write_from("badptr", map::IMAGE.start)
}

fn write_from_null() -> u8 {
    write_from("badptr-null", 0)
}

fn write_around_the_end() -> u8 {
    write_from("badptr-wrap", u64::MAX - 7)
}

fn write_from(name: &str, address: u64) -> u8 {
    let args = [native::STDOUT, address, 16, 0, 0, 0];
    // SAFETY: the host refuses addresses that are not the guest's own.
    say(name, unsafe { hostcall(native::WRITE, args) })
}

fn read_over_the_worker() -> u8 {
    let args = [native::STDIN, map::GUEST_PAGE.start, 16, 0, 0, 0];
    // SAFETY: the host refuses addresses that are not the guest's own.
    say("badptr-read", unsafe { hostcall(native::READ, args) })
}

/// Writes what a call answered: an errno by its name, anything else as a number.
fn say(name: &str, answer: u64) -> u8 {
    let text = match Errno::from_answer(answer) {
        Ok(value) => format!("{name}: {value}\n"),
        Err(errno) => format!("{name}: {errno}\n"),
    };
    match write_all(Handle::STDOUT, text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => SURVIVED,
    }
}
