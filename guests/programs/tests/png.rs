//! Pictures of every kind, whole and damaged, against the `png` crate.

mod pictures;

use cellwall_guest_programs::crc32;
use cellwall_guest_programs::png::{Error, png_to_ppm};

use pictures::random::Random;
use pictures::reference::reference;
use pictures::{Picture, SIZES, pictures};

fn ours(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut output = Vec::new();
    png_to_ppm(file, &mut output).map(|()| output)
}

/// 33 by 17, neither interlaced nor transparent.
fn coloured() -> Picture {
    let mut pictures = pictures(&[(33, 17)]).into_iter();
    pictures.find(|picture| picture.colour == 2).unwrap()
}

#[test]
fn every_colour_type_depth_and_interlacing() {
    let mut random = Random::new(1);
    for picture in pictures(&SIZES) {
        let rows = picture.rows(&mut random);
        let file = picture.file(&mut random, &rows);
        let expected = reference(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        let output = ours(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        assert!(output == expected, "{picture:?}");
    }
}

#[test]
fn suggested_palettes_and_short_ones() {
    let mut random = Random::new(2);
    for mut picture in pictures(&SIZES) {
        picture.palette = match picture.colour {
            2 | 6 => 16,
            3 if picture.depth > 1 => 3,
            _ => continue,
        };
        let rows = picture.rows(&mut random);
        let file = picture.file(&mut random, &rows);
        let expected = reference(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        let output = ours(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        assert!(output == expected, "{picture:?}");
    }
}

#[test]
fn damaged_pixels_never_panic() {
    let mut random = Random::new(3);
    for picture in pictures(&SIZES) {
        if picture.height >= 20 {
            continue;
        }
        for _ in 0..8 {
            let mut rows = picture.rows(&mut random);
            match random.below(4) {
                0 => rows.truncate(rows.len() / 2),
                1 => rows.extend(random.bytes(5)),
                2 => rows[0] = random.bytes(1)[0],
                _ => {}
            }
            let mut file = picture.file(&mut random, &rows);
            damage_idat(&mut file, &mut random);
            // Damage may be where nobody looks, say in the window size; most of it is not.
            let _ = ours(&file);
        }
    }
}

/// Changes a byte of the first pixel chunk, with a checksum that matches.
fn damage_idat(file: &mut [u8], random: &mut Random) {
    let at = file.windows(4).position(|name| name == b"IDAT").unwrap();
    let length = u32::from_be_bytes(*file[at - 4..].first_chunk().unwrap());
    let end = at + 4 + usize::try_from(length).unwrap();
    let place = at + 4 + random.below(end - at - 4);
    file[place] ^= 1 << random.below(8);
    let sum = crc32::of(&file[at..end]);
    file[end..end + 4].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn cut_off_anywhere() {
    let mut random = Random::new(4);
    let picture = coloured();
    let rows = picture.rows(&mut random);
    let file = picture.file(&mut random, &rows);
    assert!(ours(&file).is_ok());
    for length in 0..file.len() {
        assert!(ours(&file[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn pixels_that_are_too_few_or_wrong() {
    let mut random = Random::new(5);
    let picture = coloured();
    let rows = picture.rows(&mut random);
    let short = picture.file(&mut random, &rows[..rows.len() - 1]);
    assert!(matches!(ours(&short), Err(Error::Pixels(_))));
    let mut wrong = rows;
    wrong[0] = 9;
    let wrong = picture.file(&mut random, &wrong);
    assert!(matches!(ours(&wrong), Err(Error::Pixels(_))));
}

#[test]
fn more_pixels_than_memory() {
    let huge = Picture {
        width: 0x7fff_ffff,
        height: 0x7fff_ffff,
        colour: 0,
        depth: 8,
        samples: 1,
        interlaced: false,
        transparent: false,
        palette: 0,
    };
    let file = huge.file(&mut Random::new(6), b"few");
    assert!(matches!(ours(&file), Err(Error::TooLarge(_))));
    let overflowing = Picture {
        colour: 6,
        depth: 16,
        ..huge
    };
    assert!(matches!(
        ours(&overflowing.file(&mut Random::new(6), b"few")),
        Err(Error::TooLarge(_))
    ));
}
