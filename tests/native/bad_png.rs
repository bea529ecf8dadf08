//! Damaged PNG files and broken streams: the guest's own message and status, and no pixel.

use cellwall::native::Options;
use cellwall::{Errno, Interrupt};

use super::files::Random;
use super::pictures::reference::reference;
use super::pictures::writer::{chunk, zlib};
use super::pictures::{Picture, pictures};
use super::runner::{Native, World, image, two_at_once};

const EARLY: &str = "png: the input ends too early\n";
const NOT_PNG: &str = "png: the input is not in PNG format\n";

/// 33 by 17, coloured, interlaced.
fn picture() -> Picture {
    let mut pictures = pictures(&[(33, 17)]).into_iter();
    pictures
        .find(|picture| picture.colour == 2 && picture.interlaced)
        .unwrap()
}

/// A name and data.
type Chunk<'data> = (&'data [u8; 4], &'data [u8]);

/// A file of these chunks.
fn file(chunks: &[Chunk<'_>]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in chunks {
        chunk(&mut file, name, data);
    }
    file
}

/// One that consists of nothing but critical chunks.
fn small() -> Vec<u8> {
    let picture = Picture {
        width: 5,
        height: 3,
        interlaced: false,
        ..picture()
    };
    let rows = picture.rows(&mut Random::new(30));
    file(&[
        (b"IHDR", &picture.header()),
        (b"IDAT", &zlib(&rows)),
        (b"IEND", b""),
    ])
}

fn refused(guest: &Native, what: &str, file: &[u8], complaint: &str) {
    refused_with(guest, what, file, |said| said == complaint);
}

fn refused_with(guest: &Native, what: &str, file: &[u8], fits: impl Fn(&str) -> bool) {
    let run = guest.run(file);
    let complaint = run.complaint();
    assert!(fits(complaint), "{what}: {complaint:?}");
    assert!(complaint.starts_with("png: ") && complaint.ends_with('\n'));
    run.assert_refused(what, complaint);
    assert!(run.stdout.is_empty(), "{what}: pixels of a damaged file");
}

#[test]
fn cut_off_anywhere() {
    let guest = Native::built_in("png");
    let mut random = Random::new(31);
    let picture = picture();
    let rows = picture.rows(&mut random);
    let whole = picture.file(&mut random, &rows);
    let cuts: Vec<usize> = (0..whole.len()).step_by(3).collect();
    two_at_once(&cuts, |&cut| {
        let complaint = if cut < 8 { NOT_PNG } else { EARLY };
        refused(&guest, &format!("cut at {cut}"), &whole[..cut], complaint);
    });
    let expected = reference(&whole).unwrap();
    guest.run(&whole).assert_output("uncut", &expected);
}

#[test]
fn every_flipped_bit_of_a_small_file() {
    let guest = Native::built_in("png");
    let small = small();
    let bits: Vec<usize> = (0..small.len() * 8).collect();
    two_at_once(&bits, |&bit| {
        let mut flipped = small.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let fits = |said: &str| (said == NOT_PNG) == (bit < 64);
        refused_with(&guest, &format!("bit {bit}"), &flipped, fits);
    });
}

