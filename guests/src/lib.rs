//! The built-in guest programs, ready to run: built from source with this crate and embedded.
//!
//! Each image is a static-PIE for x86-64 without an interpreter, whose only relocations are
//! relative ones. The programs' sources are in `guests/programs`; `docs/guests.md` shows how to
//! write, build and run one of your own, and `guests/c/hello.c` is one in C.

/// A program that runs behind the wall.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// What `cellwall run` knows it by.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// The ELF file.
    pub image: &'static [u8],
}

macro_rules! image {
    ($variable:literal) => {
        include_bytes!(env!($variable))
    };
}

static GUESTS: [Guest; 6] = [
    Guest {
        name: "hello",
        about: "greets, and shows the arguments that it was given",
        image: image!("CELLWALL_GUEST_HELLO"),
    },
    Guest {
        name: "gunzip",
        about: "unpacks a gzip file from the standard input to the standard output",
        image: image!("CELLWALL_GUEST_GUNZIP"),
    },
    Guest {
        name: "png",
        about: "decodes a PNG file on the standard input to a PPM file on the standard output",
        image: image!("CELLWALL_GUEST_PNG"),
    },
    Guest {
        name: "spin",
        about: "loops for ever; writes its argument first, if there is one",
        image: image!("CELLWALL_GUEST_SPIN"),
    },
    Guest {
        name: "crash",
        about: "does something wrong: the argument says what, and without one it lists what it can",
        image: image!("CELLWALL_GUEST_CRASH"),
    },
    Guest {
        name: "leak",
        about: "allocates memory until there is none",
        image: image!("CELLWALL_GUEST_LEAK"),
    },
];

/// All of them.
#[must_use]
pub fn all() -> &'static [Guest] {
    &GUESTS
}

/// The one of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Guest> {
    GUESTS.iter().find(|guest| guest.name == name)
}
