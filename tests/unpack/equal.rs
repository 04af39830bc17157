//! What `umoci` (Debian's) unpacks of an image, and what we do: the same tree.

use std::path::Path;
use std::process::Command;

use bundle::bundle::gz1;

use crate::image::{Head, Image, archive, directory, extended, file, hard_link, long, symlink};
use crate::listing::listing;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is installed (tests/setup): {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ours(layout: &Path, into: &Path) {
    let source = format!("oci:{}:a", layout.display());
    run(env!("CARGO_BIN_EXE_bundle"), &["unpack", &source, into.to_str().unwrap()]);
}

/// Both listings, without the root's own: `umoci` keeps its permissions as they were made.
fn compare(layout: &Path, dir: &Path) {
    let (theirs, mine) = (dir.join("theirs"), dir.join("mine"));
    run("umoci", &["unpack", "--image", &format!("{}:a", layout.display()), theirs.to_str().unwrap()]);
    ours(layout, &mine);
    let (mut theirs, mut mine) = (listing(&theirs.join("rootfs")), listing(&mine));
    theirs.remove(".");
    mine.remove(".");
    assert!(theirs.len() > 5, "{theirs:#?}");
    for (path, is) in &theirs {
        assert_eq!(mine.get(path), Some(is), "{path}");
    }
    assert_eq!(theirs.len(), mine.len());
}

#[test]
fn links_of_the_layers_below_lead_where_umoci_goes_through_them() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let below = [
        directory("usr"),
        directory("usr/lib"),
        file("usr/lib/old", "old"),
        file("usr/lib/kept", "kept"),
        directory("run"),
        file("run/gone", "gone"),
        directory("var"),
        symlink("lib", "usr/lib"),
        symlink("var/run", "/run"),
        symlink("var/twice", "run/../lib"),
        symlink("usr/up", "../var/run"),
    ];
    let above = [
        file("lib/new", "new"),
        file("lib/deep/er/x", "x"),
        file("lib/kept", "replaced"),
        file("lib/.wh.old", ""),
        file("var/run/.wh.gone", ""),
        file("var/run/pid", "1"),
        file("usr/up/second", "2"),
        hard_link("lib/again", "lib/new"),
        symlink("var/run/link", "../lib"),
        directory("var/run/locked"),
        file("var/twice/three", "3"),
        // Given again, because umoci leaves them the time at which it wrote into them.
        directory("usr/lib/deep/er"),
        directory("usr/lib/deep"),
        directory("usr/lib"),
        directory("run"),
    ];
    Image::of(&layout, &[archive(&below), archive(&above)]).write(|_| {});
    compare(&layout, dir.path());
    let at = |path: &str| std::fs::read_to_string(dir.path().join("mine").join(path)).unwrap();
    assert_eq!(
        (at("usr/lib/new"), at("usr/lib/deep/er/x"), at("run/pid")),
        ("new".into(), "x".into(), "1".into())
    );
    assert!(dir.path().join("mine/lib").is_symlink() && !dir.path().join("mine/usr/lib/old").exists());
}

fn lay(dir: &Path) {
    let script = r#"
        mkdir -p usr/bin usr/lib etc var/empty deep
        echo one >usr/bin/one; chmod 4755 usr/bin/one
        ln usr/bin/one usr/bin/second
        echo secret >etc/shadow; chown 0:42 etc/shadow; chmod 640 etc/shadow
        : >etc/nobody; chmod 0 etc/nobody
        ln -s ../usr/bin/one etc/up; ln -s /etc/shadow etc/absolute; ln -s nowhere etc/dangling
        chown -h 1000:1001 etc/up
        chmod 1777 var/empty; chown 33:33 var/empty; chmod 2755 usr/lib
        cp usr/bin/one usr/bin/ping; setcap cap_net_raw+ep usr/bin/ping
        printf '\351' >"$(printf 'etc/latin-\351')"
        name=$(printf 'x%.0s' $(seq 200)); mkdir -p "deep/$name"; echo long >"deep/$name/$name"
        ln -s "$name/$name" deep/link; ln "deep/$name/$name" deep/hard
        head -c 3000000 /dev/urandom >usr/lib/random; head -c 3000000 /dev/zero >usr/lib/zeros
        seq 400000 >usr/lib/numbers
        touch -d '2001-02-03 04:05:06 UTC' etc/shadow; touch -d '2038-02-03 UTC' usr/lib/numbers
        touch -h -d '1999-01-01 UTC' etc/up; find . -depth -type d -exec touch -d '2010-01-01 UTC' {} +
    "#;
    let status = Command::new("sh").args(["-euc", script]).current_dir(dir).status().unwrap();
    assert!(status.success());
}

