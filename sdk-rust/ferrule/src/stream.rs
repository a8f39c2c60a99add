//! The streams of a call (R24), as `std::io` has them.

use crate::host::{Piece, Services};
use std::fmt;
use std::io::{BufRead, Read, Result, Write};

/// The input stream of a call: a parameter of type `&mut Reader` makes a function one that reads a stream, and says
/// `stream=in` in its meta text. What the function takes and gives besides stays its parameter and its result.
///
/// It is a [`BufRead`] over the pieces that the host lends, which are read in place: no copy is made, and no other buffer
/// is needed around it. Reading waits for the host. It ends when the call is cancelled. A function need not read to the
/// end.
///
/// An error is a [`std::io::Error`] that carries the status: `?` makes it the [`Error`](crate::Error) that it was, also
/// behind the errors of other crates that name it as their source. That is CANCELLED when the call is cancelled, FAILED
/// when the stream broke off, and UNSUPPORTED when the call has no input stream, as in a batch, or in a host older than
/// version 1.1.
///
/// It lives as long as the call, and may go to another thread meanwhile.
///
/// ```
/// use ferrule::Reader;
/// use std::io::BufRead;
///
/// fn count_lines(text: &mut Reader) -> ferrule::Result<String> {
///     let mut count = 0;
///     for line in text.lines() {
///         line?;
///         count += 1;
///     }
///     Ok(format!("{count} lines"))
/// }
/// ```
pub struct Reader<'a> {
    /// Nobody else reads with them: there is one reader for each call.
    services: &'a Services,
    piece: Piece,
    /// How much of the piece was consumed.
    at: usize,
    ended: bool,
}

impl<'a> Reader<'a> {
    /// # Safety
    /// The services are those of a running call, whose stream nothing else reads.
    #[inline]
    pub(crate) unsafe fn new(services: &'a Services) -> Reader<'a> {
        Reader { services, piece: Piece::empty(), at: 0, ended: false }
    }

    /// For a plug-in's own tests, where a piece is the reader's own.
    #[cfg(feature = "testing")]
    pub(crate) fn for_test(services: &'a Services) -> Reader<'a> {
        assert!(matches!(services, Services::Testing(_)));
        Reader { services, piece: Piece::empty(), at: 0, ended: false }
    }
}

impl BufRead for Reader<'_> {
    /// What is left of the piece, or the next one; empty at the end of the stream only.
    fn fill_buf(&mut self) -> Result<&[u8]> {
        // SAFETY: `new`: nothing but this reads the stream, and the call runs while its services are borrowed.
        if self.at == unsafe { self.piece.bytes() }.len() && !self.ended {
            self.at = 0;
            self.services.read(&mut self.piece)?;
        }
        // SAFETY: as above.
        let bytes = unsafe { self.piece.bytes() };
        self.ended = bytes.is_empty();
        Ok(&bytes[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        // SAFETY: as above.
        let left = unsafe { self.piece.bytes() }.len() - self.at;
        self.at += amount.min(left);
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut left = self.fill_buf()?;
        let read = left.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// The output stream of a call: a parameter of type `&mut Writer` makes a function one that writes a stream, and says
/// `stream=out` in its meta text, with a [`Reader`] beside it `stream=both`. The function's result stays what it
/// returns.
///
/// Each write passes one piece on to the host, which copies it. It waits until the host has taken it, and there is nothing
/// to flush. Where the pieces would be small, put a [`std::io::BufWriter`] around it.
///
/// Errors are as with [`Reader`]; FAILED says that nobody takes more. It lives as long as the call. Several threads may
/// write at a time, each by `&Writer`; their pieces come in no order.
///
/// ```
/// use ferrule::{Reader, Writer};
///
/// fn copy(input: &mut Reader, output: &mut Writer) -> ferrule::Result<String> {
///     Ok(std::io::copy(input, output)?.to_string())
/// }
/// ```
pub struct Writer<'a> {
    services: &'a Services,
}

impl<'a> Writer<'a> {
    #[inline]
    pub(crate) fn new(services: &'a Services) -> Writer<'a> {
        Writer { services }
    }
}

impl Write for &Writer<'_> {
    fn write(&mut self, piece: &[u8]) -> Result<usize> {
        if !piece.is_empty() {
            self.services.write(piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, piece: &[u8]) -> Result<usize> {
        (&*self).write(piece)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
