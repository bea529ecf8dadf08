//! Damaged gzip files and broken streams: the guest's own message and status, what was unpacked
//! before is there, and the next guest works.

use std::io::Read as _;

use cellwall::{Errno, Interrupt};
use flate2::read::MultiGzDecoder;

use super::files::Random;
use super::gunzip::gzip;
use super::runner::{Native, World, common, two_at_once};

const EARLY: &str = "gunzip: the input ends too early\n";
const NOT_GZIP: &str = "gunzip: the input is not in gzip format\n";
const CORRUPT: &str = "gunzip: the input is damaged: invalid compressed data\n";
const CHECKSUM: &str = "gunzip: the input is damaged: the checksum differs\n";
const LENGTH: &str = "gunzip: the input is damaged: the length differs\n";
const GARBAGE: &str = "gunzip: there is garbage behind the compressed data\n";

/// The bytes of a header without options, and of checksum and length.
const HEADER: usize = 10;
const TRAILER: usize = 8;

#[test]
fn cut_off_anywhere() {
    let gunzip = Native::built_in("gunzip");
    let data = Random::new(10).text(2000);
    let file = gzip(&data, 6);
    let cuts: Vec<usize> = (0..file.len()).collect();
    two_at_once(&cuts, |&cut| {
        let run = gunzip.run(&file[..cut]);
        run.assert_refused(&format!("cut at {cut}"), EARLY);
        assert!(data.starts_with(&run.stdout), "cut at {cut}");
        if cut >= file.len() - TRAILER {
            assert_eq!(run.stdout.len(), data.len(), "all was unpacked");
        }
    });
    gunzip.run(&file).assert_output("uncut", &data);
}

#[test]
fn what_was_unpacked_before_the_cut_is_written() {
    let gunzip = Native::built_in("gunzip");
    let mut random = Random::new(11);
    let data = random.text(1 << 20);
    let file = gzip(&data, 6);
    for part in 1..32 {
        let cut = file.len() * part / 32;
        let run = gunzip.run(&file[..cut]);
        run.assert_refused(&format!("{part}/32"), EARLY);
        assert!(data.starts_with(&run.stdout), "{part}/32");
        // The text packs evenly, so that this share of it has been seen.
        let share = data.len() * part / 32;
        assert!(run.stdout.len() > share * 9 / 10, "{part}/32");
        assert!(run.stdout.len() < share * 11 / 10, "{part}/32");
    }
}

#[test]
fn every_flipped_bit_of_a_small_file() {
    let gunzip = Native::built_in("gunzip");
    let data = Random::new(12).text(300);
    let file = gzip(&data, 6);
    let bits: Vec<usize> = (0..file.len() * 8).collect();
    two_at_once(&bits, |&bit| {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let what = format!("bit {bit}");
        let run = gunzip.run(&flipped);
        let mut expected = Vec::new();
        let good = MultiGzDecoder::new(flipped.as_slice())
            .read_to_end(&mut expected)
            .is_ok();
        // What only describes the file, and bits behind the last code of the data.
        if good {
            assert!(expected == data, "{what}: a checksum that missed it");
            return run.assert_output(&what, &data);
        }
        let complaint = run.complaint();
        let complaints: &[&str] = match bit / 8 {
            0 | 1 => &[NOT_GZIP],
            2 => &[complaint],
            3 => &[complaint],
            at if at < file.len() - TRAILER => &[EARLY, CORRUPT, CHECKSUM, LENGTH, GARBAGE],
            at if at < file.len() - TRAILER / 2 => &[CHECKSUM],
            _ => &[LENGTH],
        };
        assert!(complaints.contains(&complaint), "{what}: {complaint}");
        run.assert_refused(&what, complaint);
        assert!(complaint.starts_with("gunzip: ") && complaint.ends_with('\n'));
        if bit / 8 >= file.len() - TRAILER {
            assert!(run.stdout == data, "{what}: the data itself is good");
        }
    });
}

