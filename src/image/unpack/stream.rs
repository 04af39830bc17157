//! A layer's blob as the bytes of its archive: decompressed and hashed beside the thread that reads it.
//!
//! `gz1` and whatever else is made of members of at most 1 MiB is inflated member by member by libdeflate, which takes
//! half the time; where the next member begins is only known by its header, so that is looked for, and the end of the
//! member in front must say the size and the checksum of what came out. Everything else is flate2's.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::bufread::GzDecoder;
use libdeflater::Decompressor;
use memchr::memmem::Finder;
use sha2::{Digest as _, Sha256};

use super::error::Fault;
use crate::bundle::gz1;
use crate::model::Digest;

/// How many bytes are handed on at once.
const PIECE: usize = gz1::BLOCK;
/// How many pieces may wait for each reader.
const WAITING: usize = 4;
/// The header of every member of `gz1`, which many writers of such members share.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// How a layer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Plain,
    /// gzip of any make.
    Gzip,
}

/// The most that a layer may become.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes.
    pub bytes: u64,
    /// Times its compressed size, once it is beyond [`Bounds::FREE`].
    pub ratio: u64,
}

impl Bounds {
    /// So many bytes may be compressed as well as they can be.
    pub const FREE: u64 = 1 << 30;

    /// For a blob of this size.
    fn most(self, blob: u64) -> u64 {
        self.bytes.min(blob.saturating_mul(self.ratio).max(Self::FREE))
    }
}

type Piece = Arc<Vec<u8>>;

/// Has `read` read the decoded bytes of `blob`, which is `size` bytes large, and gives what it gave and the digest of
/// all of them.
pub fn decoded<T>(
    blob: impl Read + Send,
    size: u64,
    encoding: Encoding,
    bounds: Bounds,
    read: impl FnOnce(&mut Pieces) -> Result<T, super::archive::At>,
) -> Result<(T, Digest), super::archive::At> {
    thread::scope(|scope| {
        let (to_reader, pieces) = sync_channel::<io::Result<Piece>>(WAITING);
        let (to_hash, hashed) = sync_channel::<Piece>(WAITING);
        let hashing = scope.spawn(move || {
            let mut sum = Sha256::new();
            for piece in hashed {
                sum.update(&*piece);
            }
            Digest::from_hasher(sum)
        });
        scope.spawn(move || {
            let mut out = Out {
                reader: &to_reader,
                to_hash: &to_hash,
                left: bounds.most(size),
                limit: bounds.most(size),
            };
            let decoded = match encoding {
                Encoding::Plain => plain(blob, &mut out),
                Encoding::Gzip => gzip(blob, &mut out),
            };
            // A reader that has gone needs no reason any more.
            if let Err(error) = decoded {
                drop(to_reader.send(Err(error)));
            }
        });
        let mut pieces = Pieces { coming: pieces, piece: Piece::default(), at: 0 };
        let given = read(&mut pieces);
        // Who waits to hand on the next piece must not wait for ever.
        drop(pieces);
        let digest = hashing.join().map_err(|_| Fault::Read(io::Error::other("the hasher ended early")))?;
        Ok((given?, digest))
    })
}

/// Reads out of what a reader has at hand.
fn read_buffered(reader: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let bytes = reader.fill_buf()?;
    let read = bytes.len().min(buffer.len());
    buffer[..read].copy_from_slice(&bytes[..read]);
    reader.consume(read);
    Ok(read)
}

/// The decoded bytes.
#[derive(Debug)]
pub struct Pieces {
    coming: Receiver<io::Result<Piece>>,
    piece: Piece,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            match self.coming.recv() {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                Err(_) => break,
            }
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

struct Out<'a> {
    reader: &'a SyncSender<io::Result<Piece>>,
    to_hash: &'a SyncSender<Piece>,
    left: u64,
    limit: u64,
}

