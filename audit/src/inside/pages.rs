//! Guest memory that the host fills, protects and hides: touched in every way that is not allowed,
//! and lied about.

use cellwall::abi::GUEST_PAGE;
use cellwall::{Error, Protection, TrapKind};
use vmctx::{Layer, PAGE_BYTES, map};

use super::kit::{CONSTANTS, DATA, LOW_CODE};
use super::lane::{Lane, PATIENT, SHORT, Stage, attempt, share};
use super::outcome::{Expected, May, Shape, Tally};
use super::sweep::KILLED;
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "guest memory";

/// Where the host maps pages, none of which the guest may write: with contents, of zeros, of a
/// template, protected later, hidden, guarded. Each is followed by one that it may.
const CONTENTS: u64 = 0x3000_0000;
const ZEROS: u64 = CONTENTS + 2 * PAGE_BYTES;
const SHARED: u64 = CONTENTS + 4 * PAGE_BYTES;
const PROTECTED: u64 = CONTENTS + 6 * PAGE_BYTES;
const HIDDEN: u64 = CONTENTS + 8 * PAGE_BYTES;
const GUARD: u64 = CONTENTS + 10 * PAGE_BYTES;
const ABSENT: u64 = CONTENTS + 12 * PAGE_BYTES;
/// The last page that a guest may have.
const LAST: u64 = map::GUEST.end - PAGE_BYTES;

/// What is in all of them but the zeros and the guard: `ret`, where somebody jumps there.
const BYTE: u8 = 0xc3;

/// Every instruction that writes in a way of its own. The second argument is a word or a length.
const WRITES: &[(&str, u64)] = &[
    ("write", 0),
    ("exchange", 1),
    ("locked add", 1),
    ("compare and exchange", 1),
    ("write 16 bytes", 0),
    ("write past the cache", 0),
    ("save the x87 state", 0),
    ("push", 1),
    ("fill backwards", 64),
    ("scribble", 64),
    ("copy", DATA),
];

const NO_ACCESS: Expected = &[May(
    Shape::Trap(TrapKind::Memory),
    "the host does not allow it",
)];

/// What may come of a lie about a fault: the host looks for itself.
const CLAIMED: Expected = &[
    May(
        Shape::Trap(TrapKind::Memory),
        "the guest may not do that there, or not what it does then: a trap",
    ),
    May(
        Shape::Trap(TrapKind::Bus),
        "the kernel fills that page, not the host: a trap",
    ),
];
/// And of one about a page that it may write.
const WRITTEN: Expected = &[
    CLAIMED[0],
    May(
        Shape::Deadline,
        "it gets what it could have had by a touch, and spins on",
    ),
];

/// Makes some of the rows.
type Part = fn(&mut Lane<'_>) -> Result<Row, Error>;

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let parts: [Part; 5] = [read_only, futexes, out_of_reach, executing, claims];
    share(stage, parts.len(), |lane, index| parts[index](lane))
}

/// Pages that are only read, hidden and guarded, where the host can have such.
fn prepare(lane: &mut Lane<'_>) -> Result<(), Error> {
    lane.renew();
    if !lane.is_paged() {
        return Ok(());
    }
    let bytes = vec![BYTE; usize::try_from(PAGE_BYTES).unwrap_or(0)];
    let template = lane.template(&bytes)?;
    let instance = lane.instance()?;
    for page in [CONTENTS, ZEROS, SHARED, PROTECTED, HIDDEN, GUARD] {
        instance.map_data(page + PAGE_BYTES, &bytes, Protection::ReadWrite)?;
    }
    instance.map_data(CONTENTS, &bytes, Protection::Read)?;
    instance.map_zero(ZEROS, PAGE_BYTES, Protection::Read)?;
    instance.map_template(SHARED, &template, Protection::Read)?;
    instance.map_data(PROTECTED, &bytes, Protection::ReadWrite)?;
    instance.protect(PROTECTED, PAGE_BYTES, Protection::Read)?;
    instance.map_data(HIDDEN, &bytes, Protection::None)?;
    instance.guard(GUARD, PAGE_BYTES)?;
    instance.map_data(LAST, &bytes, Protection::Read)
}

