//! The host reads and writes what the guest itself could, and sees what the guest sees.

mod dropped;
mod evicted;
mod faults;
mod limits;
mod model;
mod running_on;
mod snapshots;
mod tenants;
mod without;

use cellwall::abi::{CODE_WINDOW, GUEST};
use cellwall::{Access, Blame, Instance, Interrupt, Misuse, Module, Protection};
use iced_x86::code_asm::{al, byte_ptr, rcx, rdi, rsi};

use crate::harness::{CONSTANTS, DATA, DATA_BYTES, assemble, call, engine, parts, start};

fn refused(result: Result<(), cellwall::Error>) -> bool {
    matches!(
        result.expect_err("out of bounds").blame,
        Blame::Caller(Misuse::OutOfBounds { .. })
    )
}

#[test]
fn both_sides_see_the_same_bytes() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        // Increments `rsi` bytes from `rdi` on.
        let mut again = code.create_label();
        code.mov(rcx, rsi).unwrap();
        code.set_label(&mut again).unwrap();
        code.inc(byte_ptr(rdi + rcx - 1)).unwrap();
        code.dec(rcx).unwrap();
        code.jne(again).unwrap();
        code.ret().unwrap();
    });
    let before: Vec<u8> = (0..DATA_BYTES).map(|at| (at % 251) as u8).collect();
    instance.write(DATA, &before).unwrap();
    call(&mut instance, &[DATA, DATA_BYTES]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
    let mut after = vec![0; before.len()];
    instance.read_into(DATA, &mut after).unwrap();
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before + 1 == *after)
    );
}

#[test]
fn access_stops_where_the_guest_s_does() {
    let engine = engine();
    let mut instance = start(&engine, |code| code.ret().unwrap());
    let mut byte = [0];
    for address in [
        0,
        DATA - 1,
        DATA + DATA_BYTES,
        GUEST.end - 1,
        GUEST.end,
        u64::MAX,
    ] {
        assert!(
            refused(instance.read_into(address, &mut byte)),
            "read at {address:#x}"
        );
        assert!(
            refused(instance.write(address, &byte)),
            "write at {address:#x}"
        );
    }
    for access in [Access::Read, Access::Write, Access::Execute] {
        let is = |address, length| instance.is_accessible(address, length, access);
        assert_eq!(is(DATA, DATA_BYTES), access != Access::Execute);
        assert_eq!(is(CODE_WINDOW.start, 1), access != Access::Write);
        assert_eq!(is(CONSTANTS, 0x1000), access == Access::Read);
        assert!(is(0, 0) && is(u64::MAX, 0) && is(DATA + DATA_BYTES, 0));
        assert!(!is(DATA, DATA_BYTES + 1) && !is(DATA - 1, 2) && !is(DATA, u64::MAX));
    }
    // Where it may only read.
    for address in [CONSTANTS, CODE_WINDOW.start] {
        instance.read_into(address, &mut byte).unwrap();
        assert!(refused(instance.write(address, &byte)));
    }
    // A range with one bad byte at either end does nothing at all.
    let all = vec![7; usize::try_from(DATA_BYTES).unwrap() + 1];
    assert!(refused(instance.write(DATA, &all)));
    assert!(refused(instance.write(DATA - 1, &all)));
    instance.read_into(DATA, &mut byte).unwrap();
    assert_eq!(byte, [0]);
    assert!(refused(instance.read_into(u64::MAX - 3, &mut [0; 8])));
    instance.read_into(DATA, &mut []).unwrap();
}

#[test]
fn contents_are_the_module_s() {
    let engine = engine();
    let code = assemble(|code| code.ret().unwrap());
    let module = parts(&code)
        .data_zero_extended(0x8_0000, b"head", 0x3000, Protection::ReadWrite)
        .data_zero_extended(0x9_0000, b"read only head", 0x2000, Protection::Read)
        .build(&engine)
        .unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    let mut read = |address, length| {
        let mut bytes = vec![0xaa; length];
        instance.read_into(address, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(read(CONSTANTS, 9), b"constants");
    assert_eq!(read(CODE_WINDOW.start, code.len()), code);
    assert_eq!(read(CODE_WINDOW.start + 1, 3), [0xcc; 3]);
    assert_eq!(read(0x8_0000, 6), b"head\0\0");
    assert_eq!(read(0x8_2ffc, 4), [0; 4]);
    assert_eq!(read(0x9_0000, 16), b"read only head\0\0");
    assert_eq!(read(0x9_1ffc, 4), [0; 4]);
}

#[test]
fn reads_cross_regions_that_touch() {
    let engine = engine();
    let module = Module::builder()
        .code(&[0xc3])
        .stack(0x10_0000, 0x1000)
        .data(0x1_0000, &[1; 0x1000], Protection::Read)
        .data(0x1_1000, &[2; 0x1000], Protection::ReadWrite)
        .data(0x1_2000, &[3; 0x1000], Protection::Read)
        .build(&engine)
        .unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    let mut bytes = vec![0; 0x3000];
    instance.read_into(0x1_0000, &mut bytes).unwrap();
    assert!(
        bytes
            .chunks(0x1000)
            .zip(1..)
            .all(|(page, value)| page.iter().all(|b| *b == value))
    );
    assert!(refused(instance.write(0x1_1000, &[0; 0x1001])));
    instance.write(0x1_1000, &[9; 0x1000]).unwrap();
}

/// Instances share constants, never what they write.
#[test]
fn instances_do_not_see_each_other_s_writes() {
    let engine = engine();
    let code = assemble(|code| {
        code.mov(byte_ptr(rdi), al).unwrap();
        code.ret().unwrap();
    });
    let module = parts(&code)
        .data(0x8_0000, b"initial", Protection::ReadWrite)
        .build(&engine)
        .unwrap();
    let mut first = engine.instantiate(&module).unwrap();
    let mut second = engine.instantiate(&module).unwrap();
    first.write(0x8_0000, b"changed").unwrap();
    let contents = |instance: &mut Instance| {
        let mut bytes = [0; 7];
        instance.read_into(0x8_0000, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(&contents(&mut first), b"changed");
    assert_eq!(&contents(&mut second), b"initial");
    assert_eq!(
        &contents(&mut engine.instantiate(&module).unwrap()),
        b"initial"
    );
}

#[test]
fn the_host_may_fill_what_the_guest_only_reads() {
    let engine = engine();
    let module = Module::builder()
        .code(&[0xc3])
        .stack(0x10_0000, 0x1000)
        .zeroed(0x1_0000, 0x1000, Protection::Read)
        .data(0x2_0000, &[5; 0x1000], Protection::Read)
        .build(&engine)
        .unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    instance.write_as_host(0x1_0000, b"arguments").unwrap();
    let mut bytes = [0; 9];
    instance.read_into(0x1_0000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"arguments");
    assert!(refused(instance.write(0x1_0000, b"x")));
    // What instances share stays as it is, and says so.
    assert!(refused(instance.write_as_host(0x2_0000, b"x")));
    assert!(refused(instance.write_as_host(CODE_WINDOW.start, b"x")));
}
