//! `gunzip` behind the wall against `flate2` in front of it, byte for byte.

use std::fs;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use cellwall::Interrupt;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, Crc, GzBuilder};

use super::files::{Random, found};
use super::runner::{Native, World, two_at_once};

/// Of those that a machine has; fewer than this are filled up with generated ones.
const FOUND_MIN: usize = 200;
const FOUND_MAX: usize = 1000;

pub(crate) fn gzip(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// What `flate2` makes of a file, and whether it is content with it.
fn reference(file: &[u8]) -> (Vec<u8>, bool) {
    let mut output = Vec::new();
    let result = MultiGzDecoder::new(file).read_to_end(&mut output);
    (output, result.is_ok())
}

/// A gunzip, and a comparison with what went into the file.
fn check(gunzip: &Native, what: &str, file: &[u8], expected: &[u8]) {
    gunzip.run(file).assert_output(what, expected);
}

#[test]
fn files_of_this_machine() {
    let paths = found("gz", FOUND_MAX);
    let mut files: Vec<(String, Vec<u8>)> = paths
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    println!("{} files under /usr/share", files.len());
    let mut random = Random::new(1);
    while files.len() < FOUND_MIN {
        let length = random.below(100_000);
        let file = gzip(&random.text(length), 9);
        files.push((format!("generated file {}", files.len()), file));
    }
    let gunzip = Native::built_in("gunzip");
    two_at_once(&files, |(name, file)| {
        let (expected, good) = reference(file);
        if good {
            check(&gunzip, name, file, &expected);
        } else {
            // Damaged, or padded with zeros, which `flate2` takes for damage.
            let run = gunzip.run(file);
            let status = u64::from(!run.complaint().is_empty());
            assert!(status == 1 || run.stdout == expected, "{name}");
            assert_eq!(run.end, Interrupt::Finished(status), "{name}");
        }
    });
}

#[test]
fn every_level_and_size() {
    let sizes = [
        0,
        1,
        2,
        3,
        100,
        4095,
        4096,
        4097,
        65535,
        65536,
        65537,
        1 << 20,
    ];
    let cases: Vec<(usize, u32)> = sizes
        .into_iter()
        .flat_map(|size| (0..=9).map(move |level| (size, level)))
        .collect();
    let gunzip = Native::built_in("gunzip");
    two_at_once(&cases, |&(size, level)| {
        let mut random = Random::new(u64::from(level));
        let kinds = [
            ("random", random.bytes(size)),
            ("text", random.text(size)),
            ("zero", vec![0; size]),
        ];
        for (kind, data) in kinds {
            let what = format!("{size} {kind} bytes at level {level}");
            check(&gunzip, &what, &gzip(&data, level), &data);
        }
    });
}

#[test]
fn eight_mebibytes_at_some_levels() {
    let gunzip = Native::built_in("gunzip");
    two_at_once(&[0, 6, 9], |&level| {
        let mut random = Random::new(u64::from(level));
        let mut data = random.text(6 << 20);
        data.extend(random.bytes(2 << 20));
        check(
            &gunzip,
            &format!("8 MiB at level {level}"),
            &gzip(&data, level),
            &data,
        );
    });
}

#[test]
fn sixty_four_mebibytes() {
    let mut random = Random::new(64);
    let mut data = random.text(48 << 20);
    data.extend(random.bytes(8 << 20));
    data.resize(64 << 20, 0);
    let file = gzip(&data, 1);
    check(&Native::built_in("gunzip"), "64 MiB", &file, &data);
}

#[test]
fn many_members() {
    let mut random = Random::new(2);
    let gunzip = Native::built_in("gunzip");
    let lengths: [&[usize]; 6] = [
        &[10, 20],
        &[70_000, 0, 70_000],
        &[0, 0, 0],
        &[0, 5],
        &[5, 0],
        &[1000; 100],
    ];
    for lengths in lengths {
        let mut file = Vec::new();
        let mut expected = Vec::new();
        for &length in lengths {
            let data = random.text(length);
            file.extend(gzip(&data, 6));
            expected.extend(data);
        }
        assert_eq!(reference(&file), (expected.clone(), true));
        check(
            &gunzip,
            &format!("members of {lengths:?}"),
            &file,
            &expected,
        );
        // Nor does it matter how the bytes arrive: every boundary is crossed somewhere.
        let pieces = if file.len() > 30_000 { 911 } else { 7 };
        for transfer_max in [pieces, 4096] {
            let run = gunzip.run_in(World {
                input: &file,
                transfer_max,
                ..World::default()
            });
            run.assert_output(&format!("{transfer_max} bytes at a time"), &expected);
        }
    }
}

/// Eight guests, each a hostcall at a time: what one is given and says is its own.
#[test]
fn guests_in_turns() {
    let gunzip = Native::built_in("gunzip");
    let mut random = Random::new(6);
    let data: Vec<Vec<u8>> = (1..9).map(|size| random.text(size * 50_000)).collect();
    let files: Vec<Vec<u8>> = data.iter().map(|data| gzip(data, 6)).collect();
    let mut sessions: Vec<_> = files
        .iter()
        .map(|file| {
            let mut session = gunzip.start(World {
                input: file,
                transfer_max: 1000,
                ..World::default()
            });
            session.instance.set_deadline(Duration::from_secs(60));
            (session, None)
        })
        .collect();
    while sessions.iter().any(|(_, end)| end.is_none()) {
        for (session, end) in &mut sessions {
            if end.is_none() {
                *end = session.step();
            }
        }
    }
    for ((mut session, end), data) in sessions.into_iter().zip(&data) {
        session.run.end = end.expect("it ended");
        session
            .run
            .assert_output(&format!("{} bytes", data.len()), data);
    }
}

#[test]
fn zeros_behind_the_last_member_are_padding() {
    let gunzip = Native::built_in("gunzip");
    let data = Random::new(3).text(5000);
    for padding in [1, 511, 200_000] {
        let mut file = gzip(&data, 6);
        file.resize(file.len() + padding, 0);
        check(&gunzip, &format!("{padding} zeros"), &file, &data);
    }
}

const FTEXT: u8 = 1;
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

/// A member with these header flags, and the length of its header.
pub(crate) fn with_header(flags: u8, extra: &[u8], data: &[u8]) -> (Vec<u8>, usize) {
    let mut file = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255];
    if flags & FEXTRA != 0 {
        file.extend(u16::try_from(extra.len()).unwrap().to_le_bytes());
        file.extend(extra);
    }
    if flags & FNAME != 0 {
        file.extend(b"a n\xe4me.txt\0");
    }
    if flags & FCOMMENT != 0 {
        file.extend(b"\0");
    }
    if flags & FHCRC != 0 {
        let mut crc = Crc::new();
        crc.update(&file);
        let [low, high, ..] = crc.sum().to_le_bytes();
        file.extend([low, high]);
    }
    let header = file.len();
    // Without the ten bytes of a header that has nothing.
    file.extend(&gzip(data, 6)[10..]);
    (file, header)
}