/// What a guest may read and not write.
fn read_only_pages(lane: &Lane<'_>) -> Vec<u64> {
    let mut pages = vec![CONSTANTS, LOW_CODE];
    if lane.is_paged() {
        pages.extend([CONTENTS, ZEROS, SHARED, PROTECTED, LAST]);
    }
    pages
}

/// What is in a page, by the host's eyes.
fn contents(lane: &mut Lane<'_>, page: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(PAGE_BYTES).unwrap_or(0)];
    lane.instance()?.read_as_host(page, &mut bytes)?;
    Ok(bytes)
}

/// By each instruction, before and after the guest has read the page.
fn read_only(lane: &mut Lane<'_>) -> Result<Row, Error> {
    prepare(lane)?;
    let mut tally = Tally::new(NO_ACCESS);
    for page in read_only_pages(lane) {
        let before = contents(lane, page)?;
        for is_read in [false, true] {
            if is_read {
                lane.run(&attempt(lane, "read", [page, 0, 0], &[]))?;
            }
            for (program, second) in WRITES {
                // In the page, and from the one before it on.
                let place = if *program == "write" { page + 8 } else { page };
                let try_it = attempt(lane, program, [place, *second, 64], &[0]);
                let outcome = lane.run(&try_it)?;
                tally.add(&outcome, 0, &format!("{program} at {page:#x}"));
            }
        }
        if contents(lane, page)? != before {
            let text = format!("the page at {page:#x} was written");
            tally.note(text, Verdict::GotThrough);
        }
    }
    lane.renew();
    let attempt = format!("writing read-only pages in {} ways", WRITES.len());
    Ok(tally.row(NAME, attempt, Some(Layer::WriteXorExecute)))
}

/// The one call that takes an address, with theirs.
fn futexes(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const FUTEX: u64 = 202;
    let mut tally = Tally::new(KILLED);
    // Wait for what is there, wake, and the operation that writes: FUTEX_WAKE_OP.
    for operation in [0, 1, 5] {
        prepare(lane)?;
        let hidden = lane.is_paged().then_some(HIDDEN);
        for page in read_only_pages(lane).into_iter().chain(hidden) {
            if lane.is_paged() && operation == 0 {
                prepare(lane)?;
            }
            let block = [FUTEX, page, operation, 0, 0, page, 0x0100_0000];
            let outcome = lane.run(&attempt(lane, "syscall", [0; 3], &block))?;
            tally.add(&outcome, 0, &format!("operation {operation} at {page:#x}"));
        }
    }
    lane.renew();
    Ok(tally.row(NAME, "futexes in read-only and hidden pages".into(), None))
}

/// Touches of what is hidden, guarded, given back or was never there.
fn out_of_reach(lane: &mut Lane<'_>) -> Result<Row, Error> {
    prepare(lane)?;
    let mut tally = Tally::new(NO_ACCESS);
    let mut pages = vec![map::GUEST.start, ABSENT];
    if lane.is_paged() {
        // One that the guest had, and has written.
        let gone = CONTENTS + PAGE_BYTES;
        lane.run(&attempt(lane, "write", [gone, 0, 0], &[]))?;
        lane.instance()?.unmap(gone, PAGE_BYTES)?;
        pages.extend([HIDDEN, GUARD, gone]);
    }
    for page in pages {
        let reads = [("read", 0), ("execute", 0)];
        for (program, second) in reads.iter().chain(WRITES) {
            let outcome = lane.run(&attempt(lane, program, [page, *second, 64], &[0]))?;
            tally.add(&outcome, 0, &format!("{program} at {page:#x}"));
        }
        // Over the end of the page before.
        let before = [DATA, page - 4, 64];
        let outcome = lane.run(&attempt(lane, "copy", before, &[]))?;
        tally.add(&outcome, 0, &format!("a copy across {page:#x}"));
    }
    if lane.is_paged() && contents(lane, HIDDEN)?.iter().any(|byte| *byte != BYTE) {
        tally.note("the hidden page was written".into(), Verdict::GotThrough);
    }
    lane.renew();
    let attempt = "touching hidden, guarded and absent pages".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::KernelMappings)))
}

