//! A change that fails half-way: what it was to do is not done, or is as good as not.

use cellwall::{Errno, Interrupt, Protection};

use super::super::supervised::supervised;
use super::super::{NOWHERE, PAGE, next_fault};
use super::attempts::{Attempt, LARGE, World};
use crate::harness::{call, config};

/// Nothing is mapped by a mapping that failed, and it can be made anew.
#[test]
fn a_failed_mapping_maps_nothing() {
    let Some(world) = World::new(&config()) else {
        return;
    };
    let mappings: [Attempt; 6] = [
        |_, i| i.map_zero(NOWHERE, 3 * PAGE, Protection::ReadWrite),
        |_, i| i.map_zero(NOWHERE, 1024 * PAGE, Protection::ReadWrite),
        |_, i| i.map_data(NOWHERE, &[1; 9000], Protection::ReadWrite),
        |_, i| i.map_data(NOWHERE, &[1; 9000], Protection::Read),
        |_, i| i.map_data(NOWHERE, &[1; 9000], Protection::None),
        |w, i| i.map_template(NOWHERE, &w.template, Protection::Read),
    ];
    supervised(|supervised| {
        for map in mappings {
            let mut instance = world.instance();
            let held = world.engine.memory_held();
            for number in 0.. {
                let once = || map(&world, &mut instance);
                let (done, struck) = supervised.failing(number, Errno::ENOMEM, once);
                assert_eq!(done.is_err(), struck.is_some(), "{done:?}");
                if struck.is_none() {
                    break;
                }
                assert_eq!(world.engine.memory_held(), held, "{struck:?}");
                let around = instance.absent_around(NOWHERE, 4);
                assert_eq!(around, NOWHERE..NOWHERE + 4 * PAGE, "{struck:?}");
                assert_eq!(next_fault(&mut instance).address, NOWHERE, "{struck:?}");
            }
            assert!(world.engine.memory_held() > held);
        }
    });
}

/// Scattered pages, whose rights change at once: a change that fails half-way loses no contents.
#[test]
fn a_failed_change_of_rights_loses_no_contents() {
    let Some(world) = World::new(&config()) else {
        return;
    };
    // So many that the kernel fills them: only those that are written are there.
    const PAGES: u64 = 600;
    let all = LARGE..LARGE + PAGES * PAGE;
    let to = [Protection::None, Protection::Read, Protection::ReadWrite];
    let changes = to.iter().flat_map(|from| to.map(|to| (*from, to)));
    supervised(|supervised| {
        for (from, to) in changes {
            for number in 0.. {
                let mut instance = world.engine.instantiate(&world.module).unwrap();
                instance
                    .map_zero(all.start, PAGES * PAGE, Protection::ReadWrite)
                    .unwrap();
                for page in [0, 2, 3, 5] {
                    instance
                        .write(all.start + page * PAGE + 9, b"contents")
                        .unwrap();
                }
                instance.protect(all.start, PAGES * PAGE, from).unwrap();
                let change = || instance.protect(all.start, PAGES * PAGE, to);
                let (done, struck) = supervised.failing(number, Errno::ENOMEM, change);
                let case = format!("{from:?} to {to:?}, call {number}, {struck:?}");
                assert_eq!(done.is_err(), struck.is_some(), "{case}: {done:?}");
                let mut page = [0; 4096];
                for number in 0..8 {
                    instance
                        .read_as_host(all.start + number * PAGE, &mut page)
                        .unwrap();
                    let expected: &[u8] = if [0, 2, 3, 5].contains(&number) {
                        b"contents"
                    } else {
                        &[0; 8]
                    };
                    assert_eq!(&page[9..17], expected, "{case}, page {number}");
                }
                // Made anew it is done, and the guest finds them too.
                instance.protect(all.start, PAGES * PAGE, to).unwrap();
                instance
                    .protect(all.start, PAGES * PAGE, Protection::ReadWrite)
                    .unwrap();
                for page in [0, 2, 3, 5] {
                    call(&mut instance, &[all.start + page * PAGE + 9]);
                    let contents = u64::from_le_bytes(*b"contents") + 1;
                    assert_eq!(
                        instance.run().unwrap(),
                        Interrupt::Finished(contents),
                        "{case}"
                    );
                }
                if struck.is_none() {
                    break;
                }
            }
        }
    });
}

/// The host settles a fault by itself, and the kernel refuses the page: `run` says so, and the
/// guest is in its fault still. The next `run` tries again.
#[test]
fn a_page_that_the_kernel_refuses_is_asked_for_again() {
    let Some(world) = World::new(&config()) else {
        return;
    };
    supervised(|supervised| {
        let mut failures = 0;
        for number in 0.. {
            let mut instance = world.instance();
            instance
                .map_template(NOWHERE, &world.template, Protection::ReadWrite)
                .unwrap();
            let (end, struck) = supervised.failing(number, Errno::ENOMEM, || instance.run());
            let Some(call) = struck else {
                break;
            };
            let error = end.unwrap_err();
            assert!(error.to_string().contains(call), "{error}");
            assert!(instance.registers().is_some());
            let value = u64::from_le_bytes([3; 8]) + 1;
            assert_eq!(instance.run().unwrap(), Interrupt::Finished(value));
            failures += 1;
        }
        assert!(failures > 0);
    });
}
