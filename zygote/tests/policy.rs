//! The worker's filters against the same policy, built by another assembler, and against a plain
//! reading of it: every number, every architecture, every edge of every argument, both ways.

use std::collections::BTreeMap;

use cellwall_zygote::policy::{FILTER, REPORTING_FILTER};
use linux_raw::seccomp::simulate::simulate;
use linux_raw::seccomp::{ALLOW, Instruction, KILL_PROCESS, SeccompData, TRAP};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use vmctx::map::STATE_WORD;

// The policy in words: futex, WAIT or WAKE, on the state word, without a timeout; sched_yield;
// exit_group. The numbers are written out here, so that a mistake in ours is not repeated.
const FUTEX: u32 = 202;
const SCHED_YIELD: u32 = 24;
const EXIT_GROUP: u32 = 231;
const WAIT: u64 = 0;
const WAKE: u64 = 1;
const X86_64: u32 = 0xc000_003e;
/// The first number of an x32 call.
const X32: u32 = 0x4000_0000;
/// Every call that Linux has on this architecture is below, with room for many more.
const NUMBERS: u32 = 0x400;

/// The policy as `seccompiler` assembles it. Only the width of the operation is a choice: the
/// kernel looks at its low half alone, and ours lets through nothing but the whole value.
fn theirs(operation: Width, otherwise: SeccompAction) -> Vec<Instruction> {
    let is = |argument, width, value| {
        SeccompCondition::new(argument, width, SeccompCmpOp::Eq, value).unwrap()
    };
    let futex = |wanted| {
        SeccompRule::new(vec![
            is(0, Width::Qword, STATE_WORD),
            is(1, operation.clone(), wanted),
            is(3, Width::Qword, 0),
        ])
        .unwrap()
    };
    let rules = BTreeMap::from([
        (i64::from(FUTEX), vec![futex(WAIT), futex(WAKE)]),
        (i64::from(SCHED_YIELD), vec![]),
        (i64::from(EXIT_GROUP), vec![]),
    ]);
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, TargetArch::x86_64);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    let instruction = |one: &seccompiler::sock_filter| Instruction {
        code: one.code,
        if_true: one.jt,
        if_false: one.jf,
        operand: one.k,
    };
    program.iter().map(instruction).collect()
}

/// All programs that are compared.
struct Programs {
    kill: Vec<Instruction>,
    kill_by_half: Vec<Instruction>,
    trap: Vec<Instruction>,
    tally: Tally,
}

/// How often each answer came, so that no comparison is one of nothing.
#[derive(Default)]
struct Tally {
    allowed: u64,
    killed: u64,
    trapped: u64,
    by_half_only: u64,
    x32: u64,
}

impl Programs {
    fn new() -> Self {
        Self {
            kill: theirs(Width::Qword, SeccompAction::KillProcess),
            kill_by_half: theirs(Width::Dword, SeccompAction::KillProcess),
            trap: theirs(Width::Qword, SeccompAction::Trap),
            tally: Tally::default(),
        }
    }

    fn compare(&mut self, nr: u32, arch: u32, args: [u64; 6]) {
        let data = SeccompData {
            nr,
            arch,
            instruction_pointer: 0x1_8000_0002,
            args,
        };
        let ours = simulate(FILTER.as_slice(), &data).unwrap();
        let reporting = simulate(REPORTING_FILTER.as_slice(), &data).unwrap();
        let answer = |program: &[Instruction]| simulate(program, &data).unwrap();

        let allowed = arch == X86_64 && policy_allows(nr, &args);
        let expected = if allowed { ALLOW } else { KILL_PROCESS };
        assert_eq!(ours, expected, "{data:x?}");
        // With whole registers compared the two agree everywhere: an x32 number is no number of
        // the list's, and a foreign architecture is killed by both.
        assert_eq!(ours, answer(&self.kill), "{data:x?}");

        // With half of the operation compared they differ just where the other half is rubbish.
        let whole = data.args[1] & u64::from(u32::MAX);
        let halved = [args[0], whole, args[2], args[3], args[4], args[5]];
        let only_by_half = arch == X86_64 && policy_allows(nr, &halved) && !allowed;
        let by_half = answer(&self.kill_by_half);
        assert_eq!(by_half != ours, only_by_half, "{data:x?}");
        assert!(!only_by_half || by_half == ALLOW, "{data:x?}");

        // The reporting filter traps where the other one kills, but for what is foreign.
        let foreign = arch != X86_64 || nr >= X32;
        let denied = if foreign { KILL_PROCESS } else { TRAP };
        let expected = if allowed { ALLOW } else { denied };
        assert_eq!(reporting, expected, "{data:x?}");
        // Theirs kills foreign architectures too, and knows nothing of x32 calls.
        let x32 = arch == X86_64 && nr >= X32;
        let trap = answer(&self.trap);
        assert_eq!(trap != reporting, x32, "{data:x?}");
        assert!(!x32 || trap == TRAP, "{data:x?}");

        self.tally.allowed += u64::from(allowed);
        self.tally.killed += u64::from(ours == KILL_PROCESS);
        self.tally.trapped += u64::from(reporting == TRAP);
        self.tally.by_half_only += u64::from(only_by_half);
        self.tally.x32 += u64::from(x32);
    }
}

