//! One tree, one digest: whoever builds it, where, on how many threads, and in which order its files came to be. And
//! nothing changed, nothing written.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use bundle::bundle::Layout;
use bundle::image::layer::{Lower, arrange, cut};
use bundle::image::{Layer, files, write};
use bundle::spec::Copy;
use tempfile::TempDir;

use crate::project::{Project, shell};

const RECIPE: &str = "layers = [{ from = \"tree\", to = \"/srv\" }]\ncmd = [\"/srv/a\"]";

/// The same files, as they came to be on another day: in the other order, with other modes, times and owners.
fn tree(dir: &Path, backwards: bool) {
    let order = if backwards { "sort -r" } else { "cat" };
    let script = format!(
        "mkdir -p tree/d; for n in $(seq 300 | {order}); do echo $n >tree/d/$n; done; printf '#!/bin/sh\\n' >tree/a; seq 200000 >tree/numbers; ln -s a tree/link"
    );
    shell(dir, &script);
    shell(
        dir,
        if backwards { "chmod 0700 tree/a tree/d; chmod 0600 tree/numbers" } else { "chmod 0755 tree/a" },
    );
    if backwards {
        shell(dir, "find tree -exec touch -h -d '2001-01-01' {} +; chown -hR 1234:5678 tree");
    }
}

#[test]
fn who_builds_it_and_where_does_not_show() {
    let first = Project::new(RECIPE);
    tree(first.path(), false);
    let (digest, _) = first.build();
    for (nth, (place, wrap, variables)) in [
        ("/tmp", vec![], vec![("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Pacific/Kiritimati")]),
        ("/dev/shm", vec!["sh", "-c", "umask 077; exec \"$@\"", "sh"], vec![]),
        ("/var/tmp", vec!["taskset", "--cpu-list", "0"], vec![("SOURCE_DATE_EPOCH", "12345")]),
        ("/var/tmp", vec!["faketime", "2035-01-01 00:00:00"], vec![("HOME", "/nonexistent")]),
    ]
    .into_iter()
    .enumerate()
    {
        let project = Project::at(TempDir::new_in(place).unwrap(), RECIPE);
        tree(project.path(), nth % 2 == 0);
        let words =
            [wrap, vec![env!("CARGO_BIN_EXE_bundle"), "--root", "cache", "image", "p.toml", "web"]].concat();
        let output = Command::new(words[0])
            .args(&words[1..])
            .envs(variables)
            .current_dir(project.path())
            .output()
            .unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        assert_eq!(found.trim(), digest, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let dir = TempDir::new().unwrap();
    tree(dir.path(), false);
    let copy = Copy { from: dir.path().join("tree"), to: "/".to_owned(), ..Copy::default() };
    let entries = arrange(files::gather(&copy).unwrap(), Some(&mut Lower::default())).unwrap();
    let layout = Layout::create(&dir.path().join("layout")).unwrap();
    let on = |threads| {
        let threads = NonZeroUsize::new(threads).unwrap();
        let layers =
            cut(entries.clone()).into_iter().map(|layer| write::write(&layer, &layout, threads).unwrap());
        layers.collect::<Vec<Layer>>()
    };
    let one = on(1);
    for threads in [2, 8] {
        assert_eq!(on(threads), one);
    }
}

/// The files of a layout, and when each was written.
fn written(layout: &Path) -> Vec<(String, i64, i64)> {
    let mut all: Vec<_> = walkdir::WalkDir::new(layout)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let about = entry.metadata().unwrap();
            (entry.path().display().to_string(), about.mtime(), about.mtime_nsec())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_did_not_change_is_not_written_again_and_what_did_is() {
    let project = Project::new(RECIPE);
    tree(project.path(), false);
    // What changed a moment ago is not yet trusted to show the next change.
    sleep(Duration::from_millis(300));
    let (first, said) = project.build();
    assert!(said.contains("1 of 1 layers written"), "{said}");
    let before = written(&project.path().join("cache"));
    let (again, said) = project.build();
    assert_eq!((again.as_str(), said.as_str()), (first.as_str(), ""));
    assert_eq!(written(&project.path().join("cache")), before);
    // As long as before, and as old.
    let file = project.path().join("tree/d/100");
    let old = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "999\n").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let (other, said) = project.build();
    assert!(other != first && said.contains("1 of 1 layers written"), "{said}");
    fs::write(&file, "100\n").unwrap();
    assert_eq!(project.build().0, first, "and back");
}

#[test]
fn a_bundle_names_the_image_that_it_runs() {
    let project = Project::new(RECIPE);
    tree(project.path(), false);
    let (image, _) = project.build();
    let shown = project.run(&["show", "p.toml"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("localhost:5000/team/app@{image}")), "{shown}");
    let before = project.run(&["build", "p.toml"]).stdout;
    fs::write(project.path().join("tree/a"), "other").unwrap();
    let after = project.run(&["build", "p.toml"]).stdout;
    assert!(before != after && after.starts_with(b"sha256:"), "another image is another bundle");
    let judged = project.run(&["check", "p.toml"]);
    assert!(judged.status.success());
}

/// Files need not give as much as is asked of them; pipes and networks under them seldom do.
#[test]
fn how_much_each_read_gives_does_not_show() {
    let shim = TempDir::new().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/image/short_reads.c");
    shell(shim.path(), &format!("gcc -shared -fPIC -O1 -o short.so {source}"));
    let bases = ["", "base = \"rootfs:base.tar\"\n", "base = \"rootfs:base.tar.gz\"\n"];
    for base in bases {
        let project = || {
            let project = Project::new(&format!("{base}{RECIPE}"));
            tree(project.path(), false);
            shell(
                project.path(),
                "cd tree && tar --sort=name --mtime=@0 --owner=0 --group=0 --format=ustar -cf ../base.tar . && cd .. && gzip -nk base.tar",
            );
            project
        };
        let (digest, _) = project().build();
        for seed in 1..=3 {
            let output = project()
                .command()
                .args(["image", "p.toml", "web"])
                .env("LD_PRELOAD", shim.path().join("short.so"))
                .env("SHORT_READS", seed.to_string())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim(),
                digest,
                "seed {seed}, {base:?}: {said}"
            );
            let count = said.rsplit_once("short reads: ").map(|(_, count)| count.trim().parse::<u64>());
            assert!(matches!(count, Some(Ok(300..))), "the reads were not cut: {said}");
        }
    }
}
