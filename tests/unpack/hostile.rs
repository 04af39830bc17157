//! Archives that somebody made to reach out of the directory, to be read in two ways, or to use up the machine. Each is
//! refused in words that name it, or, where it is harmless and others take it, unpacked as others do.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use bundle::image::unpack::{self, Limits, UnpackError};

use crate::image::{Head, Image, archive, directory, extended, file, gzip, hard_link, long, record, symlink};
use crate::listing::listing;

/// What is to come of an image.
pub enum Expected {
    /// These words are in the refusal.
    Refused(&'static str),
    /// These paths are there, and so is what they are.
    Taken(&'static [(&'static str, &'static str)]),
}

use Expected::{Refused, Taken};

pub struct Case {
    pub name: &'static str,
    pub layers: Vec<Vec<u8>>,
    pub expected: Expected,
}

fn case(name: &'static str, members: &[Vec<u8>], expected: Expected) -> Case {
    Case { name, layers: vec![archive(members)], expected }
}

fn raw(name: &'static str, bytes: Vec<u8>, expected: Expected) -> Case {
    Case { name, layers: vec![bytes], expected }
}

fn two(name: &'static str, below: &[Vec<u8>], above: &[Vec<u8>], expected: Expected) -> Case {
    Case { name, layers: vec![archive(below), archive(above)], expected }
}

fn escapes() -> Vec<Case> {
    vec![
        case("an absolute path", &[file("/etc/passwd", "x")], Refused("absolute path")),
        case(
            "an absolute path in an extended header",
            &[extended(b'x', &[("path", b"/etc/x")]), file("a", "")],
            Refused("absolute path"),
        ),
        case(
            "an absolute path in a long name",
            &[long(b'L', b"/etc/x"), file("a", "")],
            Refused("absolute path"),
        ),
        case("upwards", &[file("../canary/file", "x")], Refused("leads out of the image")),
        case(
            "upwards from below",
            &[directory("a"), file("a/../../canary/file", "x")],
            Refused("leads out of the image"),
        ),
        case("upwards and back", &[file("a/../b", "x")], Refused("leads out of the image")),
        case("upwards, a directory", &[directory("..")], Refused("leads out of the image")),
        case(
            "upwards in an extended header",
            &[extended(b'x', &[("path", b"../x")]), file("a", "")],
            Refused("leads out of the image"),
        ),
        case(
            "upwards in the prefix",
            &[Head::new("x", b'0', 0).at(345, b"..").alone()],
            Refused("leads out of the image"),
        ),
        case(
            "a link out, and a file through it",
            &[symlink("a", "../canary"), file("a/file", "x")],
            Refused("through the symbolic link `a`"),
        ),
        case(
            "an absolute link, and a file through it",
            &[symlink("a", "/etc"), file("a/passwd", "x")],
            Refused("through the symbolic link `a`"),
        ),
        case(
            "a link within, and a file through it",
            &[directory("b"), symlink("a", "b"), file("a/x", "x")],
            Refused("through the symbolic link `a`"),
        ),
        case(
            "a link in the middle",
            &[directory("d"), symlink("d/a", "../../canary"), file("d/a/b/c", "x")],
            Refused("through the symbolic link `d/a`"),
        ),
        case(
            "a link to /proc/self/root",
            &[symlink("a", "/proc/self/root"), file("a/x", "x")],
            Refused("through the symbolic link `a`"),
        ),
        case(
            "a link, and a directory in its place",
            &[symlink("a", "../canary"), directory("a")],
            Refused("has it twice"),
        ),
        case(
            "a link, and a file in its place",
            &[symlink("a", "../canary/file"), file("a", "x")],
            Refused("has it twice"),
        ),
        case(
            "a link, and a directory below it",
            &[symlink("a", "../canary"), directory("a/b")],
            Refused("through the symbolic link `a`"),
        ),
        two(
            "a link below, and a file through it above",
            &[symlink("a", "../canary")],
            &[file("a/file", "x")],
            Refused("through the symbolic link `a`"),
        ),
        two(
            "a link below that leads above the root in the end, and a file through it above",
            &[directory("d"), symlink("d/a", "../d/../../canary")],
            &[file("d/a/file", "x")],
            Refused("through the symbolic link `d/a`"),
        ),
        two(
            "an absolute link below to what the image does not have",
            &[symlink("a", "/proc/self/root/etc")],
            &[file("a/passwd", "x")],
            Refused("through the symbolic link `a`"),
        ),
        two(
            "an absolute link below is one within the image",
            &[directory("etc"), symlink("a", "/etc")],
            &[file("a/file", "x")],
            Taken(&[("a", "link /etc"), ("etc", "directory 0755"), ("etc/file", "file 0644 1")]),
        ),
        two(
            "links below that lead to each other",
            &[symlink("a", "b/x"), symlink("b", "a/x")],
            &[file("a/file", "x")],
            Refused("through the symbolic link"),
        ),
        two(
            "a link below to a file",
            &[file("f", "x"), symlink("a", "f")],
            &[file("a/file", "x")],
            Refused("through the symbolic link `a`"),
        ),
        two(
            "a link below that this layer replaced, and a file through the new one",
            &[directory("d"), symlink("a", "d")],
            &[symlink("a", "../canary"), file("a/file", "x")],
            Refused("through the symbolic link `a`"),
        ),
        two(
            "the same file under two names of its directory",
            &[directory("d"), symlink("a", "d")],
            &[file("a/file", "x"), file("d/file", "y")],
            Refused("has it twice"),
        ),
        two(
            "a whiteout through a link below that leads out",
            &[symlink("a", "../canary")],
            &[file("a/.wh.file", "")],
            Refused("through the symbolic link `a`"),
        ),
        two(
            "a hard link to what is behind a link below that leads out",
            &[symlink("a", "../canary")],
            &[hard_link("b", "a/file")],
            Refused("through the symbolic link `a`"),
        ),
        two(
            "a link below, a directory above",
            &[symlink("a", "../canary")],
            &[directory("a"), file("a/x", "x")],
            Taken(&[("a", "directory 0755"), ("a/x", "file 0644 1")]),
        ),
        two(
            "a link below, a file above",
            &[symlink("a", "../canary/file")],
            &[file("a", "x")],
            Taken(&[("a", "file 0644 1")]),
        ),
        case("a hard link to an absolute path", &[hard_link("a", "/etc/shadow")], Refused("absolute path")),
        case("a hard link upwards", &[hard_link("a", "../canary/file")], Refused("leads out of the image")),
        case("a hard link to nothing", &[hard_link("a", "etc/shadow")], Refused("which is not in the image")),
        case(
            "a hard link through a link",
            &[symlink("b", "../canary"), hard_link("a", "b/file")],
            Refused("through the symbolic link `b`"),
        ),
        case(
            "a hard link to a link, written through",
            &[symlink("b", "../canary/file"), hard_link("a", "b"), file("a", "x")],
            Refused("has it twice"),
        ),
        case(
            "a hard link to a directory",
            &[directory("b"), hard_link("a", "b")],
            Refused("which is no file"),
        ),
        case("a hard link to the root", &[hard_link("a", ".")], Refused("`linkname` is empty")),
        case("a hard link to itself", &[file("a", "x"), hard_link("a", "a")], Refused("has it twice")),
        two(
            "a hard link to what it replaces",
            &[file("a", "x")],
            &[hard_link("a", "a")],
            Refused("which is not in the image"),
        ),
        case(
            "a hard link in front of its file",
            &[hard_link("a", "b"), file("b", "x")],
            Refused("which is not in the image"),
        ),
        case("a root that is a link", &[symlink("./", "../canary")], Refused("ends in `/`")),
        case("a root that is a file", &[file(".", "x")], Refused("root of the image")),
        case(
            "links that lead anywhere, and nothing through them",
            &[symlink("a", "../../../etc/passwd"), symlink("b", "/etc/shadow")],
            Taken(&[("a", "link ../../../etc/passwd"), ("b", "link /etc/shadow")]),
        ),
    ]
}

fn kinds() -> Vec<Case> {
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

fn two_readings() -> Vec<Case> {
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

fn ends() -> Vec<Case> {
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

fn whiteouts() -> Vec<Case> {
    let below = [directory("d"), file("d/a", "1"), file("d/b", "1"), directory("d/e"), file("d/e/f", "1")];
    vec![
        case(
            "a whiteout of the directory itself",
            &[directory("d"), file("d/.wh..", "")],
            Refused("hides nothing that has a name"),
        ),
        case(
            "a whiteout of the directory above",
            &[directory("d"), file("d/.wh...", "")],
            Refused("hides nothing that has a name"),
        ),
        case("a whiteout of nothing", &[file(".wh.", "")], Refused("hides nothing that has a name")),
        case("a whiteout of a whiteout", &[file(".wh..wh.a", "")], Refused("hides nothing that has a name")),
        case("a whiteout with content", &[file(".wh.a", "x")], Refused("it is no empty file")),
        case("a whiteout that is a directory", &[directory(".wh.a")], Refused("it is no empty file")),
        case("a whiteout that is a link", &[symlink(".wh.a", "b")], Refused("it is no empty file")),
        case(
            "a whiteout in the middle of a path",
            &[file(".wh.a/b", "")],
            Refused("in the middle of a path"),
        ),
        two(
            "a whiteout through a link",
            &[symlink("l", "../canary")],
            &[file("l/.wh.file", "")],
            Refused("through the symbolic link `l`"),
        ),
        two(
            "an opaque directory through a link",
            &[symlink("l", "../canary")],
            &[file("l/.wh..wh..opq", "")],
            Refused("through the symbolic link `l`"),
        ),
        two(
            "a whiteout of a link out takes the link",
            &[symlink("l", "../canary")],
            &[file(".wh.l", "")],
            Taken(&[]),
        ),
        two(
            "a whiteout of a directory with a link out in it",
            &[directory("d"), symlink("d/l", "../../canary")],
            &[file(".wh.d", "")],
            Taken(&[]),
        ),
        two(
            "a whiteout of what was never there",
            &below[..2],
            &[file(".wh.x", ""), file("y/.wh.x", "")],
            Taken(&[("d", "directory 0755"), ("d/a", "file 0644 1")]),
        ),
        two(
            "a whiteout of a file",
            &below[..3],
            &[file("d/.wh.a", "")],
            Taken(&[("d", "directory 0755"), ("d/b", "file 0644 1")]),
        ),
        two(
            "a whiteout behind what the same layer makes hides only what is below",
            &below,
            &[directory("d"), file("d/new", "12"), file(".wh.d", "")],
            Taken(&[("d", "directory 0755"), ("d/new", "file 0644 2")]),
        ),
        two(
            "an opaque directory behind what the same layer makes",
            &below,
            &[directory("d"), file("d/a", "12"), file("d/.wh..wh..opq", "")],
            Taken(&[("d", "directory 0755"), ("d/a", "file 0644 2")]),
        ),
        two(
            "an opaque directory in front",
            &below,
            &[directory("d"), file("d/.wh..wh..opq", ""), directory("d/e"), file("d/e/g", "12")],
            Taken(&[("d", "directory 0755"), ("d/e", "directory 0755"), ("d/e/g", "file 0644 2")]),
        ),
        two("a file in the place of a directory", &below, &[file("d", "12")], Taken(&[("d", "file 0644 2")])),
    ]
}

fn too_much() -> Vec<Case> {
    let deep = |levels: usize| [vec!["d"; levels].join("/"), "f".to_owned()].join("/");
    vec![
        case(
            "201 directories, one in the other",
            &[extended(b'x', &[("path", deep(200).as_bytes())]), file("a", "")],
            Refused("more than 200"),
        ),
        case(
            "50 directories, one in the other",
            &[extended(b'x', &[("path", deep(50).as_bytes())]), file("a", "")],
            Taken(&[]),
        ),
        case(
            "a name of 256 bytes",
            &[extended(b'x', &[("path", &[b'n'; 256])]), file("a", "")],
            Refused("bytes of one name: more than 255"),
        ),
        case(
            "a path of 5000 bytes",
            &[
                extended(
                    b'x',
                    &[(
                        "path",
                        [&b"p"[..]; 150].join(&b"/0123456789012345678901234567890123456789"[..]).as_slice(),
                    )],
                ),
                file("a", ""),
            ],
            Refused("`name` is empty"),
        ),
        case(
            "a long name of 5000 bytes",
            &[long(b'L', &[b'n'; 5000]), file("a", "")],
            Refused("long name: more than 4097"),
        ),
        case(
            "a link that says 5000 bytes",
            &[extended(b'x', &[("linkpath", &[b'n'; 5000])]), symlink("a", "b")],
            Refused("`linkname` is empty"),
        ),
        case(
            "an extended header of 2 MB",
            &[extended(b'x', &[("comment", &vec![b'c'; 2 << 20])]), file("a", "")],
            Refused("bytes of an extended header: more than 1048576"),
        ),
        case(
            "an extended header of 8 GB",
            &[Head::new("x", b'x', (8 << 30) - 1).alone()],
            Refused("bytes of an extended header: more than 1048576"),
        ),
        case(
            "more members than are taken",
            &vec![directory("d"); 1001],
            Refused("members of a layer: more than 1000"),
        ),
        case("more content than is taken", &[file("a", &"x".repeat(3 << 20))], Refused("cannot be read")),
    ]
}

pub fn cases() -> Vec<Case> {
    [escapes(), kinds(), two_readings(), ends(), whiteouts(), too_much()].into_iter().flatten().collect()
}

/// Small, so that the cases are.
pub const LIMITS: Limits =
    Limits { members: 1000, layer: unpack::stream::Bounds { bytes: 3 << 20, ratio: 200 } };

/// What lies beside the directory that an image goes to.
fn canary(dir: &Path) {
    std::fs::create_dir_all(dir.join("canary/below")).unwrap();
    std::fs::write(dir.join("canary/file"), "nobody may write here").unwrap();
    std::fs::write(dir.join("canary/below/file"), "nor here").unwrap();
    std::os::unix::fs::symlink("file", dir.join("canary/link")).unwrap();
}

/// All in a directory whose own time is another matter.
fn beside(dir: &Path) -> BTreeMap<String, String> {
    let mut found = listing(dir);
    found.remove(".");
    found
}

/// A directory in memory: layouts are synced, and these are many.
pub fn quick() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn words(error: &UnpackError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// Unpacks with a canary beside; what came of it, with nothing but the image changed beside it.
pub fn unpacked(dir: &Path, layout: &bundle::bundle::Layout) -> Result<BTreeMap<String, String>, String> {
    let target = dir.join("target");
    let result =
        unpack::find(layout, Some("a")).and_then(|image| unpack::unpack(layout, &image, &target, LIMITS));
    match result {
        Ok(_) => {
            let found = listing(&target);
            std::fs::remove_dir_all(&target).unwrap();
            Ok(found)
        }
        Err(error) => Err(words(&error)),
    }
}

#[test]
fn every_hostile_archive_is_refused_in_words_and_reaches_nothing() {
    let dir = quick();
    canary(dir.path());
    let cases = cases();
    assert!(cases.iter().filter(|case| matches!(case.expected, Refused(_))).count() >= 60);
    let mut faults = Vec::new();
    for case in &cases {
        // In our encoding, and in everybody's.
        for (how, blobs) in [
            (
                "gz1",
                case.layers
                    .iter()
                    .map(|layer| bundle::bundle::gz1::encode(layer).unwrap())
                    .collect::<Vec<_>>(),
            ),
            ("gzip", case.layers.iter().map(|layer| gzip(layer)).collect()),
        ] {
            let image = quick();
            let layout = Image::encoded(image.path(), blobs, &case.layers).write(|_| {});
            let before = beside(dir.path());
            let found = unpacked(dir.path(), &layout);
            let after = beside(dir.path());
            if before != after {
                faults.push(format!("{} ({how}): something is left or changed: {after:#?}", case.name));
            }
            match (&case.expected, found) {
                (Refused(words), Err(said)) if said.contains(words) => {}
                (Taken(paths), Ok(found)) => {
                    let missing = |(path, what): &&(&str, &str)| {
                        found.get(*path).is_none_or(|found| !found.starts_with(what))
                    };
                    let missing: Vec<_> = paths.iter().filter(missing).collect();
                    if !missing.is_empty() || !paths.is_empty() && paths.len() != found.len() - 1 {
                        faults.push(format!("{} ({how}): {found:#?}", case.name));
                    }
                }
                (_, found) => faults.push(format!("{} ({how}): {found:?}", case.name)),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_cases_are_what_they_say() {
    assert_eq!(record("path", b"abc"), b"12 path=abc\n");
    let names: std::collections::BTreeSet<_> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().len(), "each case once");
}
