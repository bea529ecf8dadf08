//! Structs: those defined here and those of the generated names that are relied on.

use core::mem::offset_of;

use linux_raw::arch::{SigContext, UContext};
use linux_raw::process::Limit;
use linux_raw::seccomp::notify::Notification;
use linux_raw::seccomp::{Instruction, SeccompData};
use linux_raw::signal::{AltStack, SigAction, SigInfo};
use linux_raw::sys::{general as sys, net};
use linux_raw::time::Timespec;

use crate::probe::Fact;

/// The size and alignment of a type, and the place of each field named: `ours = theirs`, or one
/// name for both.
macro_rules! layout {
    ($facts:ident, $ours:ty as $theirs:literal { $($field:ident $(= $c_field:literal)?),* $(,)? }) => {
        $facts.push(Fact::layout($theirs, size_of::<$ours>(), align_of::<$ours>()));
        $(
            let c_field: &[&str] = &[$($c_field,)? stringify!($field)];
            let span = memoffset::span_of!($ours, $field);
            assert_eq!(span.start, offset_of!($ours, $field));
            $facts.push(Fact::field($theirs, c_field[0], span.start, span.len()));
        )*
    };
}

/// What the kernel's headers declare.
pub(crate) fn kernel() -> Vec<Fact> {
    let mut facts = Vec::new();
    layout!(facts, Timespec as "struct __kernel_timespec" {
        seconds = "tv_sec", nanos = "tv_nsec",
    });
    layout!(facts, Limit as "struct rlimit64" { soft = "rlim_cur", hard = "rlim_max" });
    layout!(facts, Instruction as "struct sock_filter" {
        code, if_true = "jt", if_false = "jf", operand = "k",
    });
    layout!(facts, SeccompData as "struct seccomp_data" { nr, arch, instruction_pointer, args });
    layout!(facts, Notification as "struct seccomp_notif" { id, pid, flags, data });
    layout!(facts, sys::pollfd as "struct pollfd" { fd, events, revents });
    layout!(facts, sys::clone_args as "struct clone_args" {
        flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup,
    });
    layout!(facts, sys::__user_cap_header_struct as "struct __user_cap_header_struct" {
        version, pid,
    });
    layout!(facts, sys::__user_cap_data_struct as "struct __user_cap_data_struct" {
        effective, permitted, inheritable,
    });
    layout!(facts, sys::stat as "struct stat" { st_size, st_blocks });
    signals(&mut facts);
    page_faults(&mut facts);
    facts
}

/// What a signal handler gets, and how it is installed.
fn signals(facts: &mut Vec<Fact>) {
    layout!(facts, SigAction as "struct sigaction" {
        handler = "sa_handler", flags = "sa_flags", restorer = "sa_restorer", mask = "sa_mask",
    });
    layout!(facts, AltStack as "stack_t" { base = "ss_sp", flags = "ss_flags", bytes = "ss_size" });
    layout!(facts, SigContext as "struct sigcontext" {
        r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags,
        cs, gs, fs, ss, err, trapno, oldmask, cr2, fpstate, reserved = "reserved1",
    });
    layout!(facts, UContext as "struct ucontext" {
        flags = "uc_flags", link = "uc_link", stack = "uc_stack", registers = "uc_mcontext",
        mask = "uc_sigmask",
    });
    layout!(facts, SigInfo as "siginfo_t" {});
    // Where the accessors of SigInfo read.
    for (field, offset, size) in [
        ("si_signo", 0, 4),
        ("si_code", 8, 4),
        ("si_addr", 16, 8),
        ("si_status", 24, 4),
        ("si_call_addr", 16, 8),
        ("si_syscall", 24, 4),
        ("si_arch", 28, 4),
    ] {
        facts.push(Fact::field("siginfo_t", field, offset, size));
    }
}

/// What is said to a userfaultfd.
fn page_faults(facts: &mut Vec<Fact>) {
    layout!(facts, sys::uffdio_api as "struct uffdio_api" { api, features, ioctls });
    layout!(facts, sys::uffdio_range as "struct uffdio_range" { start, len });
    layout!(facts, sys::uffdio_register as "struct uffdio_register" { range, mode, ioctls });
    layout!(facts, sys::uffdio_zeropage as "struct uffdio_zeropage" { range, mode, zeropage });
    layout!(facts, sys::uffdio_copy as "struct uffdio_copy" { dst, src, len, mode, copy });
    layout!(facts, sys::uffdio_continue as "struct uffdio_continue" { range, mode, mapped });
    layout!(facts, sys::uffdio_writeprotect as "struct uffdio_writeprotect" { range, mode });
}

/// What libc declares: messages.
pub(crate) fn libc() -> Vec<Fact> {
    let mut facts = Vec::new();
    layout!(facts, net::msghdr as "struct msghdr" {
        msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags,
    });
    layout!(facts, net::cmsghdr as "struct cmsghdr" { cmsg_len, cmsg_level, cmsg_type });
    layout!(facts, sys::iovec as "struct iovec" { iov_base, iov_len });
    facts.push(Fact::expression("CMSG_LEN(sizeof(int))", 20));
    facts
}
