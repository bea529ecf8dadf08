#![expect(unsafe_code, reason = "makes a siginfo of bytes")]
//! Structs: those defined here and those of the generated names that are relied on.

use core::mem::offset_of;

use linux_raw::arch::{SigContext, UContext};
use linux_raw::landlock::Rights;
use linux_raw::process::Limit;
use linux_raw::seccomp::notify::Notification;
use linux_raw::seccomp::{Instruction, SeccompData};
use linux_raw::signal::{AltStack, SigAction, SigInfo};
use linux_raw::sys::{general as sys, io_uring, net, ptrace, system};
use linux_raw::time::Timespec;

use crate::probe::Fact;

/// The size and alignment of a type, and the place of each field named: `ours = theirs`, or one
/// name for both.
macro_rules! layout {
    ($facts:ident, $ours:ty as $theirs:literal { $($field:ident $(= $c_field:literal)?),* $(,)? }) => {
        $facts.push(
            Fact::layout($theirs, size_of::<$ours>(), align_of::<$ours>())
                .of(core::any::type_name::<$ours>()),
        );
        $(
            let c_field: &[&str] = &[$($c_field,)? stringify!($field)];
            let span = memoffset::span_of!($ours, $field);
            assert_eq!(span.start, offset_of!($ours, $field));
            let of = format!("{}::{}", core::any::type_name::<$ours>(), stringify!($field));
            $facts.push(Fact::field($theirs, c_field[0], span.start, span.len()).of(&of));
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
    landlock(&mut facts);
    layout!(facts, system::new_utsname as "struct new_utsname" { release });
    filters(&mut facts);
    signals(&mut facts);
    page_faults(&mut facts);
    rings(&mut facts);
    facts
}

/// What Landlock is told. The struct grows at its end, and the kernel takes a shorter one.
fn landlock(facts: &mut Vec<Fact>) {
    let of = "struct landlock_ruleset_attr";
    let told = format!("sizeof({of}) >= {}", size_of::<Rights>());
    let whole = Fact::expression(&told, 1).of(core::any::type_name::<Rights>());
    facts.push(whole.needs("LANDLOCK_SCOPE_SIGNAL"));
    for (ours, field, place) in [
        ("fs", "handled_access_fs", memoffset::span_of!(Rights, fs)),
        (
            "net",
            "handled_access_net",
            memoffset::span_of!(Rights, net),
        ),
        ("scoped", "scoped", memoffset::span_of!(Rights, scoped)),
    ] {
        let ours = format!("{}::{ours}", core::any::type_name::<Rights>());
        facts.push(Fact::field(of, field, place.start, place.len()).of(&ours));
    }
}

/// What filters are made of, and what they ask.
fn filters(facts: &mut Vec<Fact>) {
    layout!(facts, Instruction as "struct sock_filter" {
        code, if_true = "jt", if_false = "jf", operand = "k",
    });
    layout!(facts, SeccompData as "struct seccomp_data" { nr, arch, instruction_pointer, args });
    layout!(facts, Notification as "struct seccomp_notif" { id, pid, flags, data });
    layout!(facts, ptrace::sock_fprog as "struct sock_fprog" { len, filter });
    layout!(facts, ptrace::seccomp_notif_resp as "struct seccomp_notif_resp" {
        id, val, error, flags,
    });
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
    facts.extend([
        read("si_signo", |info| info.signal().is_some()).of("siginfo::SigInfo::number"),
        read("si_code", |info| info.code()).of("siginfo::SigInfo::code"),
        read("si_addr", |info| info.addr()).of("siginfo::SigInfo::fields"),
        read("si_pid", |info| info.pid()),
        read("si_status", |info| info.status()),
        read("si_call_addr", |info| info.call_addr()),
        read("si_syscall", |info| info.syscall()),
        read("si_arch", |info| info.arch()),
    ]);
}

/// Where an accessor reads: from the first byte on that changes what it answers.
fn read<T: PartialEq>(field: &str, accessor: impl Fn(&SigInfo) -> T) -> Fact {
    let changes = |at: &usize| {
        let mut bytes = [0_u8; size_of::<SigInfo>()];
        bytes[*at] = 9;
        // SAFETY: the struct is numbers, of any value, and has as many bytes.
        let info: SigInfo = unsafe { core::mem::transmute(bytes) };
        accessor(&info) != accessor(&SigInfo::ZERO)
    };
    let at: Vec<usize> = (0..size_of::<SigInfo>()).filter(changes).collect();
    let first = *at.first().expect("it reads something");
    // The higher bytes of a signal's number make it no signal's.
    let size = if field == "si_signo" { 4 } else { at.len() };
    Fact::field("siginfo_t", field, first, size)
}

/// What the kernel and a ring's owner share.
fn rings(facts: &mut Vec<Fact>) {
    layout!(facts, io_uring::io_uring_sqe as "struct io_uring_sqe" {
        opcode, flags, ioprio, fd, __bindgen_anon_1 = "off", __bindgen_anon_2 = "addr", len,
        __bindgen_anon_3 = "rw_flags", user_data, __bindgen_anon_4 = "buf_index", personality,
        __bindgen_anon_5 = "file_index",
    });
    let at = offset_of!(io_uring::io_uring_sqe, __bindgen_anon_6) as u64;
    let place = "__builtin_offsetof(struct io_uring_sqe, addr3)";
    facts.push(Fact::expression(place, at));
    layout!(facts, io_uring::io_uring_cqe as "struct io_uring_cqe" { user_data, res, flags });
    layout!(facts, io_uring::io_uring_params as "struct io_uring_params" {
        sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, sq_off,
        cq_off,
    });
    layout!(facts, io_uring::io_sqring_offsets as "struct io_sqring_offsets" {
        head, tail, ring_mask, ring_entries, flags, dropped, array,
    });
    layout!(facts, io_uring::io_cqring_offsets as "struct io_cqring_offsets" {
        head, tail, ring_mask, ring_entries, overflow, cqes, flags,
    });
    layout!(facts, io_uring::io_uring_getevents_arg as "struct io_uring_getevents_arg" {
        sigmask, sigmask_sz, ts,
    });
    layout!(facts, io_uring::io_uring_probe_op as "struct io_uring_probe_op" { op, flags });
    layout!(facts, io_uring::io_uring_probe as "struct io_uring_probe" { last_op, ops_len });
    // An array without a length.
    let at = offset_of!(io_uring::io_uring_probe, ops) as u64;
    let place = "__builtin_offsetof(struct io_uring_probe, ops)";
    facts.push(Fact::expression(place, at));
    layout!(facts, io_uring::io_uring_rsrc_update as "struct io_uring_rsrc_update" {
        offset, data,
    });
    layout!(facts, sys::iovec as "struct iovec" { iov_base, iov_len });
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
    facts.push(Fact::expression("CMSG_LEN(sizeof(int))", 20));
    facts
}
