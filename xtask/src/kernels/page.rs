//! `docs/kernels.md`, made of the rows: what a person looks up who chooses a kernel.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::pins::Pin;
use super::rows::{Feature, Kernel, Row, Rows};
use crate::Failure;

pub(super) const PAGE: &str = "docs/kernels.md";

const HEAD: &str = "\
# Kernels

What Cellwall finds in the kernels that it is tested with, and how the tests end there. `cargo xtask
kernels` boots each in QEMU, looks as root and as user 1000, and fails where it finds anything else
than is written here. Numbers of tests and attempts grow with Cellwall: it fails where fewer tests
pass, fewer attempts are made or more tests are left out. `cargo xtask kernels --write` has written
this page, kernel by kernel, so rows may be of different versions of Cellwall. On your own machine
`cellwall probe` tells the same of your kernel.

";

const SUITE: &str = "
*Layers*: \"all\" is the full wall; what the kernel or the emulated CPU lacks of it is named. *Tests*
are those of `tests/`, each layer attacked alone among them, of the library, and of linux-raw's calls
and rings, but for those that are *left out*, with reasons, in `xtask/kernels-without.txt`; on a
kernel that no sandbox runs on, only those that need none (`xtask/kernels-refused.txt`). Not among
them are the tests of the command line, which start it where cargo has built it, those of the audit,
which is run itself, and the rest of linux-raw's, which compute or read headers. *Missing for tests*
are the keys of `absence/absences.txt` that tests met. *Audit* is `cellwall audit`: how many attempts
and looks it made; what QEMU's emulated CPU lets through itself, as no CPU does, is told apart
(`xtask/kernels-audit.txt`).

";

const FEATURES: &str = "
## Features

\"must\" means that no sandbox runs without it. An errno is what the kernel answered. Where root and
user 1000 differ, both are told.

";

pub(super) fn write(root: &Path, pins: &[Pin], rows: &Rows) -> Result<(), Failure> {
    Ok(fs::write(root.join(PAGE), page(pins, rows))?)
}

pub(super) fn is_current(root: &Path, pins: &[Pin], rows: &Rows) -> bool {
    fs::read_to_string(root.join(PAGE)).is_ok_and(|text| text == page(pins, rows))
}

fn page(pins: &[Pin], rows: &Rows) -> String {
    // In the order of the pins.
    let found = |pin: &Pin| Some((pin.name.clone(), rows.kernels.get(&pin.name)?));
    let kernels: Vec<(String, &Kernel)> = pins.iter().filter_map(found).collect();
    let mut page = HEAD.to_owned();
    page += "| kernel | release | user | layers | tests passed, at least | left out | missing for tests | audit, at least |\n";
    page += "|---|---|---|---|--:|--:|---|---|\n";
    for (name, kernel) in &kernels {
        for row in &kernel.users {
            page += &suite_line(name, kernel.left_out, row);
        }
    }
    page += SUITE;
    emulators(&kernels, &mut page);
    page += FEATURES;
    features(&kernels, &mut page);
    page
}

fn suite_line(name: &str, left_out: usize, row: &Row) -> String {
    let layers = match (row.can_run, row.lacks.as_slice()) {
        (false, _) => {
            let missing = row.features.iter().filter(|feature| feature.is_missed());
            let missing: Vec<&str> = missing.map(|feature| feature.name.as_str()).collect();
            format!("refused: {}", missing.join(", "))
        }
        (true, []) => "all".into(),
        (true, lacks) => format!("all but {}", lacks.join(", ")),
    };
    let audit = match (row.attempts, row.emulated) {
        (Some(attempts), Some(0)) => format!("{attempts}, all stopped"),
        (Some(attempts), Some(cpu)) => format!("{}, all stopped; {cpu} the CPU's", attempts - cpu),
        _ => "-".into(),
    };
    let absent = match row.absent.as_slice() {
        [] => "-".into(),
        keys => keys.join(", "),
    };
    let Row {
        release, passed, ..
    } = row;
    let user = user(row);
    format!(
        "| {name} | {release} | {user} | {layers} | {passed} | {left_out} | {absent} | {audit} |\n"
    )
}

