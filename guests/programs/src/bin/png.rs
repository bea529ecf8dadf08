//! Decodes a PNG file on the standard input to a PPM file on the standard output.
#![cfg_attr(cellwall_freestanding, no_std, no_main)]

use cellwall_guest::{Args, Handle};
use cellwall_guest_programs::png::png_to_ppm;
use cellwall_guest_programs::streams::complain;

cellwall_guest::entry!(run);

fn run(_: Args) -> u8 {
    match png_to_ppm(Handle::STDIN, Handle::STDOUT) {
        Ok(()) => 0,
        Err(error) => complain("png", &error),
    }
}
