//! Guest files with a bit or some bytes changed: refused, or run to some interrupt. Nothing that a
//! file can say makes an error of the host's or keeps the next guest from working.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cellwall::native::{Options, Program};
use cellwall::{Blame, Engine, Interrupt, Stage};

use super::elf_files::{PART, parts, reason};
use super::files::Random;
use super::runner::{image, two_at_once};

/// Those that loop for ever are given this long.
const DEADLINE: Duration = Duration::from_millis(50);

/// Loads a file and runs it if that works, answering whatever it asks.
fn try_out(engine: &Engine, file: &[u8], deadline: Duration) -> Option<Interrupt> {
    let program = match Program::load(engine, file, &Options::new()) {
        Ok(program) => program,
        Err(error) => {
            // The image may be fine and leave no room for heap and stack.
            if matches!(error.blame, Blame::Caller(cellwall::Misuse::Elf(_))) {
                reason(error);
            } else {
                assert_eq!(error.stage, Stage::Module, "{error}");
            }
            return None;
        }
    };
    let mut instance = engine.instantiate(program.module()).unwrap();
    program.enter(&mut instance, &["argument"]).unwrap();
    instance.set_deadline(deadline);
    for _ in 0..100 {
        match instance.run() {
            Ok(Interrupt::Hostcall(_)) => instance.answer(0).unwrap(),
            Ok(end) => return Some(end),
            Err(error) => {
                // The one thing that a guest can do to its instance: it can write these words.
                assert!(matches!(error.blame, Blame::Forged(_)), "{error}");
                return Some(Interrupt::Deadline);
            }
        }
    }
    Some(Interrupt::Deadline)
}

fn try_all(mutants: &[Vec<u8>]) -> usize {
    let engine = crate::harness::engine();
    let ran = AtomicUsize::new(0);
    two_at_once(mutants, |file| {
        if try_out(&engine, file, DEADLINE).is_some() {
            ran.fetch_add(1, Ordering::Relaxed);
        }
    });
    let end = try_out(&engine, image("hello"), Duration::from_secs(60));
    // It was told that none of its bytes was written.
    assert_eq!(end, Some(Interrupt::Finished(1)));
    ran.into_inner()
}

#[test]
fn every_flipped_bit_of_the_headers() {
    let file = image("hello");
    let headers = parts(file).last().unwrap() + PART;
    let mutants: Vec<Vec<u8>> = (0..headers * 8)
        .map(|bit| {
            let mut mutant = file.to_vec();
            mutant[bit / 8] ^= 1 << (bit % 8);
            mutant
        })
        .collect();
    let ran = try_all(&mutants);
    println!("{ran} of {} mutants ran", mutants.len());
    // Section headers, physical addresses and flags that describe: most others are refused.
    assert!(ran > 100 && ran < mutants.len() * 3 / 4, "{ran}");
}

#[test]
fn random_damage_anywhere() {
    let mut random = Random::new(40);
    let file = image("hello");
    let mutants: Vec<Vec<u8>> = (0..600)
        .map(|_| {
            let mut mutant = file.to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(mutant.len());
                let length = random.below(9).min(mutant.len() - at);
                let bytes = random.bytes(length);
                mutant[at..at + length].copy_from_slice(&bytes);
            }
            mutant
        })
        .collect();
    assert!(try_all(&mutants) > 100);
}

/// Headers of numbers that hurt: the ends of ranges, and what is just beyond them.
#[test]
fn headers_of_extreme_numbers() {
    const NUMBERS: [u64; 14] = [
        0,
        1,
        0xfff,
        0x1000,
        0xffff,
        0x1_0000,
        0x40_0000,
        0x7fff_ffff,
        0xffff_f000,
        0x1_0000_0000,
        0x1_4000_0000,
        0x8000_0000_0000_0000,
        u64::MAX - 0x3f_ffff,
        u64::MAX,
    ];
    let file = image("hello");
    let mut places = vec![24, 32];
    for part in parts(file) {
        places.extend([8, 16, 32, 40, 48].map(|field| part + field));
    }
    let mut mutants = Vec::new();
    for (index, &place) in places.iter().enumerate() {
        for number in NUMBERS {
            let mut mutant = file.to_vec();
            mutant[place..place + 8].copy_from_slice(&number.to_le_bytes());
            // The same with a neighbour that would make up for it.
            let mut pair = mutant.clone();
            let next = places[(index + 1) % places.len()];
            pair[next..next + 8].copy_from_slice(&number.to_le_bytes());
            mutants.extend([mutant, pair]);
        }
    }
    try_all(&mutants);
}
