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

/// A word of a page: where it is, how long it is, what it is.
macro_rules! word {
    ($page:ident, $($word:ident).+, $what:literal) => {
        (
            offset_of!($page, $($word).+),
            bytes_of(|page: &$page| &page.$($word).+),
            $what,
        )
    };
}

fn bytes_of<P, W>(_: fn(&P) -> &W) -> usize {
    size_of::<W>()
}

/// All words but those that are reserved.
fn pages() -> String {
    let host = [
        word!(HostPage, version, "version of these words"),
        word!(HostPage, spin_iterations, "rounds to spin"),
        word!(HostPage, spin_yields, "yields before sleeping"),
        word!(HostPage, region_count, "valid regions"),
        word!(HostPage, entry, "entry"),
        word!(HostPage, stack, "stack pointer on entry"),
        word!(HostPage, options, "options of the lock-down"),
        word!(HostPage, nice, "nice value"),
        word!(HostPage, uid, "user to become"),
        word!(HostPage, gid, "group to become"),
        word!(
            HostPage,
            left_out,
            "0; layers that a zygote of the layer tests leaves out"
        ),
        word!(
            HostPage,
            evicted,
            "not 0 from an eviction until the next entry"
        ),
        word!(HostPage, cpus, "CPUs to run on"),
        word!(HostPage, regions, "regions"),
        word!(
            HostPage,
            without,
            "layers that a kernel may lack and the host does without; read once, before a guest runs"
        ),
    ];
    let guest = [
        word!(GuestPage, step, "lock-down step"),
        word!(GuestPage, errno, "its errno"),
        word!(GuestPage, call, "its system call"),
        word!(
            GuestPage,
            segment_bases,
            "1 where `wrfsbase` and `wrgsbase` work; read before a guest runs"
        ),
        word!(GuestPage, cpu, "where the worker last ran"),
        word!(
            GuestPage,
            paging,
            "where its userfaultfd is; read before a guest runs"
        ),
        word!(
            GuestPage,
            layers,
            "layers in force; read before a guest runs"
        ),
        word!(GuestPage, fault.signal, "fault report: the signal"),
        word!(GuestPage, fault.code, "its `si_code`"),
        word!(GuestPage, fault.address, "its `si_addr`"),
        word!(GuestPage, fault.error, "the CPU's error code"),
        word!(GuestPage, fault.vector, "the CPU's exception number"),
        word!(
            GuestPage,
            fault.registers,
            "registers, as `REGISTER_NAMES` has them"
        ),
        word!(GuestPage, last_words, "last words"),
        word!(
            GuestPage,
            absences,
            "errno of each absent layer; read before a guest runs"
        ),
        word!(GuestPage, gas, "gas: the counter, alone on its line"),
    ];
    let mut table = String::from("| page | offset | bytes | what |\n|---|---|---|---|\n");
    for (page, words) in [("host", host.as_slice()), ("guest", &guest)] {
        for (offset, bytes, what) in words {
            let _ = writeln!(table, "| {page} | {offset:#x} | {bytes} | {what} |");
        }
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