fn policy_allows(nr: u32, args: &[u64; 6]) -> bool {
    match nr {
        FUTEX => args[0] == STATE_WORD && matches!(args[1], WAIT | WAKE) && args[3] == 0,
        SCHED_YIELD | EXIT_GROUP => true,
        _ => false,
    }
}

/// What the policy lets through under a futex's number.
const FITTING: [u64; 6] = [STATE_WORD, WAKE, 1, 0, 0, 0];

/// Numbers below [`NUMBERS`], each of them as an x32 call and with its sign, and the edges of 32
/// bits.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [X32 - 1, X32, 1 << 31, (1 << 31) - 1, u32::MAX, u32::MAX - 1];
    let marked = |nr| [nr, nr | X32, nr | 1 << 31, nr | X32 | 1 << 31];
    let flipped = (0..32).flat_map(|bit| [FUTEX, SCHED_YIELD, EXIT_GROUP].map(|nr| nr ^ 1 << bit));
    let high = [0x1_0000, 0x8000, 0x2000_0000].map(|bits| FUTEX | bits);
    (0..NUMBERS)
        .flat_map(marked)
        .chain(edges)
        .chain(flipped)
        .chain(high)
}

/// Every value that `AUDIT_ARCH_*` can have (linux/audit.h): an ELF machine's number under each of
/// the three flags; and what is none.
fn architectures() -> impl Iterator<Item = u32> {
    const MACHINES: u32 = 0x200;
    let flags = |machine: u32| (0..8).map(move |flags| machine | flags << 29);
    let machines = (0..MACHINES).chain([0x5441, 0x9026]).flat_map(flags);
    let flipped = (0..32).map(|bit| X86_64 ^ 1 << bit);
    machines.chain(flipped).chain([u32::MAX, 1 << 28])
}

/// Values around the one that fits, each of its halves, and the edges of both.
fn edges(fits: u64) -> Vec<u64> {
    let low = fits & u64::from(u32::MAX);
    let mut values = vec![
        0,
        1,
        2,
        fits,
        fits.wrapping_add(1),
        fits.wrapping_sub(1),
        low,
        fits ^ low,
        fits.rotate_left(32),
        fits ^ 1 << 31,
        fits ^ 1 << 32,
        fits ^ 1 << 63,
        u64::from(u32::MAX),
        1 << 32,
        u64::MAX,
    ];
    values.sort_unstable();
    values.dedup();
    values
}

#[test]
fn every_number() {
    let mut programs = Programs::new();
    for nr in numbers() {
        for args in [[0; 6], FITTING, [u64::MAX; 6], [STATE_WORD; 6]] {
            programs.compare(nr, X86_64, args);
        }
    }
    let Tally { allowed, x32, .. } = programs.tally;
    // Two calls with any argument, one with its own.
    assert!(allowed > 4 + 4, "{allowed}");
    assert!(x32 >= 4 * 3 * u64::from(NUMBERS), "{x32}");
}

#[test]
fn every_architecture() {
    let mut programs = Programs::new();
    let numbers = [0, 1, FUTEX, SCHED_YIELD, EXIT_GROUP, FUTEX | X32, u32::MAX];
    // What the three are called by on i386, and what has their numbers there.
    let on_i386 = [240, 158, 252];
    for arch in architectures() {
        for nr in numbers.into_iter().chain(on_i386) {
            for args in [[0; 6], FITTING] {
                programs.compare(nr, arch, args);
            }
        }
    }
    // Ours is among them once: two numbers with both sets of arguments, one with its own.
    assert_eq!(programs.tally.allowed, 5);
    assert!(programs.tally.killed > 10_000);
}

#[test]
fn every_edge_of_every_argument() {
    let mut programs = Programs::new();
    let unlooked_at = [0, u64::from(u32::MAX), u64::MAX];
    for word in edges(STATE_WORD) {
        for operation in edges(WAIT).into_iter().chain(edges(WAKE)) {
            for timeout in edges(0) {
                for any in 0..27 {
                    let other = |digit: usize| unlooked_at[any / digit % 3];
                    let args = [word, operation, other(1), timeout, other(3), other(9)];
                    programs.compare(FUTEX, X86_64, args);
                }
            }
        }
    }
    for nr in [SCHED_YIELD, EXIT_GROUP, FUTEX, 0] {
        for argument in 0..6 {
            for bit in 0..64 {
                let mut args = FITTING;
                args[argument] ^= 1 << bit;
                programs.compare(nr, X86_64, args);
            }
        }
    }
    let tally = programs.tally;
    assert!(tally.allowed >= 27 * 2, "{}", tally.allowed);
    assert!(tally.by_half_only >= 27 * 2, "{}", tally.by_half_only);
    assert_eq!(tally.trapped, tally.killed);
}