#[test]
fn an_image_of_umoci_is_unpacked_as_umoci_does() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, layout) = (dir.path().join("tree"), dir.path().join("layout"));
    std::fs::create_dir(&tree).unwrap();
    lay(&tree);
    let image = format!("{}:a", layout.display());
    run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["insert", "--image", &image, tree.to_str().unwrap(), "/"]);
    compare(&layout, dir.path());
    // One more layer, with whiteouts, as `umoci repack` writes them; and the whole as skopeo copies it.
    let bundle = dir.path().join("bundle");
    run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let script = "rm -r etc/up usr/lib; mkdir usr/lib; echo new >usr/lib/new; echo changed >etc/shadow; rm usr/bin/second; ln -s usr/bin bin";
    let status =
        Command::new("sh").args(["-euc", script]).current_dir(bundle.join("rootfs")).status().unwrap();
    assert!(status.success());
    run("umoci", &["repack", "--image", &image, bundle.to_str().unwrap()]);
    let again = dir.path().join("again");
    std::fs::create_dir(&again).unwrap();
    let copied = dir.path().join("copied");
    let to = format!("oci:{}:a", copied.display());
    run("skopeo", &["copy", "--quiet", "--insecure-policy", &format!("oci:{image}"), &to]);
    compare(&copied, &again);
}

#[test]
fn an_image_of_every_spelling_is_unpacked_as_umoci_does() {
    let dir = tempfile::tempdir().unwrap();
    let long_name = "n".repeat(150);
    let record = [
        ("path", b"etc/extended".as_slice()),
        ("mtime", b"1000000000.25"),
        ("uid", b"3000000"),
        ("gid", b"7"),
    ];
    let below = archive(&[
        directory("./"),
        directory("etc/"),
        Head::new("etc/prefixed", b'0', 1).at(345, b"usr/share").at(0, b"in-two-parts").with("x"),
        long(b'L', long_name.as_bytes()),
        file("cut", "long"),
        long(b'K', long_name.as_bytes()),
        hard_link("short", "cut"),
        [extended(b'x', &record), Head::new("cut", b'0', 5).at(136, b"07777777777\0").with("bytes")].concat(),
        Head::new("old", 0, 3).at(257, &[0; 8]).with("old"),
        symlink("lib", "usr/lib"),
        Head::new("big", b'0', 1).gnu().at(108, &[0x80, 0, 0, 0, 0, 0x2d, 0xc6, 0xc0]).with("x"),
    ]);
    let above = archive(&[
        directory("etc"),
        file("etc/.wh.extended", ""),
        file("etc/new", "new"),
        directory("usr"),
        directory("usr/share"),
        file("usr/share/.wh..wh..opq", ""),
        file("usr/share/only", "x"),
        file("lib", "no link any more"),
    ]);
    let layout = dir.path().join("layout");
    Image::of(&layout, &[below.clone(), above.clone()]).write(|manifest| {
        manifest["annotations"] = serde_json::json!({ "dev.bundle.encoder": gz1::ID });
    });
    compare(&layout, dir.path());
}
