//! What can be wrong with a gzip file.

use core::fmt;

use cellwall_guest::Errno;

/// Why unpacking stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file does not begin like one.
    NotGzip,
    /// It was packed by a method other than deflate.
    Method(u8),
    /// The header uses what the format has reserved.
    Reserved(u8),
    /// The header's own checksum does not match.
    HeaderChecksum,
    /// The file ends too early.
    Truncated,
    /// The packed data makes no sense.
    Corrupt,
    /// The unpacked data's checksum does not match.
    Checksum,
    /// The unpacked data's size does not match.
    Size,
    /// Something that is no member follows the last one.
    Garbage,
    /// Reading failed.
    Read(Errno),
    /// Writing failed.
    Write(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGzip => out.write_str("the input is not in gzip format"),
            Self::Method(method) => write!(out, "unknown compression method {method}"),
            Self::Reserved(flags) => write!(out, "reserved header flags {flags:#04x} are set"),
            Self::HeaderChecksum => out.write_str("the header is damaged: its checksum differs"),
            Self::Truncated => out.write_str("the input ends too early"),
            Self::Corrupt => out.write_str("the input is damaged: invalid compressed data"),
            Self::Checksum => out.write_str("the input is damaged: the checksum differs"),
            Self::Size => out.write_str("the input is damaged: the length differs"),
            Self::Garbage => out.write_str("there is garbage behind the compressed data"),
            Self::Read(errno) => write!(out, "cannot read the input: {errno}"),
            Self::Write(errno) => write!(out, "cannot write the output: {errno}"),
        }
    }
}
