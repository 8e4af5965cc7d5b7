//! What a path says of splits and classes.
//!
//! A split's name may stand in any part of a path, whatever its case. The words are those of `datasets` and those that our own
//! exports write.

/// Words that name a split by themselves.
const WORDS: &[&str] = &[
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "dev",
    "test",
    "testing",
    "eval",
    "evaluation",
    "unlabeled",
    "unlabelled",
];
/// Folders that hold images of whatever class.
const PLAIN_FOLDERS: &[&str] = &["images", "image", "imgs", "img", "data", "jpegimages", "pictures", "photos", "raw"];

/// The split that a folder's name is: a split's word, with a year or number at most (`val2017`), or `all`.
pub(super) fn split_of_folder(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let word = lower.trim_end_matches(|c: char| c.is_ascii_digit());
    (lower == "all" || WORDS.contains(&word)).then_some(lower)
}

/// The split's word that stands in a name between others: `mnist-train-00000`, `cifar_test`.
fn split_within(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    words.find_map(|word| {
        let bare = word.trim_matches(|c: char| c.is_ascii_digit());
        WORDS.contains(&bare).then(|| bare.to_owned())
    })
}

/// The split of a Parquet file: a folder with a split's name, the innermost first; a word in the file's name; a word in a
/// folder's; else what stands before `-00000-of-00001`, else `all`.
pub(super) fn split_of_table(path: &str) -> String {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let folders = || folders.split('/').rev().filter(|part| *part != "all");
    let whole = folders().find_map(split_of_folder);
    let found = whole.or_else(|| split_within(stem)).or_else(|| folders().find_map(split_within));
    found.or_else(|| sharded(stem)).unwrap_or_else(|| "all".to_owned())
}

/// `NAME` of `NAME-00000-of-00001`, as `datasets` names shards of any split.
fn sharded(stem: &str) -> Option<String> {
    let (before, count) = stem.rsplit_once("-of-")?;
    let (name, index) = before.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(index) && digits(count.get(..5)?) && !name.is_empty()).then(|| name.to_owned())
}

/// Whether a folder's name says nothing of what its images show.
pub(super) fn is_plain_folder(name: &str) -> bool {
    PLAIN_FOLDERS.contains(&name.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_stands_in_any_part_of_a_path() {
        for (path, split) in [
            ("data/train-00000-of-00001.parquet", "train"),
            ("default/test/0000.parquet", "test"),
            ("Train/data.parquet", "train"),
            ("test.parquet", "test"),
            ("data/test-00000-of-00001-ef56.parquet", "test"),
            ("mnist-train-00000-of-00001.parquet", "train"),
            ("cifar_test.parquet", "test"),
            ("test_data/train/0.parquet", "train"),
            ("partial-train/0000.parquet", "train"),
            ("unlabeled-00000-of-00002.parquet", "unlabeled"),
            ("night-00000-of-00002.parquet", "night"),
            ("0000.parquet", "all"),
            ("latest.parquet", "all"),
            ("contest/strain.parquet", "all"),
        ] {
            assert_eq!(split_of_table(path), split, "{path}");
        }
        assert_eq!(split_of_folder("val2017").as_deref(), Some("val2017"));
        assert_eq!(split_of_folder("TEST").as_deref(), Some("test"));
        assert_eq!(split_of_folder("trainers"), None);
    }
}
