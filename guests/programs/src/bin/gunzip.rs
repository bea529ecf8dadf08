//! Unpacks a gzip file from the standard input to the standard output.
#![cfg_attr(cellwall_freestanding, no_std, no_main)]

use cellwall_guest::{Args, Handle};
use cellwall_guest_programs::gzip::gunzip;
use cellwall_guest_programs::streams::complain;

cellwall_guest::entry!(run);

fn run(_: Args) -> u8 {
    match gunzip(Handle::STDIN, Handle::STDOUT) {
        Ok(()) => 0,
        Err(error) => complain("gunzip", &error),
    }
}
