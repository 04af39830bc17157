use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::Digest;

type Files = BTreeMap<StorePath, (Mode, Vec<u8>)>;

fn files(list: impl IntoIterator<Item = (String, Mode, Vec<u8>)>) -> Files {
    let place = |(name, mode, content): (String, Mode, Vec<u8>)| {
        (StorePath::of(&name, mode, Digest::of(&content)), (mode, content))
    };
    list.into_iter().map(place).collect()
}

fn write_all(files: &Files) -> Result<Vec<u8>, ArchiveError> {
    write(files.iter().map(|(path, (mode, content))| (path, *mode, content.as_slice())))
}

fn read_all(bytes: &[u8]) -> Result<Files, ArchiveError> {
    let mut files = Files::new();
    read(bytes, |header, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        files.insert(header.path.clone(), (header.mode, bytes));
        Ok::<_, ArchiveError>(())
    })?;
    Ok(files)
}

fn sample() -> Files {
    files([
        ("a".to_owned(), Mode::Read, b"hello".to_vec()),
        ("run.sh".to_owned(), Mode::Run, vec![7; 512]),
        ("bundle-a-rather-long-unit-name-that-needs-the-prefix.service".to_owned(), Mode::Read, vec![]),
    ])
}

/// The first entry of the sample, with some bytes of its header replaced and its checksum made right again.
fn forged(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let one = files([("a".to_owned(), Mode::Read, b"hello".to_vec())]);
    let mut bytes = write_all(&one).unwrap();
    let mut block: [u8; BLOCK] = bytes[..BLOCK].try_into().unwrap();
    for (at, change) in changes {
        put(&mut block, *at, change);
    }
    let sum = checksum(&block);
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    bytes[..BLOCK].copy_from_slice(&block);
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    match read_all(bytes) {
        Ok(files) => panic!("accepted: {files:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_unchanged_forgery_is_read() {
    assert_eq!(read_all(&forged(&[])).unwrap().len(), 1);
}

#[test]
fn an_empty_archive_is_its_trailer() {
    assert_eq!(write_all(&Files::new()).unwrap(), vec![0; 1024]);
    assert_eq!(read_all(&[0; 1024]).unwrap(), Files::new());
}

#[test]
fn hostile_headers_are_refused() {
    let hash = Digest::of(b"").hex();
    let climbing = format!("store/{hash}/..\0\0\0\0\0\0\0\0\0\0");
    let absolute = format!("/tore/{hash}/a");
    let outside = format!("../../{hash}/a");
    let nested = format!("store/{hash}/a/b");
    let upper = format!("store/{}/a", hash.to_uppercase());
    let cases: &[(&str, usize, &[u8])] = &[
        ("a link", 156, b"2"),
        ("a link", 156, b"1"),
        ("a device", 156, b"3"),
        ("a device", 156, b"4"),
        ("a device", 156, b"6"),
        ("a directory", 156, b"5"),
        ("a pax extension", 156, b"x"),
        ("a pax extension", 156, b"g"),
        ("a GNU long name", 156, b"L"),
        ("an unknown type", 156, b"S"),
        ("an unknown type", 156, b"\0"),
        ("GNU and old", 257, b"ustar  \0"),
        ("GNU and old", 257, b"\0\0\0\0\0\0\0\0"),
        ("a path", 0, climbing.as_bytes()),
        ("a path", 0, absolute.as_bytes()),
        ("a path", 0, outside.as_bytes()),
        ("a path", 0, nested.as_bytes()),
        ("a path", 0, upper.as_bytes()),
        ("a path", 345, b"x"),
        ("a path", 71, b"\xff"),
        ("canonical form", 90, b"x"),
        ("a mode", 100, b"0004755"),
        ("a mode", 100, b"0000644"),
        ("a mode", 100, b"    444"),
        ("canonical form", 108, b"0001750"),
        ("canonical form", 116, b"0001750"),
        ("plain octal", 124, b"\x80\0\0\0\0\0\0\0\0\0\0\x05"),
        ("plain octal", 124, b"          5\0"),
        ("plain octal", 124, b"000000000050"),
        ("too large", 124, b"77777777777\0"),
        ("canonical form", 136, b"14712345670"),
        ("canonical form", 157, b"x"),
        ("canonical form", 265, b"root\0"),
        ("canonical form", 297, b"root\0"),
        ("canonical form", 329, b"0000001"),
        ("canonical form", 511, b"x"),
    ];
    for &(words, at, change) in cases {
        let message = refusal(&forged(&[(at, change)]));
        assert!(message.contains(words), "{change:?} at {at}: {message}");
    }
}

#[test]
fn a_short_path_in_the_prefix_is_a_second_spelling_and_refused() {
    let hash = Digest::of(b"").hex();
    let message = refusal(&forged(&[(0, &[0; 100]), (0, b"a"), (345, format!("store/{hash}").as_bytes())]));
    assert!(message.contains("canonical form"), "{message}");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut bytes = forged(&[]);
    bytes[150] ^= 1;
    assert!(refusal(&bytes).contains("checksum"));
}

#[test]
fn padding_and_trailer_are_zeros_and_nothing_comes_after() {
    let good = write_all(&sample()).unwrap();
    let mut padded = forged(&[]);
    padded[BLOCK + 5] = 1;
    assert!(refusal(&padded).contains("padding"));
    for cut in [1, 512, 1024] {
        let message = refusal(&good[..good.len() - cut]);
        assert!(message.contains("two blocks") || message.contains("cannot be read"), "{message}");
    }
    for extra in [[0].as_slice(), &[0; 512], &good] {
        assert!(refusal(&[&good, extra].concat()).contains("two blocks"));
    }
    assert!(refusal(&[]).contains("cannot be read"));
    assert!(refusal(&good[..700]).contains("cannot be read"));
}

#[test]
fn unsorted_and_repeated_entries_are_refused_by_writer_and_reader() {
    let sample = sample();
    let parts: Vec<_> =
        sample.iter().map(|(path, (mode, content))| (path, *mode, content.as_slice())).collect();
    let encode = |part: &(&StorePath, Mode, &[u8])| {
        let one = write([*part]).unwrap();
        one[..one.len() - 1024].to_vec()
    };
    for order in [[1, 0], [0, 0]] {
        assert!(matches!(write(order.map(|index| parts[index])), Err(ArchiveError::Unsorted { .. })));
        let mut bytes = order.map(|index| encode(&parts[index])).concat();
        bytes.extend([0; 1024]);
        assert!(refusal(&bytes).contains("does not come after"));
    }
}

#[test]
fn too_many_entries_are_refused() {
    let many = files((0..=MAX_ENTRIES).map(|index| (format!("f{index}"), Mode::Read, Vec::new())));
    assert!(matches!(write_all(&many), Err(ArchiveError::TooManyEntries)));
    let mut bytes = Vec::new();
    for path in many.keys() {
        bytes.extend(Header { path: path.clone(), mode: Mode::Read, size: 0 }.encode().unwrap());
    }
    bytes.extend([0; 1024]);
    assert!(matches!(read_all(&bytes), Err(ArchiveError::TooManyEntries)));
}

#[test]
fn too_much_content_is_refused_before_it_is_read() {
    let header = |name: &str, size| {
        let path = StorePath::of(name, Mode::Read, Digest::of(b""));
        Header { path, mode: Mode::Read, size }
    };
    let mut headers = [header("a", MAX_CONTENT / 2 + 512), header("b", MAX_CONTENT / 2)];
    headers.sort_by(|a, b| a.path.cmp(&b.path));
    let [first, second] = headers;
    let content = io::repeat(0).take(first.size + padding(first.size) as u64);
    let (one, two) = (first.encode().unwrap(), second.encode().unwrap());
    let bytes = one.chain(content).chain(two.as_slice());
    let refused = read(bytes, |_, _| Ok::<_, ArchiveError>(()));
    assert!(matches!(refused, Err(ArchiveError::TooLarge)), "{refused:?}");
}

#[test]
fn names_that_ustar_cannot_hold_are_refused_at_write() {
    let fits = files([("n".repeat(100), Mode::Read, Vec::new())]);
    assert_eq!(read_all(&write_all(&fits).unwrap()).unwrap(), fits);
    let long = files([("n".repeat(101), Mode::Read, Vec::new())]);
    assert!(matches!(write_all(&long), Err(ArchiveError::LongName(_))));
}

#[test]
fn what_a_sink_leaves_unread_is_skipped() {
    let bytes = write_all(&sample()).unwrap();
    let mut seen = 0;
    let done = read(bytes.as_slice(), |_, _| {
        seen += 1;
        Ok::<_, ArchiveError>(())
    });
    assert!(done.is_ok());
    assert_eq!(seen, 3);
}

fn any_files() -> impl Strategy<Value = Files> {
    let mode = prop_oneof![Just(Mode::Read), Just(Mode::Run)];
    let name = prop_oneof!["[a-z][a-z0-9._-]{0,40}", "[a-zäöü@:-]{30,50}"];
    prop::collection::vec((name, mode, prop::collection::vec(any::<u8>(), 0..1100)), 0..6).prop_map(files)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(files in any_files()) {
        prop_assert_eq!(read_all(&write_all(&files).unwrap()).unwrap(), files);
    }

    #[test]
    fn another_tar_reads_the_same(files in any_files()) {
        let bytes = write_all(&files).unwrap();
        let mut seen = Files::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            prop_assert!(entry.header().entry_type().is_file());
            prop_assert_eq!(entry.header().mtime().unwrap(), 0);
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let path = StorePath::try_from(path.strip_prefix("store/").unwrap().to_owned()).unwrap();
            let mode = if entry.header().mode().unwrap() == 0o555 { Mode::Run } else { Mode::Read };
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            seen.insert(path, (mode, content));
        }
        prop_assert_eq!(seen, files);
    }

    #[test]
    fn a_flipped_bit_is_refused_or_shows_in_the_content(
        files in any_files(), at: prop::sample::Index, bit in 0_u8..8,
    ) {
        let mut bytes = write_all(&files).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = read_all(&bytes) {
            // Only a content can have changed, and then it no longer has the digest that its path was made from.
            let liars = other.iter().filter(|(path, (mode, content))| {
                StorePath::of(path.name(), *mode, Digest::of(content)) != **path
            });
            prop_assert_eq!(liars.count(), 1);
            prop_assert_eq!(write_all(&other).unwrap(), bytes);
        }
    }
}
