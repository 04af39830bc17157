//! What a layer takes away of those below it, and what it must not.

use super::Expected::{Refused, Taken};
use super::{Case, case, two};
use crate::image::{directory, file, symlink};

pub fn whiteouts() -> Vec<Case> {
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
