//! Files of every kind, whole and damaged, against what went into them.

use std::io::Write as _;
use std::vec::Vec;

use flate2::{Compression, GzBuilder, write::GzEncoder};

use super::*;

/// Compressible data that does not repeat exactly.
fn data(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| ((i / 3) ^ ((i * i) >> 12)).to_le_bytes()[0])
        .collect()
}

fn packed(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn unpack(file: &[u8]) -> (Result<(), Error>, Vec<u8>) {
    let mut output = Vec::new();
    let result = gunzip(file, &mut output);
    (result, output)
}

/// A source that gives one byte at a time.
struct Trickle<'a>(&'a [u8]);

impl Source for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn every_level_and_size() {
    for length in [0, 1, 100, 32_768, WINDOW_BYTES, WINDOW_BYTES + 1, 1_000_000] {
        for level in 0..=9 {
            let data = data(length);
            let (result, output) = unpack(&packed(&data, level));
            assert_eq!(result, Ok(()));
            assert!(output == data, "level {level}, {length} bytes");
        }
    }
}

#[test]
fn one_byte_at_a_time() {
    for level in [0, 1, 6, 9] {
        let data = data(300_000);
        let file = [packed(&data, level), packed(&data[..5], level)].concat();
        let mut output = Vec::new();
        assert_eq!(gunzip(Trickle(&file), &mut output), Ok(()));
        assert!(output == [&data[..], &data[..5]].concat());
    }
}

#[test]
fn many_members_and_zero_padding() {
    let mut file = Vec::new();
    let mut expected = Vec::new();
    for length in [10, 0, 70_000, 200_000, 1] {
        file.extend(packed(&data(length), 6));
        expected.extend(data(length));
    }
    assert_eq!(unpack(&file), (Ok(()), expected.clone()));
    file.extend([0; 1000]);
    assert_eq!(unpack(&file), (Ok(()), expected.clone()));
    file.push(1);
    assert_eq!(unpack(&file), (Err(Error::Garbage), expected));
}

#[test]
fn garbage_behind_the_last_member() {
    for garbage in [&b"x"[..], b"garbage", b"\x1fx", b"\0\0\x1f\x8b"] {
        let file = [&packed(b"data", 6)[..], garbage].concat();
        assert_eq!(unpack(&file), (Err(Error::Garbage), b"data".to_vec()));
    }
    let file = [&packed(b"data", 6)[..], b"\x1f\x8b\x08"].concat();
    assert_eq!(unpack(&file).0, Err(Error::Truncated));
}

/// A header with everything, its checksum included.
fn full_header() -> Vec<u8> {
    let mut header = b"\x1f\x8b\x08\x1f\x01\x02\x03\x04\x02\x03".to_vec();
    header.extend(300u16.to_le_bytes());
    header.extend([7; 300]);
    header.extend(b"name\0comment\0");
    let sum = crate::crc32::of(&header).to_le_bytes();
    header.extend(&sum[..2]);
    header
}

#[test]
fn headers_with_everything() {
    let body = packed(b"data", 6)[10..].to_vec();
    let mut file = [full_header(), body.clone()].concat();
    assert_eq!(unpack(&file), (Ok(()), b"data".to_vec()));
    file[20] ^= 1;
    assert_eq!(unpack(&file).0, Err(Error::HeaderChecksum));

    let mut encoder = GzBuilder::new()
        .filename("n")
        .comment("c")
        .extra("e")
        .write(Vec::new(), Compression::fast());
    encoder.write_all(b"data").unwrap();
    assert_eq!(
        unpack(&encoder.finish().unwrap()),
        (Ok(()), b"data".to_vec())
    );
}

#[test]
fn headers_that_are_none() {
    assert_eq!(unpack(b"").0, Err(Error::Truncated));
    assert_eq!(unpack(b"plain text").0, Err(Error::NotGzip));
    assert_eq!(
        unpack(b"\x1f\x8b\x07\0\0\0\0\0\0\0").0,
        Err(Error::Method(7))
    );
    assert_eq!(
        unpack(b"\x1f\x8b\x08\x40\0\0\0\0\0\0").0,
        Err(Error::Reserved(0x40))
    );
}

#[test]
fn every_cut_is_found_and_what_came_before_is_written() {
    let data = data(200_000);
    let file = [full_header(), packed(&data, 6)[10..].to_vec()].concat();
    for length in (0..file.len())
        .step_by(997)
        .chain(file.len() - 20..file.len())
    {
        let (result, output) = unpack(&file[..length]);
        assert_eq!(result, Err(Error::Truncated), "cut at {length}");
        assert!(data.starts_with(&output));
        if length + 8 >= file.len() {
            assert_eq!(output.len(), data.len());
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let data = data(3000);
    let file = packed(&data, 6);
    // The header's time, level and system may be anything.
    for at in (0..4).chain(10..file.len()) {
        for bit in 0..8 {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << bit;
            let (result, output) = unpack(&flipped);
            // Some bits say nothing, or the same in two ways: then all data is there.
            assert!(result.is_err() || output == data, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn matches_may_not_reach_before_the_start() {
    // A block with fixed codes: a match of length 3 at distance 1, first of all.
    let file = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\x02\0\0\0\0\0\0\0\0\0";
    assert_eq!(unpack(file), (Err(Error::Corrupt), Vec::new()));
    // Not even into the member before.
    let file = [&packed(b"data", 6)[..], file].concat();
    assert_eq!(unpack(&file), (Err(Error::Corrupt), b"data".to_vec()));
}

#[test]
fn reading_and_writing_may_fail() {
    struct Broken;
    impl Source for Broken {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, Errno> {
            Err(Errno::IO)
        }
    }
    impl Sink for Broken {
        fn write_all(&mut self, _: &[u8]) -> Result<(), Errno> {
            Err(Errno::PIPE)
        }
    }
    assert_eq!(gunzip(Broken, Vec::new()), Err(Error::Read(Errno::IO)));
    let file = packed(b"data", 6);
    assert_eq!(gunzip(&file[..], Broken), Err(Error::Write(Errno::PIPE)));
}
