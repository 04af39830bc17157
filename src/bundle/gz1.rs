//! The encoder `gz1`: gzip whose bytes are a function of the input alone.
//!
//! One gzip member (RFC 1952) per MiB of input, each with the same header (no time, no name, XFL 0, OS 255), deflated
//! by libdeflate at level 2. The compressor only ever sees whole blocks, so how the input was cut into writes cannot
//! show; the version of libdeflate is pinned in `Cargo.toml`, and the vectors in `tests/vectors/gz1.tsv` hold it to
//! its word. If the bytes ever have to change, that is `gz2`, next to this one.

pub mod parallel;

use std::fmt;
use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use libdeflater::{CompressionLvl, Compressor};

/// The name of this encoder, in the OCI manifest's annotation.
pub const ID: &str = "gz1";
/// Bytes of input in one member.
pub const BLOCK: usize = 1 << 20;

const LEVEL: i32 = 2;

/// Makes members, one at a time.
pub struct Encoder(Compressor);

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// An encoder; it has no state that shows in the bytes.
    pub fn new() -> Self {
        // The level is a constant in range; libdeflater's own default is what remains if that ever changes, and the
        // vectors would say so.
        Self(Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default()))
    }

    /// Replaces `member` by the member of this block, which is at most [`BLOCK`] long.
    pub fn member(&mut self, block: &[u8], member: &mut Vec<u8>) -> io::Result<()> {
        member.resize(self.0.gzip_compress_bound(block.len()), 0);
        let size =
            self.0.gzip_compress(block, member).map_err(|error| io::Error::other(error.to_string()))?;
        member.truncate(size);
        Ok(())
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Compresses what is written to it into `W`. Nothing is complete before [`Gz1Writer::finish`].
#[derive(Debug)]
pub struct Gz1Writer<W: Write> {
    inner: W,
    encoder: Encoder,
    block: Vec<u8>,
    member: Vec<u8>,
    members: u64,
}

impl<W: Write> Gz1Writer<W> {
    /// A writer that has seen nothing yet.
    pub fn new(inner: W) -> Self {
        let block = Vec::with_capacity(BLOCK);
        Self { inner, encoder: Encoder::new(), block, member: Vec::new(), members: 0 }
    }

    /// Writes what is left and gives the inner writer back. An empty input is one member of an empty block.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() || self.members == 0 {
            self.write_member()?;
        }
        Ok(self.inner)
    }

    fn write_member(&mut self) -> io::Result<()> {
        self.encoder.member(&self.block, &mut self.member)?;
        self.inner.write_all(&self.member)?;
        self.block.clear();
        self.members += 1;
        Ok(())
    }
}

impl<W: Write> Write for Gz1Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.write_member()?;
        }
        Ok(taken)
    }

    /// Does not end the block: a flush must not show in the bytes.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The `gz1` encoding of `bytes`.
pub fn encode(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = Gz1Writer::new(Vec::new());
    writer.write_all(bytes)?;
    writer.finish()
}

/// Reads any gzip, of one member or many, and fails once it gives more than `limit` bytes.
#[derive(Debug)]
pub struct Reader<R: Read> {
    inner: MultiGzDecoder<R>,
    left: u64,
    limit: u64,
}

