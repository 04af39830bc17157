//! What two programs may read differently: odd kinds of members, headers that contradict each other, odd ends.

use super::Expected::{Refused, Taken};
use super::{Case, case, raw};
use crate::image::{Head, archive, directory, extended, file, long, symlink};

pub fn kinds() -> Vec<Case> {
    let kind = |flag: u8| Head::new("a", flag, 0).alone();
    vec![
        case(
            "a character device",
            &[Head::new("dev/mem", b'3', 0).at(329, b"0000001\0").at(337, b"0000001\0").alone()],
            Refused("character device"),
        ),
        case("a block device", &[kind(b'4')], Refused("block device")),
        case("a pipe", &[kind(b'6')], Refused("named pipe")),
        case(
            "a sparse file of GNU's",
            &[Head::new("a", b'S', 512)
                .gnu()
                .at(386, b"00000000000\x0000000001000\0")
                .at(483, b"00077777777\0")
                .with([0; 512])],
            Refused("sparse file"),
        ),
        case(
            "a sparse file in extended headers",
            &[
                extended(b'x', &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"999999999")]),
                file("a", "x"),
            ],
            Refused("sparse file"),
        ),
        case(
            "a sparse file of star's",
            &[extended(b'x', &[("SCHILY.realsize", b"999999999")]), file("a", "x")],
            Refused("sparse file"),
        ),
        case("a continued file", &[kind(b'M')], Refused("unknown kind `M`")),
        case("a dumped directory", &[kind(b'D')], Refused("unknown kind `D`")),
        case("a contiguous file", &[kind(b'7')], Refused("unknown kind `7`")),
        case("a volume's name", &[kind(b'V')], Refused("unknown kind `V`")),
        case("a kind of nobody's", &[kind(0xff)], Refused(r"unknown kind `\xff`")),
        case(
            "a directory with content",
            &[Head::new("a", b'5', 512).with(file("b", ""))],
            Refused("a directory and says that 512 bytes follow"),
        ),
        case(
            "a link with content",
            &[Head::new("a", b'2', 512).link("b").with(file("b", ""))],
            Refused("a symbolic link and says that 512"),
        ),
        case(
            "a hard link with content",
            &[file("b", "x"), Head::new("a", b'1', 512).link("b").with([1; 512])],
            Refused("a hard link and says that 512"),
        ),
        case("a link that says nothing", &[symlink("a", "")], Refused("`linkname` is empty")),
        case("a file with a slash at the end", &[file("a/", "x")], Refused("ends in `/`")),
        case(
            "set-user-ID, which is kept",
            &[Head::new("su", b'0', 0).mode(0o4755).alone()],
            Taken(&[("su", "file 4755 0")]),
        ),
        case(
            "modes of devices in a file's mode",
            &[Head::new("a", b'0', 0).at(100, b"060644 \0").alone()],
            Taken(&[("a", "file 0644 0")]),
        ),
        case(
            "a directory twice, as writers do",
            &[directory("a"), file("a/b", "x"), directory("a/")],
            Taken(&[("a", "directory 0755"), ("a/b", "file 0644 1")]),
        ),
        case(
            "names that only look like others",
            &[file("a", "1"), file("A", "2"), file("a ", "3"), file("a.", "4"), file("...", "5")],
            Taken(&[
                ("a", "file 0644 1"),
                ("A", "file 0644 1"),
                ("a ", "file 0644 1"),
                ("a.", "file 0644 1"),
                ("...", "file 0644 1"),
            ]),
        ),
    ]
}

