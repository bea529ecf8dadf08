//! Does something wrong, by name: each a way in which a guest may go astray or attack.
#![cfg_attr(cellwall_freestanding, no_std, no_main)]

use cellwall_guest::Args;
use cellwall_guest_programs::streams::complain;

cellwall_guest::entry!(run);

#[cfg(cellwall_freestanding)]
fn run(mut args: Args) -> u8 {
    extern crate alloc;

    use cellwall_guest_programs::misdeeds::MISDEEDS;

    let wanted = args.next().unwrap_or_default();
    match MISDEEDS
        .iter()
        .find(|misdeed| misdeed.name.as_bytes() == wanted)
    {
        Some(misdeed) => (misdeed.commit)(),
        None => {
            let names: alloc::vec::Vec<&str> =
                MISDEEDS.iter().map(|misdeed| misdeed.name).collect();
            complain("crash", &alloc::format!("usage: crash {}", names.join("|")));
            2
        }
    }
}

/// What this does means something else to an ordinary program, or nothing good.
#[cfg(not(cellwall_freestanding))]
fn run(_: Args) -> u8 {
    complain("crash", &"does this only behind the wall")
}