impl Out<'_> {
    fn send(&mut self, piece: Vec<u8>) -> io::Result<()> {
        self.left = self.left.checked_sub(piece.len() as u64).ok_or_else(|| {
            let limit = self.limit;
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the layer unpacks to more than {limit} bytes"),
            )
        })?;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let piece = Arc::new(piece);
        self.to_hash.send(Arc::clone(&piece)).map_err(gone)?;
        self.reader.send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn plain(mut blob: impl Read, out: &mut Out<'_>) -> io::Result<()> {
    loop {
        let piece = piece_of(&mut blob)?;
        if piece.is_empty() {
            return Ok(());
        }
        out.send(piece)?;
    }
}

/// The next [`PIECE`] bytes of a reader, or as many as there are.
fn piece_of(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE);
    reader.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

fn gzip(blob: impl Read, out: &mut Out<'_>) -> io::Result<()> {
    let mut window = Window { inner: blob, bytes: Vec::new(), start: 0, ended: false };
    let mut decompressor = Decompressor::new();
    let finder = Finder::new(&HEADER);
    let mut members = 0_u64;
    while window.fill()? {
        match small_member(window.rest(), &finder, &mut decompressor) {
            Some((taken, piece)) => {
                window.start += taken;
                out.send(piece)?;
            }
            None => any_member(&mut window, out)?,
        }
        members += 1;
    }
    if members == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// The member at the start of `bytes`, if it is a small one: its length, and what is in it.
fn small_member(
    bytes: &[u8],
    finder: &Finder<'_>,
    decompressor: &mut Decompressor,
) -> Option<(usize, Vec<u8>)> {
    if !bytes.starts_with(&HEADER) {
        return None;
    }
    // The bytes of a header can stand in the middle of a member by chance: then it takes another try.
    let mut from = HEADER.len();
    for _ in 0..4 {
        let end = finder.find(&bytes[from..]).map_or(bytes.len(), |at| from + at);
        let tail = bytes[..end].last_chunk::<8>()?;
        let size = u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]);
        let length = usize::try_from(size).ok().filter(|&size| size <= PIECE);
        if let Some(length) = length {
            let mut piece = vec![0; length];
            let inflated = decompressor.gzip_decompress(&bytes[..end], &mut piece);
            let sum = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
            // libdeflate ends where the member does and does not say where: had it been earlier, its last bytes, which
            // are these, would stand there too.
            let only = || memchr::memmem::find(&bytes[..end - 1], tail).is_none();
            if inflated == Ok(length) && libdeflater::crc32(&piece) == sum && only() {
                return Some((end, piece));
            }
        }
        if end == bytes.len() {
            return None;
        }
        from = end + HEADER.len();
    }
    None
}

/// One member of any size and make.
fn any_member<R: Read>(window: &mut Window<R>, out: &mut Out<'_>) -> io::Result<()> {
    let mut decoder = GzDecoder::new(window);
    loop {
        let piece = piece_of(&mut decoder)?;
        if piece.is_empty() {
            return Ok(());
        }
        out.send(piece)?;
    }
}

/// A part of the blob that has a small member as a whole in it.
struct Window<R> {
    inner: R,
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
}

/// More than a member of 1 MiB that cannot be compressed, and the next one's header.
const WINDOW: usize = PIECE + PIECE / 8;

impl<R: Read> Window<R> {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether there is anything; as much as a member can have, where there is so much.
    fn fill(&mut self) -> io::Result<bool> {
        if !self.ended && self.rest().len() < WINDOW {
            self.bytes.drain(..self.start);
            self.start = 0;
            let wanted = 2 * WINDOW - self.bytes.len();
            let read = (&mut self.inner).take(wanted as u64).read_to_end(&mut self.bytes)?;
            self.ended = read < wanted;
        }
        Ok(!self.rest().is_empty())
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

impl<R: Read> BufRead for Window<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest().is_empty() {
            self.fill()?;
        }
        Ok(self.rest())
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }
}
