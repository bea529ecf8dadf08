//! What stands before the compressed data of a member.

use super::{Error, Input};
use crate::crc32::Crc32;
use crate::streams::Source;

/// The first two bytes.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The only compression method.
const DEFLATE: u8 = 8;

/// A checksum of the header follows it.
const FHCRC: u8 = 1 << 1;
/// Extra fields follow, their length first.
const FEXTRA: u8 = 1 << 2;
/// A file name follows, up to a zero byte.
const FNAME: u8 = 1 << 3;
/// A comment follows, up to a zero byte.
const FCOMMENT: u8 = 1 << 4;
/// What may be set. The lowest bit says that the data is text, which changes nothing.
const KNOWN: u8 = 1 | FHCRC | FEXTRA | FNAME | FCOMMENT;

/// Reads a header to its end.
pub(super) fn read(input: &mut Input<impl Source>) -> Result<(), Error> {
    let mut header = Header {
        input,
        sum: Crc32::new(),
    };
    // A single wrong byte is no header either, however short the file.
    if header.byte()? != MAGIC[0] || header.byte()? != MAGIC[1] {
        return Err(Error::NotGzip);
    }
    let method = header.byte()?;
    if method != DEFLATE {
        return Err(Error::Method(method));
    }
    let flags = header.byte()?;
    if flags & !KNOWN != 0 {
        return Err(Error::Reserved(flags & !KNOWN));
    }
    // Time, compression level, operating system: of no use here.
    header.skip(6)?;
    if flags & FEXTRA != 0 {
        let length = u16::from_le_bytes([header.byte()?, header.byte()?]);
        header.skip(length)?;
    }
    if flags & FNAME != 0 {
        header.skip_string()?;
    }
    if flags & FCOMMENT != 0 {
        header.skip_string()?;
    }
    if flags & FHCRC != 0 {
        let [low, high, ..] = header.sum.value().to_le_bytes();
        if [header.byte()?, header.byte()?] != [low, high] {
            return Err(Error::HeaderChecksum);
        }
    }
    Ok(())
}

/// The input, with the checksum of what has been read.
struct Header<'a, S> {
    input: &'a mut Input<S>,
    sum: Crc32,
}

impl<S: Source> Header<'_, S> {
    fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.input.array()?;
        self.sum.update(&[byte]);
        Ok(byte)
    }

    fn skip(&mut self, bytes: u16) -> Result<(), Error> {
        for _ in 0..bytes {
            self.byte()?;
        }
        Ok(())
    }

    fn skip_string(&mut self) -> Result<(), Error> {
        while self.byte()? != 0 {}
        Ok(())
    }
}