impl<R: Read> Reader<R> {
    /// A reader of `inner` that gives at most `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        Self { inner: MultiGzDecoder::new(inner), left: limit, limit }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            // Whether there is more is only known by asking for it.
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("the layer unpacks to more than {} bytes", self.limit),
                )),
            };
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..room])?;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "`gzip` is asked for a second opinion")]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;
    use crate::model::Digest;

    /// The inputs of the vectors: name and bytes.
    fn inputs() -> Vec<(&'static str, Vec<u8>)> {
        let line = "One digest is the whole machine, and going back is as safe as never having left.\n";
        vec![
            ("empty", Vec::new()),
            ("one byte", vec![b'a']),
            ("1 MiB - 1 of text", text(line, BLOCK - 1)),
            ("1 MiB of text", text(line, BLOCK)),
            ("1 MiB + 1 of text", text(line, BLOCK + 1)),
            ("3 MiB of zeros", vec![0; 3 * BLOCK]),
            ("2.5 MiB of noise", noise(5 * BLOCK / 2)),
            ("1.5 MiB of numbers", numbers(3 * BLOCK / 2)),
        ]
    }

    fn text(line: &str, size: usize) -> Vec<u8> {
        line.bytes().cycle().take(size).collect()
    }

    /// xorshift64*, which anybody can write down again.
    fn noise(size: usize) -> Vec<u8> {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(size).collect()
    }

    /// Compressible, but not by repetition alone.
    fn numbers(size: usize) -> Vec<u8> {
        (0_u64..).flat_map(|n| format!("{} {}\n", n, n * n).into_bytes()).take(size).collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_golden_vectors() {
        let golden = include_str!("../../tests/vectors/gz1.tsv");
        let head =
            ["# input", "size", "sha256 of the input", "size of gz1", "sha256 of gz1"].map(str::to_owned);
        let rows = inputs().into_iter().map(|(name, bytes)| {
            let encoded = encode(&bytes).unwrap();
            let sizes = (bytes.len().to_string(), encoded.len().to_string());
            [name.to_owned(), sizes.0, Digest::of(&bytes).hex(), sizes.1, Digest::of(&encoded).hex()]
        });
        let now: String =
            std::iter::once(head).chain(rows).flat_map(|row| [row.join("\t"), "\n".to_owned()]).collect();
        assert_eq!(now, golden, "gz1 must never change; other bytes are another encoder");
    }

    #[test]
    fn every_member_has_the_one_header_and_holds_one_block() {
        let encoded = encode(&noise(2 * BLOCK + 7)).unwrap();
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        assert_eq!(encoded[..10], header);
        let mut rest = encoded.as_slice();
        let mut sizes = Vec::new();
        while !rest.is_empty() {
            assert_eq!(rest[..10], header);
            let mut one = flate2::bufread::GzDecoder::new(rest);
            sizes.push(io::copy(&mut one, &mut io::sink()).unwrap());
            rest = one.into_inner();
        }
        assert_eq!(sizes, [BLOCK as u64, BLOCK as u64, 7]);
    }

    #[test]
    fn a_block_is_compressed_the_same_whatever_came_before_it() {
        let (first, second) = (noise(BLOCK), numbers(BLOCK + 3));
        let apart = [encode(&first).unwrap(), encode(&second).unwrap()].concat();
        assert_eq!(Digest::of(&encode(&[first, second].concat()).unwrap()), Digest::of(&apart));
    }

    #[test]
    fn gzip_itself_accepts_it() {
        for (name, bytes) in inputs() {
            let mut gzip =
                Command::new("gzip").arg("-t").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            gzip.stdin.take().unwrap().write_all(&encode(&bytes).unwrap()).unwrap();
            let output = gzip.wait_with_output().unwrap();
            assert!(output.status.success(), "{name}: {output:?}");
        }
    }

    #[test]
    fn a_reader_gives_what_was_written_and_never_more_than_its_limit() {
        let bytes = numbers(BLOCK + 5000);
        let encoded = encode(&bytes).unwrap();
        let read = |limit| {
            let mut out = Vec::new();
            Reader::new(encoded.as_slice(), limit).read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(bytes.len() as u64).unwrap(), bytes);
        let error = read(bytes.len() as u64 - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn rubbish_after_the_last_member_is_an_error() {
        for rubbish in [[1; 1].as_slice(), &[0; 12], b"plain text, no gzip"] {
            let bytes = [encode(b"x").unwrap().as_slice(), rubbish].concat();
            assert!(Reader::new(bytes.as_slice(), 10).read_to_end(&mut Vec::new()).is_err(), "{rubbish:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn how_the_input_is_cut_into_writes_does_not_show(
            size in 0..2 * BLOCK + 2000, cuts in prop::collection::vec(1_usize..300_000, 1..8),
        ) {
            let bytes = numbers(size);
            let mut writer = Gz1Writer::new(Vec::new());
            let mut rest = bytes.as_slice();
            for &cut in cuts.iter().cycle() {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                writer.write_all(piece).unwrap();
                writer.flush().unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(Digest::of(&writer.finish().unwrap()), Digest::of(&encode(&bytes).unwrap()));
        }
    }
}
