//! Native guests, from ELF file to output: real programs on real files, damaged ones, hostile ones.

mod answers;
mod bad_elf;
mod bad_gzip;
mod bad_parts;
mod bad_png;
mod c_guest;
mod crash;
mod elf_files;
mod files;
mod gunzip;
mod hand_made;
mod layout;
mod limits;
mod mutants;
#[path = "../guests/programs/tests/pictures/mod.rs"]
mod pictures;
mod png;
mod runner;
mod spoiled;