fn user(row: &Row) -> String {
    if row.user == 0 {
        "root".into()
    } else {
        row.user.to_string()
    }
}

impl Feature {
    /// Whether no sandbox can run for the lack of it.
    fn is_missed(&self) -> bool {
        self.need == "must" && !self.is_there()
    }
}

/// What the CPU hangs on.
fn emulators(kernels: &[(String, &Kernel)], page: &mut String) {
    let mut versions: Vec<&str> = kernels
        .iter()
        .map(|(_, kernel)| kernel.qemu.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    if let Some(first) = versions.first() {
        let all = versions.get(1..).unwrap_or_default().iter();
        let all = all.fold((*first).to_owned(), |list, version| {
            format!("{list}, {version}")
        });
        // Writing to a string cannot fail.
        let _ = writeln!(page, "The CPU is what QEMU {all} emulates as `max`.");
    }
}

fn features(kernels: &[(String, &Kernel)], page: &mut String) {
    // In the order of the last kernel; behind it what only others have, whose rows may be of other
    // versions of Cellwall.
    let mut names: Vec<&Feature> = Vec::new();
    for (_, kernel) in kernels.iter().rev() {
        for feature in kernel.users.iter().flat_map(|row| &row.features) {
            if !names.iter().any(|known| known.name == feature.name) {
                names.push(feature);
            }
        }
    }
    let heads: Vec<&str> = kernels.iter().map(|(name, _)| name.as_str()).collect();
    let _ = writeln!(page, "| feature | need | since | {} |", heads.join(" | "));
    let _ = writeln!(page, "|---|---|---|{}", "---|".repeat(heads.len()));
    for Feature {
        name, need, since, ..
    } in names
    {
        let cells: Vec<String> = kernels
            .iter()
            .map(|(_, kernel)| cell(kernel, name))
            .collect();
        let _ = writeln!(
            page,
            "| {name} | {need} | {since} | {} |",
            cells.join(" | ")
        );
    }
}

/// A feature of a kernel, for its users.
fn cell(kernel: &Kernel, name: &str) -> String {
    let of = |row: &Row| {
        let feature = row.features.iter().find(|feature| feature.name == name);
        let state = feature.map_or("?".into(), |feature| feature.state.clone());
        (user(row), state)
    };
    let states: Vec<(String, String)> = kernel.users.iter().map(of).collect();
    match states.as_slice() {
        [(_, first), rest @ ..] if rest.iter().all(|(_, state)| state == first) => first.clone(),
        different => {
            let told: Vec<String> = different
                .iter()
                .map(|(user, state)| format!("{user}: {state}"))
                .collect();
            told.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pins::{Pin, Pins};
    use super::{Feature, Rows, is_current};

    #[test]
    fn what_has_no_flags_is_there() {
        let is_missed = |state: &str| {
            let [name, need, since] = ["memfd", "must", "3.17"].map(str::to_owned);
            let state = state.to_owned();
            let feature = Feature {
                name,
                need,
                since,
                state,
            };
            feature.is_missed()
        };
        assert!(
            ["no", "no (ENOSYS)", "forbidden: a filter"]
                .into_iter()
                .all(is_missed)
        );
        assert!(!["yes", "no flags"].into_iter().any(is_missed));
    }

    #[test]
    fn the_page_says_what_its_rows_say() {
        let root = crate::root();
        let (pins, rows) = (Pins::read(&root).unwrap(), Rows::read(&root).unwrap());
        // Between a new pin and its row the page tells the release that was booted.
        for Pin { name, package, .. } in &pins.all {
            let booted = rows.kernels.get(name).map(|row| &row.package);
            assert_eq!(
                booted,
                Some(package),
                "not booted yet: cargo xtask kernels --write {name}"
            );
        }
        assert!(
            is_current(&root, &pins.all, &rows),
            "written by hand, or pins have changed: cargo xtask kernels --write"
        );
    }
}
