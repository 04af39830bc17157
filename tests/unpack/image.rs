//! Images as test input: archives block by block, and layouts around them in which anything can be wrong.

use std::io::Write;
use std::path::Path;

use bundle::bundle::Layout;
use bundle::bundle::gz1;
use bundle::model::Digest;
use serde_json::{Value, json};

/// A header, field by field.
#[derive(Clone)]
pub struct Head([u8; 512]);

impl Head {
    /// A ustar header of the type `flag`.
    pub fn new(name: impl AsRef<[u8]>, flag: u8, size: u64) -> Self {
        let head = Self([0; 512]).at(257, b"ustar\x0000").at(100, b"0000644\0");
        let head = head.at(108, b"0000000\0").at(116, b"0000000\0").at(136, b"00000000000\0");
        let size = format!("{size:011o}\0");
        head.at(0, name.as_ref()).at(124, size.as_bytes()).at(156, &[flag])
    }

    pub fn at(mut self, place: usize, bytes: &[u8]) -> Self {
        self.0[place..place + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn link(self, to: impl AsRef<[u8]>) -> Self {
        self.at(157, to.as_ref())
    }

    pub fn mode(self, mode: u32) -> Self {
        self.at(100, format!("{mode:07o}\0").as_bytes())
    }

    pub fn gnu(self) -> Self {
        self.at(257, b"ustar  \0")
    }

    /// With its checksum, and the content behind it.
    pub fn with(self, content: impl AsRef<[u8]>) -> Vec<u8> {
        let blank = self.at(148, b"        ");
        let sum: u32 = blank.0.iter().map(|&byte| u32::from(byte)).sum();
        let head = blank.at(148, format!("{sum:06o}\0 ").as_bytes());
        let content = content.as_ref();
        let padding = content.len().next_multiple_of(512) - content.len();
        [&head.0, content, &vec![0; padding]].concat()
    }

    pub fn alone(self) -> Vec<u8> {
        self.with([])
    }
}

pub fn file(name: impl AsRef<[u8]>, content: &str) -> Vec<u8> {
    Head::new(name, b'0', content.len() as u64).with(content)
}

pub fn directory(name: impl AsRef<[u8]>) -> Vec<u8> {
    Head::new(name, b'5', 0).mode(0o755).alone()
}

pub fn symlink(name: impl AsRef<[u8]>, to: &str) -> Vec<u8> {
    Head::new(name, b'2', 0).link(to).alone()
}

pub fn hard_link(name: impl AsRef<[u8]>, to: &str) -> Vec<u8> {
    Head::new(name, b'1', 0).link(to).alone()
}

/// An extended header, of the member that follows or (`g`) of all.
pub fn extended(flag: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let records = records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<u8>>();
    Head::new("PaxHeaders/x", flag, records.len() as u64).with(records)
}

pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

/// GNU's long name (`L`) or link (`K`).
pub fn long(flag: u8, text: &[u8]) -> Vec<u8> {
    let text = [text, &[0]].concat();
    Head::new("././@LongLink", flag, text.len() as u64).gnu().with(text)
}

/// Members and the end.
pub fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

/// One member of gzip, as large as its content.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image that is being made, in which everything can still be made wrong.
pub struct Image {
    pub layout: Layout,
    /// Blobs of layers, as they lie there.
    pub blobs: Vec<Vec<u8>>,
    pub layers: Vec<Value>,
    pub config: Value,
}

impl Image {
    /// With these archives as layers.
    pub fn of(at: &Path, archives: &[Vec<u8>]) -> Self {
        let blobs = archives.iter().map(|archive| gz1::encode(archive).unwrap()).collect();
        Self::encoded(at, blobs, archives)
    }

    /// With these blobs, whose content is said to be these archives.
    pub fn encoded(at: &Path, blobs: Vec<Vec<u8>>, archives: &[Vec<u8>]) -> Self {
        let layout = Layout::create(at).unwrap();
        let layers = blobs.iter().map(|blob| descriptor(GZIP, blob)).collect();
        let diff_ids: Vec<_> = archives.iter().map(|archive| Digest::of(archive).to_string()).collect();
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        Self { layout, blobs, layers, config }
    }

    /// Writes it, with a manifest that `change` has changed; in the index it is `a`.
    pub fn write(self, change: impl FnOnce(&mut Value)) -> Layout {
        let config = self.config.to_string().into_bytes();
        let described = descriptor("application/vnd.oci.image.config.v1+json", &config);
        let mut manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": self.layers });
        change(&mut manifest);
        self.write_text(&manifest.to_string(), &config)
    }

    /// The same, with a manifest of exactly these bytes.
    pub fn write_text(self, manifest: &str, config: &[u8]) -> Layout {
        for blob in &self.blobs {
            self.layout.write_blob(blob).unwrap();
        }
        self.layout.write_blob(config).unwrap();
        self.layout.write_blob(manifest.as_bytes()).unwrap();
        let mut entry = descriptor(MANIFEST, manifest.as_bytes());
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "a" });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        std::fs::write(self.layout.root().join("index.json"), index.to_string()).unwrap();
        self.layout
    }
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}
