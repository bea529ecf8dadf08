//! The numbers that generated code relies on; `docs/abi.md` is the contract in words.

use std::mem::offset_of;

use vmctx::{Fault, GuestPage, TurnLine};

pub use vmctx::guest_page::REGISTER_NAMES;
pub use vmctx::map::{CODE_WINDOW, FINISH, GAS, GUEST, HOSTCALL, OUT_OF_GAS, Span};
pub use vmctx::{HOSTCALL_ARGS, PAGE_BYTES};

/// The address of the turn line in a worker: state, hostcall number, arguments, answer.
pub const TURN_LINE: u64 = vmctx::map::TURN_PAGE.start;
/// The address of the guest page in a worker: what it reports.
pub const GUEST_PAGE: u64 = vmctx::map::GUEST_PAGE.start;

/// Where the state word is in the turn line. Generated code has no business with it.
pub const STATE_OFFSET: usize = offset_of!(TurnLine, state);
/// Where the hostcall's number is in the turn line: 4 bytes.
pub const NUMBER_OFFSET: usize = offset_of!(TurnLine, number);
/// Where the hostcall's arguments are in the turn line: 8 bytes each.
pub const ARGS_OFFSET: usize = offset_of!(TurnLine, args);
/// Where the answer is in the turn line: 8 bytes.
pub const VALUE_OFFSET: usize = offset_of!(TurnLine, value);
/// Where the fault report is in the guest page.
pub const FAULT_OFFSET: usize = offset_of!(GuestPage, fault);
/// Where the faulting address is in the guest page: 8 bytes.
pub const FAULT_ADDRESS_OFFSET: usize = FAULT_OFFSET + offset_of!(Fault, address);
/// Where the registers at the fault are in the guest page: 8 bytes each, in the order of
/// [`REGISTER_NAMES`].
pub const FAULT_REGISTERS_OFFSET: usize = FAULT_OFFSET + offset_of!(Fault, registers);