pub fn two_readings() -> Vec<Case> {
    let base256 = |bytes: [u8; 12]| Head::new("a", b'0', 0).gnu().at(124, &bytes).alone();
    let mut negative = [0xff; 12];
    negative[11] = 0;
    let mut needless = [0; 12];
    (needless[0], needless[11]) = (0x80, 1);
    let mut beyond = [0xff; 12];
    beyond[0] = 0x80;
    let inner = archive(&[file("smuggled", "x")]);
    let sized = |inner: &[u8], size: &str| {
        [extended(b'x', &[("size", size.as_bytes())]), Head::new("a", b'0', inner.len() as u64).with(inner)]
            .concat()
    };
    vec![
        // CVE-2025-62518, RUSTSEC-2026-0068: who takes which of the two sizes finds other members.
        case(
            "an extended size of 0 over a header's",
            &[sized(&inner, "0")],
            Refused("two different archives"),
        ),
        case(
            "an extended size over a header's 0",
            &[extended(b'x', &[("size", b"1536")]), Head::new("a", b'0', 0).with(&inner)],
            Refused("two different archives"),
        ),
        case("an extended size that is larger", &[sized(&inner, "4096")], Refused("two different archives")),
        case(
            "an extended size that says the same",
            &[extended(b'x', &[("size", b"1")]), file("a", "x")],
            Taken(&[("a", "file 0644 1")]),
        ),
        case("an extended size that is negative", &[sized(&inner, "-1")], Refused("`size` is not a number")),
        case("an extended size with a sign", &[sized(&inner, "+1536")], Refused("`size` is not a number")),
        case(
            "a size of 4 GB and no content",
            &[Head::new("a", b'0', 4 << 30).alone()],
            Refused("ends before its end"),
        ),
        case("a negative size in base 256", &[base256(negative)], Refused("`size` is not a number")),
        case("a size in base 256 without need", &[base256(needless)], Refused("base 256 without need")),
        case("a size in base 256 beyond everything", &[base256(beyond)], Refused("`size` is not a number")),
        case(
            "base 256 in a format that has none",
            &[Head::new("a", b'0', 0).at(124, &needless).alone()],
            Refused("`size` is not a number"),
        ),
        case(
            "a size that is no number",
            &[Head::new("a", b'0', 0).at(124, b"0000000000x\0").alone()],
            Refused("`size` is not a number"),
        ),
        case(
            "a size with digits behind its end",
            &[Head::new("a", b'0', 0).at(124, b"0000\x000001\0\0\0").alone()],
            Refused("`size` is not a number"),
        ),
        case("a name twice", &[file("a", "1"), file("a", "2")], Refused("has it twice")),
        case("a name twice in two spellings", &[file("a", "1"), file("./a", "2")], Refused("has it twice")),
        case(
            "a file that is a directory too",
            &[file("a/b", "1"), file("a", "2")],
            Refused("as a directory too"),
        ),
        case(
            "a directory that is a file too",
            &[file("a", "1"), file("a/b", "2")],
            Refused("`a`, which is no directory"),
        ),
        case(
            "two extended headers",
            &[extended(b'x', &[("path", b"b")]), extended(b'x', &[("path", b"c")]), file("a", "")],
            Refused("given twice"),
        ),
        case("two long names", &[long(b'L', b"b"), long(b'L', b"c"), file("a", "")], Refused("given twice")),
        case(
            "a long name and an extended one",
            &[long(b'L', b"b"), extended(b'x', &[("path", b"c")]), file("a", "")],
            Refused("given twice"),
        ),
        case(
            "a key twice in an extended header",
            &[extended(b'x', &[("path", b"b"), ("path", b"c")]), file("a", "")],
            Refused("`path` is given twice"),
        ),
        case("an empty path", &[extended(b'x', &[("path", b"")]), file("a", "")], Refused("`path` is empty")),
        case(
            "a NUL in a path",
            &[extended(b'x', &[("path", b"a\0b")]), file("a", "")],
            Refused("`path` is empty or has a NUL"),
        ),
        case(
            "a NUL in a link",
            &[extended(b'x', &[("linkpath", b"a\0b")]), symlink("a", "b")],
            Refused("`linkpath` is empty or has a NUL"),
        ),
        case("a NUL in a long name", &[long(b'L', b"a\0b"), file("a", "")], Refused("has a NUL")),
        case("no name", &[file("", "x")], Refused("`name` is empty")),
        case(
            "a record whose length lies",
            &[Head::new("x", b'x', 12).with("99 path=abc\n"), file("a", "")],
            Refused("not made of records"),
        ),
        case(
            "a record without a line's end",
            &[Head::new("x", b'x', 11).with("11 path=abc"), file("a", "")],
            Refused("not made of records"),
        ),
        case(
            "a record of nothing",
            &[Head::new("x", b'x', 3).with("3 \n"), file("a", "")],
            Refused("not made of records"),
        ),
        case(
            "a path for all that follow",
            &[extended(b'g', &[("path", b"etc/passwd")]), file("a", "")],
            Refused("global extended header"),
        ),
        case(
            "a comment for all that follow, as git writes it",
            &[extended(b'g', &[("comment", b"0123")]), file("a", "x")],
            Taken(&[("a", "file 0644 1")]),
        ),
        case(
            "an extended header and no member",
            &[extended(b'x', &[("path", b"a")])],
            Refused("followed by no member"),
        ),
        case(
            "an owner that means `as it is`",
            &[extended(b'x', &[("uid", b"4294967295")]), file("a", "")],
            Refused("`uid` is not a number"),
        ),
        case(
            "an owner beyond everything",
            &[extended(b'x', &[("gid", b"4294967296")]), file("a", "")],
            Refused("`gid` is not a number"),
        ),
        raw(
            "a wrong checksum",
            {
                let mut bytes = archive(&[file("a", "x")]);
                bytes[0] = b'b';
                bytes
            },
            Refused("checksum is wrong"),
        ),
        case(
            "a format of nobody's",
            &[Head::new("a", b'0', 0).at(257, b"other\x0000").alone()],
            Refused("neither ustar nor GNU's"),
        ),
        raw("no archive at all", b"<html>not found</html>".repeat(100), Refused("checksum")),
        raw("nothing", Vec::new(), Taken(&[])),
    ]
}

pub fn ends() -> Vec<Case> {
    let one = file("a", "x");
    vec![
        raw("cut in a header", archive(&[file("a", "x")])[..700].to_vec(), Refused("ends before its end")),
        raw(
            "cut in the content",
            file("a", &"x".repeat(2000))[..1024].to_vec(),
            Refused("ends before its end"),
        ),
        raw("without an end", one.clone(), Taken(&[("a", "file 0644 1")])),
        raw("with half an end", [one.clone(), vec![0; 512]].concat(), Taken(&[("a", "file 0644 1")])),
        raw(
            "a block of zeros in the middle",
            [one.clone(), vec![0; 512], archive(&[file("b", "x")])].concat(),
            Refused("between members"),
        ),
        raw(
            "members behind the end",
            [archive(std::slice::from_ref(&one)), archive(&[file("b", "x")])].concat(),
            Refused("behind its end"),
        ),
        raw(
            "rubbish behind the end",
            [archive(std::slice::from_ref(&one)), b"x".to_vec()].concat(),
            Refused("behind its end"),
        ),
        raw(
            "filled up with zeros, as GNU's tar does",
            [archive(&[one]), vec![0; 9 * 512]].concat(),
            Taken(&[("a", "file 0644 1")]),
        ),
    ]
}
