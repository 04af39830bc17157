//! The documents say what is so: the digest, the exit codes, the commands, the links.

use super::{bundle, file, repository};

const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

fn stdout(arguments: &[&str]) -> String {
    let root = tempfile::tempdir().unwrap();
    let output = bundle(root.path(), arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The digest that README.md shows; with `BLESS=1` in the environment, after it has been replaced.
fn shown_digest(is: &str) -> String {
    let readme = file("README.md");
    let shown =
        readme.lines().filter_map(|line| line.strip_prefix("    sha256:")).find(|hex| hex.len() == 64);
    let shown = format!("sha256:{}", shown.expect("README.md shows a digest"));
    if std::env::var_os("BLESS").is_none() {
        return shown;
    }
    std::fs::write(repository().join("README.md"), readme.replace(&shown, is)).unwrap();
    is.to_owned()
}

#[test]
fn the_readme_shows_what_the_program_prints() {
    let digest = stdout(&["build", "production"]);
    let renew = "README.md shows another digest; if tests/reproducible/golden.tsv is right, renew it: \
                 BLESS=1 cargo test --test front";
    assert_eq!(shown_digest(&digest), digest, "{renew}");
    let readme = file("README.md");
    let listed = stdout(&["show", "production"]);
    for shown in readme.lines().filter_map(|line| line.strip_suffix(" B  …")) {
        let shown = shown.trim_start();
        let path = shown.split(' ').next().unwrap();
        let is: Vec<_> = listed.lines().map(str::trim_start).filter(|line| line.starts_with(path)).collect();
        assert!(
            is.iter().any(|line| line.starts_with(shown)),
            "README.md, \"Look inside\": it is now {is:?}"
        );
    }
    let checked = stdout(&["check", "production"]);
    assert!(readme.contains(&checked), "README.md, \"Five minutes\": it is now {checked}");
}

#[test]
fn the_readme_has_every_exit_code() {
    let readme = file("README.md");
    let report = file("src/cli/report.rs");
    let codes: Vec<_> = report
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// ")?.split_once(": "))
        .filter_map(|(code, _)| code.parse::<u8>().ok())
        .collect();
    assert!(codes.len() >= 8, "{codes:?}");
    for code in codes {
        assert!(readme.contains(&format!("\n| {code} |")), "README.md has no row for exit code {code}");
    }
}

#[test]
fn ci_runs_what_the_readme_says() {
    let command = "tests/run";
    assert!(file("README.md").contains(&format!("\n    {command}\n")));
    assert!(file(".ci/run").lines().any(|line| line.trim_start_matches("exec ") == command));
}

#[test]
fn the_files_that_the_documents_link_to_are_there() {
    for document in DOCUMENTS {
        for rest in file(document).split("](").skip(1) {
            let link = rest.split([')', '#']).next().unwrap();
            let elsewhere = link.is_empty() || link.starts_with("https://");
            assert!(elsewhere || repository().join(link).exists(), "{document} links to `{link}`");
        }
    }
}

#[test]
fn the_sources_that_the_documents_name_are_there() {
    for document in DOCUMENTS {
        let text = file(document);
        let code = text.split('`').skip(1).step_by(2);
        let paths =
            code.filter(|word| ["src/", "tests/", "profiles/"].iter().any(|start| word.starts_with(start)));
        for path in paths.filter(|path| !path.contains(['<', '*', ' ', '…'])) {
            assert!(repository().join(path).exists(), "{document} names `{path}`");
        }
    }
}
