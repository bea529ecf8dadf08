//! Greets, and shows the arguments that it was given.
#![cfg_attr(cellwall_freestanding, no_std, no_main)]

extern crate alloc;

use alloc::format;

use cellwall_guest::{Args, Handle, write_all};
use cellwall_guest_programs::streams::complain;

cellwall_guest::entry!(run);

fn run(args: Args) -> u8 {
    let mut text = b"Hello from a Cellwall guest!\n".to_vec();
    for (index, arg) in args.enumerate() {
        text.extend_from_slice(format!("argument {}: ", index + 1).as_bytes());
        text.extend_from_slice(arg);
        text.push(b'\n');
    }
    match write_all(Handle::STDOUT, &text) {
        Ok(()) => 0,
        Err(errno) => complain("hello", &format!("cannot write: {errno}")),
    }
}
