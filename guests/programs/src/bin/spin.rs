//! Loops for ever. With an argument it writes that and a line end first, so that whoever waits
//! knows that it runs.
#![cfg_attr(cellwall_freestanding, no_std, no_main)]

extern crate alloc;

use alloc::format;

use cellwall_guest::{Args, Handle, write_all};
use cellwall_guest_programs::streams::complain;

cellwall_guest::entry!(run);

fn run(mut args: Args) -> u8 {
    if let Some(line) = args.next() {
        let line = [line, b"\n"].concat();
        if let Err(errno) = write_all(Handle::STDOUT, &line) {
            return complain("spin", &format!("cannot write: {errno}"));
        }
    }
    loop {
        core::hint::spin_loop();
    }
}