#[test]
fn damage_in_the_middle_leaves_what_was_before_it() {
    let gunzip = Native::built_in("gunzip");
    let mut random = Random::new(13);
    let data = random.text(1 << 20);
    let file = gzip(&data, 6);
    for part in 1..16 {
        let at = file.len() * part / 16;
        let mut damaged = file.clone();
        damaged[at..at + 64].copy_from_slice(&random.bytes(64));
        let run = gunzip.run(&damaged);
        assert_eq!(run.end, Interrupt::Finished(1), "{part}/16");
        let complaint = run.complaint();
        let known = [EARLY, CORRUPT, CHECKSUM, LENGTH, GARBAGE];
        assert!(known.contains(&complaint), "{part}/16: {complaint}");
        let good = common(&run.stdout, &data);
        assert!(good > data.len() * part / 16 * 9 / 10, "{part}/16: {good}");
    }
}

#[test]
fn what_is_no_gzip_at_all() {
    let gunzip = Native::built_in("gunzip");
    let data = b"data";
    let file = gzip(data, 6);
    let refused = |input: &[u8], complaint: &str| {
        let run = gunzip.run(input);
        run.assert_refused(complaint, complaint);
        run.stdout
    };
    let nothing: &[u8] = &[];
    assert_eq!(refused(b"plain text", NOT_GZIP), nothing);
    assert_eq!(refused(&[0; 4096], NOT_GZIP), nothing);
    assert_eq!(refused(&file[1..], NOT_GZIP), nothing);
    assert_eq!(refused(nothing, EARLY), nothing);
    let mut method = file.clone();
    method[2] = 7;
    assert_eq!(
        refused(&method, "gunzip: unknown compression method 7\n"),
        nothing
    );
    let mut reserved = file.clone();
    reserved[3] = 0xa1;
    let flags = "gunzip: reserved header flags 0xa0 are set\n";
    assert_eq!(refused(&reserved, flags), nothing);
    assert_eq!(refused(&[&file[..], b"more"].concat(), GARBAGE), data);
    let behind_zeros = [&file[..], &[0; 9], &file[..]].concat();
    assert_eq!(refused(&behind_zeros, GARBAGE), data);
    // The length is that of all data, modulo 2^32; a checksum that fits does not help.
    let mut length = file.clone();
    *length.last_mut().unwrap() = 1;
    assert_eq!(refused(&length, LENGTH), data);
    // A second member is judged as strictly as the first.
    for cut in 1..file.len() {
        let input = [&file[..], &file[..cut]].concat();
        let complaint = gunzip.run(&input);
        complaint.assert_refused(&format!("second member cut at {cut}"), EARLY);
        assert!(complaint.stdout.starts_with(data));
    }
    // Block types 3, and a stored block whose lengths disagree.
    for block in [&[0x07][..], &[0x01, 5, 0, 5, 0, 1, 2, 3, 4, 5]] {
        let input = [&file[..HEADER], block, &[0; 8]].concat();
        assert_eq!(refused(&input, CORRUPT), nothing);
    }
}

#[test]
fn nobody_reads_the_output() {
    let gunzip = Native::built_in("gunzip");
    let data = Random::new(14).text(1 << 20);
    let file = gzip(&data, 6);
    for stdout_room in [0, 1, 4096, 131_072, 1_000_000] {
        let run = gunzip.run_in(World {
            input: &file,
            stdout_room,
            ..World::default()
        });
        run.assert_refused("closed", "gunzip: cannot write the output: EPIPE\n");
        assert!(run.stdout.as_slice() == &data[..stdout_room]);
    }
}

#[test]
fn the_input_fails() {
    let gunzip = Native::built_in("gunzip");
    let data = Random::new(15).text(1 << 20);
    let file = gzip(&data, 6);
    let half = &file[..file.len() / 2];
    for (errno, name) in [
        (Errno::EIO, "EIO"),
        (Errno::EBADF, "EBADF"),
        (Errno::EISDIR, "errno 21"),
    ] {
        let run = gunzip.run_in(World {
            input: half,
            input_error: Some(errno),
            ..World::default()
        });
        let complaint = format!("gunzip: cannot read the input: {name}\n");
        run.assert_refused(name, &complaint);
        assert!(data.starts_with(&run.stdout));
        assert!(run.stdout.len() > data.len() * 4 / 10);
    }
}
