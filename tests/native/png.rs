//! `png` behind the wall against the `png` crate in front of it, byte for byte.

use std::fs;

use cellwall::Interrupt;
use png::{BitDepth, ColorType};

use super::files::{Random, found};
use super::pictures::reference::reference;
use super::pictures::{KINDS, Picture, SIZES, pictures};
use super::runner::{Native, World, two_at_once};

/// Of those that a machine has; fewer than this are filled up with generated ones.
const FOUND_MIN: usize = 50;
const FOUND_MAX: usize = 500;

fn check(guest: &Native, what: &str, file: &[u8]) {
    let expected = reference(file).unwrap_or_else(|error| panic!("{what}: {error}"));
    guest.run(file).assert_output(what, &expected);
}

#[test]
fn files_of_this_machine() {
    let paths = found("png", FOUND_MAX);
    println!("{} files under /usr/share", paths.len());
    let mut files: Vec<(String, Vec<u8>)> = paths
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    let mut random = Random::new(20);
    let generated = pictures(&[(50, 40)]);
    for picture in generated {
        if files.len() < FOUND_MIN {
            let rows = picture.rows(&mut random);
            files.push((format!("{picture:?}"), picture.file(&mut random, &rows)));
        }
    }
    assert!(files.len() >= FOUND_MIN);
    let guest = Native::built_in("png");
    two_at_once(&files, |(name, file)| match reference(file) {
        Ok(expected) => guest.run(file).assert_output(name, &expected),
        // They need not agree on every kind of damage: a picture without a word, or the reverse.
        Err(error) => {
            let run = guest.run(file);
            let status = u64::from(!run.complaint().is_empty());
            assert_eq!(run.end, Interrupt::Finished(status), "{name}: {error}");
            assert_eq!(run.stdout.is_empty(), status == 1, "{name}: {error}");
        }
    });
}

#[test]
fn every_colour_type_and_depth_interlaced_and_not() {
    let guest = Native::built_in("png");
    two_at_once(&pictures(&SIZES), |picture| {
        let mut random = Random::new(u64::from(picture.width) << 8 | u64::from(picture.depth));
        let rows = picture.rows(&mut random);
        let file = picture.file(&mut random, &rows);
        check(&guest, &format!("{picture:?}"), &file);
    });
}

#[test]
fn suggested_palettes_and_short_ones() {
    let guest = Native::built_in("png");
    two_at_once(&pictures(&[(33, 17)]), |picture| {
        let palette = match (picture.colour, picture.depth) {
            (2 | 6, _) => 16,
            (3, 2..) => 3,
            _ => return,
        };
        let picture = Picture {
            palette,
            ..*picture
        };
        let mut random = Random::new(21);
        let rows = picture.rows(&mut random);
        let file = picture.file(&mut random, &rows);
        check(&guest, &format!("{picture:?}"), &file);
    });
}

#[test]
fn files_that_the_png_crate_wrote() {
    let guest = Native::built_in("png");
    two_at_once(&KINDS, |&(colour, depth, samples)| {
        for (width, height) in [(1, 1), (7, 3), (64, 64), (301, 199)] {
            for filter in [png::Filter::NoFilter, png::Filter::Adaptive] {
                let mut random = Random::new(u64::from(width + u32::from(colour)));
                let row = (width * samples * u32::from(depth)).div_ceil(8);
                let pixels = random.text(usize::try_from(row * height).unwrap());
                let mut file = Vec::new();
                let mut encoder = png::Encoder::new(&mut file, width, height);
                encoder.set_color(ColorType::from_u8(colour).unwrap());
                encoder.set_depth(BitDepth::from_u8(depth).unwrap());
                encoder.set_filter(filter);
                if colour == 3 {
                    encoder.set_palette(random.bytes(3 << depth));
                }
                let mut writer = encoder.write_header().unwrap();
                writer.write_image_data(&pixels).unwrap();
                writer.finish().unwrap();
                let what = format!("{width}x{height}, type {colour}, {depth} bits, {filter:?}");
                check(&guest, &what, &file);
            }
        }
    });
}

#[test]
fn it_does_not_matter_how_the_bytes_arrive() {
    let guest = Native::built_in("png");
    let picture = pictures(&[(33, 17)])[5 * 4 + 2];
    assert!(picture.colour == 2 && picture.interlaced);
    let mut random = Random::new(22);
    let rows = picture.rows(&mut random);
    let file = picture.file(&mut random, &rows);
    let expected = reference(&file).unwrap();
    for transfer_max in [1, 13, 4096] {
        let run = guest.run_in(World {
            input: &file,
            transfer_max,
            ..World::default()
        });
        run.assert_output(&format!("{transfer_max} bytes at a time"), &expected);
    }
}

/// Sixteen million pixels take two thirds of the guest's memory, and still fit.
#[test]
fn a_large_picture() {
    let picture = Picture {
        width: 4096,
        height: 4095,
        colour: 2,
        depth: 8,
        samples: 3,
        interlaced: false,
        transparent: false,
        palette: 0,
    };
    let mut random = Random::new(23);
    let row = [&[4][..], &random.text(3 * 4096)].concat();
    let file = picture.file(&mut random, &row.repeat(4095));
    check(&Native::built_in("png"), "4096x4095", &file);
}
