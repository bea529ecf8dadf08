//! Pictures of every kind that PNG has, files of them, and what a decoder makes of these.
//!
//! Two test binaries include this folder: the one of the guest programs, and the one that runs the
//! same programs behind the wall (`tests/native.rs` in the root of the repository).

pub(crate) mod random;
pub(crate) mod reference;
pub(crate) mod writer;

/// Colour types and depths that the format has, with samples per pixel.
pub(crate) const KINDS: [(u8, u8, u32); 15] = [
    (0, 1, 1),
    (0, 2, 1),
    (0, 4, 1),
    (0, 8, 1),
    (0, 16, 1),
    (2, 8, 3),
    (2, 16, 3),
    (3, 1, 1),
    (3, 2, 1),
    (3, 4, 1),
    (3, 8, 1),
    (4, 8, 2),
    (4, 16, 2),
    (6, 8, 4),
    (6, 16, 4),
];

/// Widths and heights: some passes of the small ones are empty, rows of the large ones are many.
pub(crate) const SIZES: [(u32, u32); 8] = [
    (1, 1),
    (2, 1),
    (1, 9),
    (3, 5),
    (8, 8),
    (9, 7),
    (33, 17),
    (200, 131),
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) colour: u8,
    pub(crate) depth: u8,
    pub(crate) samples: u32,
    pub(crate) interlaced: bool,
    pub(crate) transparent: bool,
    /// Entries of the palette.
    pub(crate) palette: usize,
}

/// Every colour type and depth in these sizes, plain and interlaced, opaque and not.
pub(crate) fn pictures(sizes: &[(u32, u32)]) -> Vec<Picture> {
    let mut pictures = Vec::new();
    for &(width, height) in sizes {
        for (colour, depth, samples) in KINDS {
            for (interlaced, transparent) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                pictures.push(Picture {
                    width,
                    height,
                    colour,
                    depth,
                    samples,
                    interlaced,
                    transparent,
                    palette: if colour == 3 { 1 << depth } else { 0 },
                });
            }
        }
    }
    pictures
}
