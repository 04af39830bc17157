//! Out of the directory: upwards, by absolute paths, through links.

use super::Expected::{Refused, Taken};
use super::{Case, case, two};
use crate::image::{Head, directory, extended, file, hard_link, long, symlink};

pub fn escapes() -> Vec<Case> {
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
