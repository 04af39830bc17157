//! The encoder's bytes do not depend on what the processor can do, on which it is, or on what else is compiled along.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::bundle::gz1;
use bundle::model::Digest;
use serde_json::Value;
use tempfile::TempDir;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the project is compiled with: name, version, and where its source is.
fn packages() -> Vec<(String, String, PathBuf)> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let arguments = ["metadata", "--format-version", "1", "--offline", "--manifest-path", manifest];
    let said: Value = serde_json::from_str(&run(Command::new(env!("CARGO")).args(arguments))).unwrap();
    let text = |package: &Value, key: &str| package[key].as_str().unwrap().to_owned();
    let packages = said["packages"].as_array().unwrap().iter();
    let at =
        |package: &Value| Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned();
    packages.map(|package| (text(package, "name"), text(package, "version"), at(package))).collect()
}

fn package(name: &str) -> (String, PathBuf) {
    let found = packages().into_iter().find(|package| package.0 == name).unwrap();
    (found.1, found.2)
}

/// The golden rows, as those of `gz1.c` with the encodings that it wrote.
fn rows(said: &str, directory: &Path) -> String {
    let row = |(nth, row): (usize, &str)| {
        let encoded = fs::read(directory.join(nth.to_string())).unwrap();
        [row, "\t", &Digest::of(&encoded).hex(), "\n"].concat()
    };
    said.lines().enumerate().map(row).collect()
}

#[test]
fn the_encoder_s_bytes_are_the_same_without_simd_and_on_another_processor() {
    // Without the digest of the input, which only the one in src/bundle/gz1.rs makes.
    let golden: String = include_str!("../vectors/gz1.tsv")
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            [columns[0], columns[1], columns[3], columns[4]].join("\t") + "\n"
        })
        .collect();
    let dir = TempDir::new().unwrap();
    let source = package("libdeflate-sys").1.join("libdeflate");
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/gz1.c");
    let compile = |compiler: &str, flags: &[&str], name: &str| {
        let program = dir.path().join(name);
        let mut command = Command::new(compiler);
        // As the crate compiles it; with this macro the library reads which features it is not to use.
        command.args(["-O2", "-DTEST_SUPPORT__DO_NOT_USE"]).args(flags).arg("-I").arg(&source).arg(driver);
        for folder in ["lib", "lib/x86", "lib/arm"] {
            let files = fs::read_dir(source.join(folder)).unwrap().map(|entry| entry.unwrap().path());
            command.args(files.filter(|path| path.extension().is_some_and(|extension| extension == "c")));
        }
        run(command.arg("-o").arg(&program));
        program.display().to_string()
    };
    let here = compile("gcc", &["-static"], "here");
    let arm = compile("aarch64-linux-gnu-gcc", &["-static"], "arm");
    let x86 = "sse2,pclmulqdq,avx,avx2,bmi2,zmm,avx512bw,avx512vl,vpclmulqdq,avx512_vnni,avx_vnni";
    for (nth, (words, disabled)) in [
        (vec![here.as_str()], ""),
        (vec![here.as_str()], x86),
        // A processor of 2003.
        (vec!["qemu-x86_64", "-cpu", "qemu64", here.as_str()], ""),
        (vec!["qemu-aarch64", arm.as_str()], ""),
        (vec!["qemu-aarch64", arm.as_str()], "neon,pmull,prefer_pmull,crc32,sha3,dotprod"),
    ]
    .into_iter()
    .enumerate()
    {
        let to = dir.path().join(format!("out-{nth}"));
        fs::create_dir(&to).unwrap();
        let mut command = Command::new(words[0]);
        if !disabled.is_empty() {
            command.env("LIBDEFLATE_DISABLE_CPU_FEATURES", disabled);
        }
        let said = run(command.args(&words[1..]).arg(&to));
        assert_eq!(rows(&said, &to), golden, "{words:?} without `{disabled}`");
    }
}

/// Cargo gives a crate the features that anybody in the build asks for. With zlib-rs under flate2, flate2's own bytes are
/// others; ours are not.
#[test]
fn another_backend_of_flate2_in_the_same_build_does_not_show() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = TempDir::new().unwrap();
    let versions = ["flate2", "libdeflater"].map(|name| package(name).0);
    let manifest = format!(
        "[package]\nname = \"unified\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         flate2 = {{ version = \"={}\", features = [\"zlib-rs\"] }}\nlibdeflater = \"={}\"\n",
        versions[0], versions[1]
    );
    let main = "#[allow(dead_code)]\nmod gz1;\nuse std::io::{Read, Write};\nfn main() {\n\
         let mut bytes = Vec::new();\nstd::io::stdin().read_to_end(&mut bytes).unwrap();\n\
         let to = std::env::args().nth(1).unwrap();\nstd::fs::write(to, gz1::encode(&bytes).unwrap()).unwrap();\n\
         let mut theirs = flate2::write::GzEncoder::new(std::io::stdout(), flate2::Compression::new(6));\n\
         theirs.write_all(&bytes).unwrap();\ntheirs.finish().unwrap();\n}\n";
    fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir_all(dir.path().join("src/gz1")).unwrap();
    for file in ["gz1.rs", "gz1/parallel.rs"] {
        fs::copy(root.join("src/bundle").join(file), dir.path().join("src").join(file)).unwrap();
    }
    fs::write(dir.path().join("src/main.rs"), main).unwrap();
    // Kept, so that the next run finds it compiled.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unified");
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--target-dir"])
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .current_dir(dir.path()));
    let program = target.join("debug/unified");
    let numbers: Vec<u8> =
        (0_u64..).flat_map(|n| format!("{} {}\n", n, n * n).into_bytes()).take(3 << 19).collect();
    let zeros = vec![0; 3 << 20];
    let mut others = 0;
    for (name, bytes) in [("empty", Vec::new()), ("1.5 MiB of numbers", numbers), ("3 MiB of zeros", zeros)] {
        let (input, ours) = (dir.path().join("input"), dir.path().join("ours"));
        fs::write(&input, &bytes).unwrap();
        let output =
            Command::new(&program).arg(&ours).stdin(fs::File::open(&input).unwrap()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let encoded = Digest::of(&fs::read(&ours).unwrap());
        assert_eq!(encoded, Digest::of(&gz1::encode(&bytes).unwrap()), "{name}");
        let golden =
            include_str!("../vectors/gz1.tsv").lines().find(|line| line.starts_with(&format!("{name}\t")));
        assert!(golden.unwrap().ends_with(&encoded.hex()), "{name}");
        let mut plain = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        std::io::Write::write_all(&mut plain, &bytes).unwrap();
        others += usize::from(plain.finish().unwrap() != output.stdout);
    }
    assert!(others > 0, "flate2 has the same backend there as here");
}
