//! What the kernel and a ring's owner share.

use linux_raw::sys::io_uring as sys;
use linux_raw::uring::op::{Op, TimeoutFlags};
use linux_raw::uring::{CqeFlags, Features, SetupFlags, SqeFlags};

use crate::constants::flags;
use crate::probe::Fact;

/// Enumerators, which no `#ifdef` sees, under the same name.
macro_rules! enumerators {
    ($facts:ident: $($module:ident::$name:ident),* $(,)?) => {
        $($facts.push(Fact::expression(stringify!($name), sys::$module::$name as u64));)*
    };
}

/// Flags, operations and places.
pub(crate) fn constants(facts: &mut Vec<Fact>) {
    flags::<SetupFlags>(facts, "IORING_SETUP_");
    flags::<Features>(facts, "IORING_FEAT_");
    flags::<SqeFlags>(facts, "IOSQE_");
    flags::<CqeFlags>(facts, "IORING_CQE_F_");
    flags::<TimeoutFlags>(facts, "IORING_TIMEOUT_");
    for (name, value) in [
        ("IO_URING_OP_SUPPORTED", sys::IO_URING_OP_SUPPORTED),
        ("IORING_SQ_CQ_OVERFLOW", sys::IORING_SQ_CQ_OVERFLOW),
        ("IORING_SQ_TASKRUN", sys::IORING_SQ_TASKRUN),
        ("IORING_ENTER_GETEVENTS", sys::IORING_ENTER_GETEVENTS),
        ("IORING_ENTER_EXT_ARG", sys::IORING_ENTER_EXT_ARG),
    ] {
        facts.push(Fact::constant(name, value.into()));
    }
    enumerators!(facts:
        io_uring_sqe_flags_bit::IOSQE_FIXED_FILE_BIT,
        io_uring_register_op::IORING_REGISTER_BUFFERS,
        io_uring_register_op::IORING_UNREGISTER_BUFFERS,
        io_uring_register_op::IORING_REGISTER_FILES,
        io_uring_register_op::IORING_UNREGISTER_FILES,
        io_uring_register_op::IORING_REGISTER_FILES_UPDATE,
        io_uring_register_op::IORING_REGISTER_PROBE,
    );
    for (name, op) in [
        ("NOP", Op::Nop),
        ("READ_FIXED", Op::ReadFixed),
        ("WRITE_FIXED", Op::WriteFixed),
        ("POLL_ADD", Op::PollAdd),
        ("POLL_REMOVE", Op::PollRemove),
        ("TIMEOUT", Op::Timeout),
        ("TIMEOUT_REMOVE", Op::TimeoutRemove),
        ("ASYNC_CANCEL", Op::AsyncCancel),
        ("LINK_TIMEOUT", Op::LinkTimeout),
        ("READ", Op::Read),
        ("WRITE", Op::Write),
    ] {
        facts.push(Fact::expression(&format!("IORING_OP_{name}"), op as u64));
    }
}
