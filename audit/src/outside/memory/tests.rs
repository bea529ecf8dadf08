//! The list is exact, whatever is wrong with it.

use super::{Mapping, differences, expected, gaps, unwatched};

fn parse(line: &str) -> Mapping {
    Mapping::parse(line).expect("a line of maps")
}

/// A list without a fault.
fn whole(paged: bool) -> Vec<Mapping> {
    let image = [
        "140000000-140002000 r-xp 00001000 00:01 7 /memfd:cellwall-zygote (deleted)",
        "140002000-140003000 r--p 00003000 00:01 7 /memfd:cellwall-zygote (deleted)",
    ];
    let mut found: Vec<Mapping> = image.into_iter().map(parse).collect();
    found.extend(expected(paged).iter().map(|line| {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (span, rights, name) = (next(), next(), next());
        let file = if name.is_empty() {
            String::new()
        } else {
            format!("/memfd:{name} (deleted)")
        };
        parse(&format!("{span} {rights} 0 00:01 8 {file}"))
    }));
    found
}

#[test]
fn the_list_is_exact() {
    for paged in [false, true] {
        let whole = || whole(paged);
        let differences = |found: &[Mapping]| differences(found, paged);
        assert_eq!(differences(&whole()), [""; 0]);
        for index in 0..whole().len() {
            let mut found = whole();
            found.remove(index);
            assert_ne!(differences(&found), [""; 0], "without {index}");
            let mut found = whole();
            found[index].rights = "rwxp".into();
            assert_ne!(differences(&found), [""; 0], "other rights of {index}");
            let mut found = whole();
            found[index].end += 0x10_0000;
            assert_ne!(differences(&found), [""; 0], "larger {index}");
        }
        let mut found = whole();
        found.push(parse("7ffe0000-7fff0000 rw-p 00000000 00:00 0 [stack]"));
        assert_eq!(
            differences(&found),
            ["extra: 7ffe0000-7fff0000 rw-p [stack]"]
        );
    }
    assert_ne!(whole(false).len(), whole(true).len());
}

#[test]
fn what_is_not_watched_is_found() {
    let mut found = whole(true);
    let gaps: Vec<_> = gaps().collect();
    for mapping in &mut found {
        if gaps.contains(&(mapping.start..mapping.end)) {
            mapping.flags = ["sh", "um", "uw", "ui"].map(str::to_owned).to_vec();
        }
    }
    assert_eq!(unwatched(&found, true), [""; 0]);
    for index in 0..found.len() {
        let mut wrong = found.clone();
        let is_guest = vmctx::map::GUEST.contains(&wrong[index].start);
        match wrong[index].flags.pop() {
            Some(_) => {}
            None => wrong[index].flags.push("um".into()),
        }
        assert_eq!(
            unwatched(&wrong, true).len(),
            usize::from(is_guest),
            "{index}"
        );
    }
    assert_eq!(unwatched(&whole(false), false), [""; 0]);
    assert_ne!(unwatched(&found, false), [""; 0]);
}
