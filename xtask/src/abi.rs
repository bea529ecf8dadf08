//! The tables of the documentation, from the constants that host and zygote are compiled with.

use std::fmt::Write as _;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::Path;

use vmctx::{GuestPage, HostPage, LINE_BYTES, Layer, State, Tier, TurnLine, map, native};

use crate::Failure;

/// The name of a table's place in a file, and what writes it.
type Table = (&'static str, fn() -> String);

const FILES: [(&str, &[Table]); 2] = [
    (
        "docs/abi.md",
        &[
            ("map", address_map),
            ("turn", turn_line),
            ("pages", pages),
            ("states", states),
            ("native", native_calls),
        ],
    ),
    ("docs/threat-model.md", &[("layers", layers)]),
];

pub(crate) fn run(root: &Path, check: bool) -> Result<(), Failure> {
    for (file, tables) in FILES {
        let path = root.join(file);
        let old = fs::read_to_string(&path)?;
        let mut new = old.clone();
        for (name, table) in tables {
            new = replace(file, &new, name, &table())?;
        }
        if new == old {
            println!("{file} says what vmctx says");
        } else if check {
            return Err(format!("{file} differs from vmctx: run `cargo xtask abi`").into());
        } else {
            fs::write(path, new)?;
            println!("{file} written");
        }
    }
    Ok(())
}

/// Replaces what stands between the marks of one table.
fn replace(file: &str, text: &str, name: &str, table: &str) -> Result<String, Failure> {
    let (begin, end) = (
        format!("<!-- table {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let missing = || format!("{file} has no place for the table \"{name}\"");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

/// Every layer of the wall, as vmctx describes it.
fn layers() -> String {
    let mut table = String::from(
        "| layer | need | tier | what it is | stops | does not stop | kernel |\n|---|---|---|---|---|---|---|\n",
    );
    for layer in Layer::ALL {
        let tier = if layer.is_in(Tier::WithoutNamespaces) {
            "both"
        } else {
            "full"
        };
        let _ = writeln!(
            table,
            "| {} | {} | {tier} | {} | {} | {} | {} |",
            layer.name(),
            layer.need().name(),
            layer.what(),
            layer.stops(),
            layer.does_not_stop(),
            layer.since(),
        );
    }
    table
}

fn address_map() -> String {
    let mut table = String::from("| addresses | what |\n|---|---|\n");
    for (name, span) in map::MAP {
        let _ = writeln!(
            table,
            "| `{:#x}` – `{:#x}` | {name} |",
            span.start, span.end
        );
    }
    let _ = writeln!(
        table,
        "| `{:#x}` | `HOSTCALL`: call it to make a hostcall |",
        map::HOSTCALL
    );
    let _ = writeln!(
        table,
        "| `{:#x}` | `FINISH`: jump there to finish |",
        map::FINISH
    );
    let _ = writeln!(
        table,
        "| `{:#x}` | `OUT_OF_GAS`: call it once the gas is used up |",
        map::OUT_OF_GAS
    );
    let _ = writeln!(
        table,
        "| `{:#x}` | `GAS`: the counter, 8 bytes, signed |",
        map::GAS
    );
    table
}

fn turn_line() -> String {
    let mut table = String::from("| offset | bytes | word |\n|---|---|---|\n");
    for (offset, bytes, what) in [
        (offset_of!(TurnLine, state), 4, "state, the futex"),
        (offset_of!(TurnLine, number), 4, "hostcall number"),
        (offset_of!(TurnLine, args), 48, "six arguments"),
        (
            offset_of!(TurnLine, value),
            8,
            "answer, or the value that the guest finished with",
        ),
    ] {
        let _ = writeln!(table, "| {offset} | {bytes} | {what} |");
    }
    let _ = writeln!(
        table,
        "| | {} | one cache line of {LINE_BYTES} bytes |",
        size_of::<TurnLine>()
    );
    table
}

fn pages() -> String {
    let mut table = String::from("| page | offset | what |\n|---|---|---|\n");
    for (page, offset, what) in [
        (
            "host",
            offset_of!(HostPage, version),
            "version of these words",
        ),
        (
            "host",
            offset_of!(HostPage, spin_iterations),
            "rounds to spin",
        ),
        (
            "host",
            offset_of!(HostPage, spin_yields),
            "yields before sleeping",
        ),
        ("host", offset_of!(HostPage, region_count), "valid regions"),
        ("host", offset_of!(HostPage, entry), "entry"),
        (
            "host",
            offset_of!(HostPage, stack),
            "stack pointer on entry",
        ),
        (
            "host",
            offset_of!(HostPage, options),
            "options of the lock-down",
        ),
        ("host", offset_of!(HostPage, nice), "nice value"),
        ("host", offset_of!(HostPage, uid), "user to become"),
        ("host", offset_of!(HostPage, gid), "group to become"),
        ("host", offset_of!(HostPage, cpus), "CPUs to run on"),
        ("host", offset_of!(HostPage, regions), "regions"),
        ("guest", offset_of!(GuestPage, step), "lock-down step"),
        ("guest", offset_of!(GuestPage, errno), "its errno"),
        ("guest", offset_of!(GuestPage, call), "its system call"),
        (
            "guest",
            offset_of!(GuestPage, cpu),
            "where the worker last ran",
        ),
        ("guest", offset_of!(GuestPage, layers), "layers in force"),
        ("guest", offset_of!(GuestPage, fault), "fault report"),
        ("guest", offset_of!(GuestPage, last_words), "last words"),
        (
            "guest",
            offset_of!(GuestPage, absences),
            "errno of each absent layer",
        ),
        ("guest", offset_of!(GuestPage, gas), "gas"),
    ] {
        let _ = writeln!(table, "| {page} | {offset:#x} | {what} |");
    }
    table
}

fn states() -> String {
    let mut table = String::from("| number | state | may follow |\n|---|---|---|\n");
    for state in State::ALL {
        let before: Vec<String> = State::ALL
            .iter()
            .filter(|before| state.may_follow(**before))
            .map(|before| format!("{before:?}"))
            .collect();
        let _ = writeln!(
            table,
            "| {} | {state:?} | {} |",
            state as u8,
            before.join(", ")
        );
    }
    table
}

fn native_calls() -> String {
    let mut table = String::from("| number | hostcall |\n|---|---|\n");
    for (number, call) in [
        (native::READ, "`read(handle, address, length)`"),
        (native::WRITE, "`write(handle, address, length)`"),
        (native::LOG, "`log(address, length)`"),
        (native::PANIC, "`panic(address, length)`"),
    ] {
        let _ = writeln!(table, "| {number} | {call} |");
    }
    table
}
