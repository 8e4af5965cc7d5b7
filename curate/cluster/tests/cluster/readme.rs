//! The commands of README's section "More than one machine" do what it says.

use crate::commands::{binary, digests, text};
use crate::fleet::free_address;
use crate::loopback::ALONE;
use std::path::Path;
use std::process::Command;

/// The shell blocks of the section.
fn blocks() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let section = readme.split("\n## ").find(|part| part.starts_with("More than one machine")).expect("the section");
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("it ends").to_owned()).collect()
}

#[test]
fn the_commands_of_readme_give_the_curation_of_one_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = binary("lapidary").parent().expect("a folder").to_owned();
    let path = format!("{}:{}", text(&target), std::env::var("PATH").unwrap_or_default());
    let blocks = blocks();
    assert_eq!(blocks.len(), 2, "a loop, and a cluster");
    let port = free_address().port().to_string();
    // The data are drawn, in shards so small that there are several; the port is free, and what is built is built.
    let ingest = format!("ingest --data {} --set ingest.shard_mib=1 --set ingest.row_group_mib=1", text(&ALONE.pile()));
    for (number, block) in blocks.iter().enumerate() {
        let here = folder.path().join(number.to_string());
        std::fs::create_dir(&here).expect("creates");
        assert!(block.contains("ingest --data /data/coco"), "{block}");
        let block = block.replace("ingest --data /data/coco", &ingest).replace("50050", &port);
        let block: Vec<&str> = block.lines().filter(|line| !line.starts_with("make cluster")).collect();
        let script = format!("set -e\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n{}", block.join("\n"));
        let output = Command::new("bash").args(["-c", &script]).current_dir(&here).env("PATH", &path).output();
        let output = output.expect("bash runs");
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(digests(&here.join("out"), "pile"), ALONE.digests, "{script}");
    }
}