#[test]
fn wrong_chunks() {
    let guest = Native::built_in("png");
    let grey: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0];
    let palette: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1, 8, 3, 0, 0, 0];
    let two_bits_of_colour: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1, 2, 2, 0, 0, 0];
    let no_rows: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0, 0, 0];
    let method: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 2];
    let (end, pixel) = ((b"IEND", &[][..]), zlib(&[0, 7]));
    let cases: [(&str, &[Chunk<'_>]); 10] = [
        ("chunk IEND is unknown or not where it belongs", &[end]),
        ("there is no IDAT chunk", &[(b"IHDR", grey), end]),
        (
            "there is no PLTE chunk",
            &[(b"IHDR", palette), (b"IDAT", &pixel), end],
        ),
        (
            "chunk PLTE is unknown or not where it belongs",
            &[(b"IHDR", palette), (b"PLTE", b"four"), end],
        ),
        (
            "chunk IHDR is unknown or not where it belongs",
            &[(b"IHDR", grey), (b"IHDR", grey), end],
        ),
        (
            "chunk NEWs is unknown or not where it belongs",
            &[(b"IHDR", grey), (b"NEWs", b""), end],
        ),
        (
            "there is no colour type 2 with 2 bits",
            &[(b"IHDR", two_bits_of_colour), end],
        ),
        (
            "the picture has no or too many rows or columns",
            &[(b"IHDR", no_rows), end],
        ),
        (
            "unknown compression, filter or interlace method",
            &[(b"IHDR", method), end],
        ),
        (
            "chunk \\x1b[3m is unknown or not where it belongs",
            &[(b"IHDR", grey), (b"\x1b[3m", b""), end],
        ),
    ];
    for (complaint, chunks) in cases {
        refused(
            &guest,
            complaint,
            &file(chunks),
            &format!("png: {complaint}\n"),
        );
    }
    guest
        .run(&file(&[(b"IHDR", grey), (b"IDAT", &pixel), end]))
        .assert_output("one pixel", b"P6\n1 1\n255\n\x07\x07\x07");
}

#[test]
fn wrong_pixels() {
    let guest = Native::built_in("png");
    let mut random = Random::new(32);
    let picture = picture();
    let rows = picture.rows(&mut random);
    let damaged = |rows: &[u8]| {
        let file = picture.file(&mut Random::new(33), rows);
        let fits = |said: &str| said.starts_with("png: the pixels are damaged");
        refused_with(&guest, "pixels", &file, fits);
    };
    damaged(&rows[..rows.len() - 1]);
    damaged(&rows[..1]);
    damaged(&[]);
    let mut filter = rows.clone();
    filter[0] = 9;
    damaged(&filter);
    // A stream whose own checksum is wrong, in a chunk whose checksum is right.
    let mut stream = zlib(&rows);
    *stream.last_mut().unwrap() ^= 1;
    let wrong = file(&[
        (b"IHDR", &picture.header()),
        (b"IDAT", &stream),
        (b"IEND", b""),
    ]);
    let fits = |said: &str| said.starts_with("png: the pixels are damaged");
    refused_with(&guest, "checksum", &wrong, fits);
}

#[test]
fn more_pixels_than_memory() {
    let guest = Native::built_in("png");
    for (side, colour, depth) in [(0x7fff_ffff, 6, 16), (0x7fff_ffff, 0, 1), (30_000, 0, 8)] {
        let huge = Picture {
            width: side,
            height: side,
            colour,
            depth,
            ..picture()
        };
        let complaint = format!("png: {side}x{side} pixels need more memory than the guest has\n");
        let file = huge.file(&mut Random::new(34), b"few");
        refused(&guest, "huge", &file, &complaint);
    }
    // The same of an ordinary picture in a small guest, and of a file that is too long for it.
    let small = Native::load(image("png"), &Options::new().heap_bytes(6 << 20));
    let picture = Picture {
        width: 1000,
        height: 1000,
        interlaced: false,
        ..picture()
    };
    let file = picture.file(&mut Random::new(35), &[0; 1000 * 3001]);
    let complaint = "png: 1000x1000 pixels need more memory than the guest has\n";
    refused(&small, "small heap", &file, complaint);
    assert_eq!(guest.run(&file).end, Interrupt::Finished(0));
    let long = [&file[..], &vec![0; 6 << 20]].concat();
    let complaint = "png: the input is larger than the guest's memory\n";
    refused(&small, "long file", &long, complaint);
}

#[test]
fn broken_streams() {
    let guest = Native::built_in("png");
    let file = small();
    let expected = reference(&file).unwrap();
    for stdout_room in [0, 1, 10, expected.len() - 1] {
        let run = guest.run_in(World {
            input: &file,
            stdout_room,
            ..World::default()
        });
        run.assert_refused("closed", "png: cannot write the output: EPIPE\n");
        assert_eq!(run.stdout, &expected[..stdout_room]);
    }
    let run = guest.run_in(World {
        input: &file[..20],
        input_error: Some(Errno::EIO),
        ..World::default()
    });
    run.assert_refused("input", "png: cannot read the input: EIO\n");
    assert!(run.stdout.is_empty());
}