#[test]
fn every_header() {
    let gunzip = Native::built_in("gunzip");
    let data = Random::new(4).text(3000);
    for flags in 0..=(FTEXT | FHCRC | FEXTRA | FNAME | FCOMMENT) {
        for extra in [&[][..], b"xy\x02\0zz", &[0; 65535]] {
            let (file, header) = with_header(flags, extra, &data);
            assert_eq!(reference(&file), (data.clone(), true), "flags {flags:#x}");
            check(&gunzip, &format!("flags {flags:#x}"), &file, &data);
            if flags & FHCRC != 0 {
                let mut file = file;
                file[header - 1] ^= 1;
                let complaint = "gunzip: the header is damaged: its checksum differs\n";
                gunzip.run(&file).assert_refused("checksum", complaint);
            }
        }
    }
}

#[test]
fn headers_as_flate2_writes_them() {
    let gunzip = Native::built_in("gunzip");
    let data = Random::new(5).text(3000);
    let mut builder = GzBuilder::new()
        .extra(vec![7; 300])
        .filename("file")
        .comment("a comment")
        .mtime(1)
        .write(Vec::new(), Compression::best());
    builder.write_all(&data).unwrap();
    let file = builder.finish().unwrap();
    check(&gunzip, "extra, name and comment", &file, &data);
}