/// Instructions in whatever page the host has filled, and the guest has written.
fn executing(lane: &mut Lane<'_>) -> Result<Row, Error> {
    prepare(lane)?;
    let mut tally = Tally::new(NO_ACCESS);
    let mut pages = vec![DATA, CONSTANTS];
    if lane.is_paged() {
        let pairs = [CONTENTS, ZEROS, SHARED, PROTECTED, HIDDEN, GUARD];
        pages.extend(pairs.iter().flat_map(|page| [*page, page + PAGE_BYTES]));
        pages.push(LAST);
    }
    for page in pages {
        for is_read in [false, true] {
            if is_read {
                lane.run(&attempt(lane, "read", [page, 0, 0], &[]))?;
            }
            let outcome = lane.run(&attempt(lane, "execute", [page, 0, 0], &[]))?;
            tally.add(&outcome, 0, &format!("{page:#x}"));
        }
    }
    lane.renew();
    let attempt = "executing pages that the host has filled".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::WriteXorExecute)))
}

/// Faults that never were: at addresses of everybody's, by both signals, with each error code. What
/// the host settles it settles by its own books.
fn claims(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const SIGNALS: [u64; 2] = [7, 11];
    // Read, write, instruction fetch; of a page that is there or not; and bits of no meaning.
    const ERRORS: [u64; 6] = [4, 6, 7, 0x14, 0x15, u64::MAX];
    let writable = CONTENTS + PAGE_BYTES;
    let others = [
        writable,
        DATA,
        HIDDEN,
        GUARD,
        ABSENT,
        0,
        map::GUEST.end,
        map::IMAGE.start,
        map::HOST_PAGE.start,
        GUEST_PAGE,
        map::CODE_WINDOW.start,
        lane.stage.facts.host_buffer,
        1 << 63,
        u64::MAX,
    ];
    let read_only = read_only_pages(lane);
    let mut tally = Tally::new(CLAIMED);
    for (number, address) in read_only.iter().copied().chain(others).enumerate() {
        let signal = SIGNALS[number % SIGNALS.len()];
        for error in ERRORS {
            prepare(lane)?;
            let before = match read_only.contains(&address) {
                true => contents(lane, address)?,
                false => Vec::new(),
            };
            let mut claim = attempt(lane, "claim a fault", [address, error, signal], &[]);
            let is_writable = address == writable && lane.is_paged();
            // Only there does it spin; a trap may be late on a busy machine.
            claim.deadline = if is_writable { SHORT } else { PATIENT };
            let outcome = lane.run(&claim)?;
            let what = format!("{address:#x}, error {error:#x}");
            let expected = if is_writable { WRITTEN } else { CLAIMED };
            tally.add_expecting(expected, &outcome, 0, &what);
            if outcome.is_over(false) {
                continue;
            }
            if !before.is_empty() && contents(lane, address)? != before {
                tally.note(format!("{what}: it was written"), Verdict::GotThrough);
            }
            // Some wait for an order still, which a reset takes from them.
            lane.instance()?.reset()?;
            let outcome = lane.enter(lane.stage.kit.entry("answer 42"), [0; 3])?;
            if outcome.finished() != Some(42) {
                let text = format!("afterwards, {what}: {}", outcome.text());
                tally.note(text, Verdict::Broken);
            }
        }
    }
    lane.renew();
    let attempt = "claiming faults at addresses of everybody's".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}
