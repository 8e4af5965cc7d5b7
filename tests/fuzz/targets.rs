//! What is fuzzed: every reader of bytes that others wrote. A target takes any bytes and must not panic, hang or fill the
//! memory; what it makes of them it asserts only where two readers have to agree.
//!
//! Plain functions, called by the driver on stable (driver.rs) and by cargo-fuzz (cargo-fuzz/).

use lapidary_curate::{Truth, score_csv};
use lapidary_pipeline::pixels::Raster;
use lapidary_pipeline::sources::{Fetcher, Options, open_source};
use lapidary_pipeline::stage::{digest_of_bytes, read_manifest};
use lapidary_pipeline::{DecodeRule, Npy, check, cli, decode, decode_small_into};
use lapidary_schemas::config::{IccProfiles, ModelConfig};
use lapidary_train::{Checkpoint, weights as foreign};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A reader of foreign bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("jpeg", image),
    ("png", image),
    ("gif", image),
    ("tiff", image),
    ("bmp", image),
    ("webp", image),
    ("coco_json", coco_json),
    ("parquet", parquet),
    ("manifest", manifest),
    ("safetensors", safetensors),
    ("weights", weights),
    ("npy", npy),
    ("truth_csv", truth_csv),
    ("pairs_csv", pairs_csv),
    ("config_toml", config_toml),
];

/// Headers may claim as many pixels here; an image takes some 20 bytes for each while it is decoded.
const MAX_PIXELS: u64 = 1 << 22;

/// Bytes as an image: what ingest checks, every verb decodes, to the size that was checked.
pub fn image(bytes: &[u8]) {
    for icc in [IccProfiles::Ignore, IccProfiles::Convert] {
        let rule = DecodeRule { max_pixels: MAX_PIXELS, icc };
        let mut raster = Raster::default();
        let (checked, decoded) = (check(bytes, rule), decode(bytes, rule));
        let small = decode_small_into(bytes, rule, 5_000, &mut raster);
        match (checked, decoded, small) {
            (Ok(checked), Ok(decoded), Ok(small)) => {
                let size = (checked.width, checked.height);
                assert_eq!((size, size), (decoded.rgb.dimensions(), small));
                assert!(checked.luma.width() <= size.0 && raster.width() <= size.0);
            }
            (Err(_), Err(_), Err(_)) => {}
            (checked, decoded, small) => {
                panic!("one rule for all verbs: {checked:?}, {:?}, {small:?}", decoded.map(|d| d.format))
            }
        }
    }
}

/// Bytes as the annotations of three images.
pub fn coco_json(bytes: &[u8]) {
    let folder = Scratch::new(&["annotations", "train"]);
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        folder.write(&format!("train/{name}"), b"not read here");
    }
    folder.write("annotations/instances_train.json", bytes);
    list(folder.path());
}

/// Bytes as a table of images.
pub fn parquet(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("train-00000.parquet", bytes);
    list(folder.path());
}

/// Lists a folder as ingest does and fetches what it lists.
fn list(folder: &Path) {
    let Ok(source) = open_source(folder, &Options::default()) else { return };
    let spool = Scratch::new(&[]);
    let spool = spool.path().join("spool");
    let _ = source.listing_digest();
    let Ok(listing) = source.list(&spool) else { return };
    let fetcher = Fetcher::new(&spool).expect("the listing made the spool");
    for entry in &listing.entries {
        assert!((entry.split as usize) < listing.splits.len(), "{entry:?}");
        let _ = fetcher.fetch(entry, 1 << 20);
    }
}

/// Bytes as a stage's manifest.
pub fn manifest(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("manifest.json", bytes);
    let _ = read_manifest(folder.path());
}

/// Bytes as a checkpoint whose digest is right.
pub fn safetensors(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("final.safetensors", bytes);
    let sidecar = format!(r#"{{"step": 3, "digest": "{}"}}"#, digest_of_bytes(bytes).0);
    folder.write("final.json", sidecar.as_bytes());
    if let Ok(checkpoint) = Checkpoint::load(folder.path(), "final") {
        for (name, tensor) in &checkpoint.tensors {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "{name}");
        }
    }
}

/// Bytes as a network's weights, of whatever format they begin like.
pub fn weights(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("weights.pth", bytes);
    folder.write("config.json", br#"{"num_attention_heads": 2}"#);
    if let Ok(weights) = foreign::read(&folder.path().join("weights.pth")) {
        for (name, tensor) in &weights.tensors {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "{name}");
        }
        let smaller = ModelConfig { image_px: weights.model.patch_px, ..weights.model.clone() };
        foreign::fit(&weights, &smaller).expect("a network of its own shape");
    }
}

/// Bytes as a matrix of vectors.
pub fn npy(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("vectors.npy", bytes);
    if let Ok(npy) = Npy::open(&folder.path().join("vectors.npy")) {
        let values = npy.read(0, usize::MAX).expect("its length was checked");
        assert_eq!(values.len() as u64, npy.rows() * npy.dim() as u64);
    }
}

/// Bytes as a truth table.
pub fn truth_csv(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("truth.csv", bytes);
    if let Ok(truth) = Truth::read(&folder.path().join("truth.csv")) {
        let _ = truth.score_groups(&["a.jpg", "b.jpg", "c, d.jpg"], &[Some(0), Some(0), None]);
    }
}

/// Bytes as another tool's pairs.
pub fn pairs_csv(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("pairs.csv", bytes);
    folder.write("truth.csv", b"path,copy_of,kind\nb.jpg,a.jpg,crop\n\"c, d.jpg\",a.jpg,flip\n");
    let _ = score_csv(&folder.path().join("pairs.csv"), &folder.path().join("truth.csv"));
}

/// Bytes as a configuration.
pub fn config_toml(bytes: &[u8]) {
    let folder = Scratch::new(&[]);
    folder.write("c.toml", bytes);
    let _ = cli::resolve(Some("demo"), Some(&folder.path().join("c.toml")), &[]);
}

/// A folder that is gone afterwards, in memory where the system has such.
struct Scratch(TempDir);

impl Scratch {
    fn new(folders: &[&str]) -> Self {
        let memory = PathBuf::from("/dev/shm");
        let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let scratch = Self(TempDir::with_prefix_in("lapidary-fuzz-", root).expect("a folder"));
        folders.iter().for_each(|folder| fs::create_dir(scratch.path().join(folder)).expect("creates"));
        scratch
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).expect("writes");
    }
}
