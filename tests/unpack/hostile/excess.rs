//! More than a machine can take: members, bytes, depth, length.

use super::Expected::{Refused, Taken};
use super::{Case, case};
use crate::image::{Head, directory, extended, file, long, symlink};

pub fn too_much() -> Vec<Case> {
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
