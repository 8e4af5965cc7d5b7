//! Names: paths as text that is given back as the same bytes, and what a source may be called.
//!
//! A path in a source is text with `/` between its parts. A byte that is not UTF-8 is written `%XX`, and so is a `%` that two
//! hexadecimal digits follow; everything else, backslashes and line ends included, stays as it is. So different files never
//! have the same path, and [`path_of_text`] finds the file again.

use crate::remote::{is_url, name_of_url};
use crate::{PipelineError, Result};
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What the empty name is written as: an escape that no other name needs.
const EMPTY_PART: &str = "%20";
/// Names that files of ours have under `OUT`.
const RESERVED: &[&str] = &["current.json"];
/// Bytes of a name, so that a suffix still fits into a file system's 255.
const NAME_BYTES_MAX: usize = 200;

/// A path as text; see the module.
pub fn text_of_path(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        for (at, c) in valid.char_indices() {
            let escapes = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
            if c == '%' && escapes(&valid.as_bytes()[at + 1..]) {
                text.push_str("%25");
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "%{byte:02X}").expect("a string takes all that is written");
        }
    }
    text
}

/// The path that [`text_of_path`] wrote.
pub fn path_of_text(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                path.push((16 * high + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                path.push(byte);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

/// A class's or split's name as one part of a path: it neither climbs nor hides, and [`name_of_part`] gives it back.
pub fn part_of_name(name: &str) -> String {
    let escaped = text_of_path(Path::new(name));
    let mut part = String::with_capacity(escaped.len());
    for (at, c) in escaped.char_indices() {
        match c {
            '/' | '\\' | '\0' => write!(part, "%{:02X}", c as u32).expect("a string takes all that is written"),
            '.' if at == 0 => part.push_str("%2E"),
            _ => part.push(c),
        }
    }
    if part.is_empty() { EMPTY_PART.to_owned() } else { part }
}

/// The name that [`part_of_name`] wrote.
pub fn name_of_part(part: &str) -> String {
    if part == EMPTY_PART { String::new() } else { path_of_text(part).to_string_lossy().into_owned() }
}

/// `folder/name` without `.`, `..` and empty parts; none when it is absolute or leads out of the source.
pub(super) fn normal_form(folder: &str, name: &str) -> Option<String> {
    let drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
    if name.starts_with('/') || drive {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A source's name by default: its folder's, letters of every script kept; white space, control characters and what a shell
/// or a path takes for its own become `-`, and it does not begin with `-` or `.`.
pub fn default_name(root: &Path) -> String {
    let url = root.to_str().filter(|text| is_url(text)).map(|url| PathBuf::from(name_of_url(url)));
    let absolute = url.unwrap_or_else(|| root.canonicalize().unwrap_or_else(|_| root.to_owned()));
    let folder = absolute.file_name().map(|name| text_of_path(Path::new(name))).unwrap_or_default();
    let dangerous = |c: char| c.is_control() || c.is_whitespace() || "/\\:*?\"'`<>|&;$!(){}[]#~".contains(c);
    let name: String = folder.chars().map(|c| if dangerous(c) { '-' } else { c }).collect();
    let mut name = name.trim_start_matches(['-', '.']).to_owned();
    if name.len() > NAME_BYTES_MAX {
        // Two long names stay two.
        let digest = blake3::hash(name.as_bytes()).to_hex();
        let end = (0..=NAME_BYTES_MAX - 9).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name = format!("{}-{}", &name[..end], &digest[..8]);
    }
    if RESERVED.contains(&name.as_str()) {
        name = name.replace('.', "-");
    }
    if name.is_empty() || name.chars().all(|c| c == '.' || c == '-') { "images".to_owned() } else { name }
}

/// Refuses a name, of a source, plan or run, that a folder under `OUT` cannot or should not have.
///
/// # Errors
/// [`PipelineError::Usage`], saying what is wrong with it.
pub fn check_name(name: &str) -> Result<()> {
    let wrong = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 200 bytes"
    } else if name.contains('/') {
        "holds a `/`"
    } else if name.contains('~') {
        "holds a `~`, which sets apart what is kept of other settings"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else if name.chars().all(|c| c == '.') {
        "is all dots"
    } else if name.starts_with(['-', '.']) {
        "begins with `-` or `.`"
    } else if RESERVED.contains(&name) {
        "is that of a file of Lapidary's own"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    Err(PipelineError::Usage(format!("the name `{shown}` {wrong}\nhint: letters, digits, `-`, `_` and `.` always do")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    proptest! {
        #[test]
        fn paths_come_back_as_the_same_bytes(bytes in proptest::collection::vec(prop_oneof![
            Just(b'%'), Just(b'2'), Just(b'5'), Just(b'E'), Just(b'\\'), Just(b'/'), Just(0xc3), Just(0xa9), any::<u8>(),
        ], 0..24)) {
            let path = Path::new(OsStr::from_bytes(&bytes));
            let back = path_of_text(&text_of_path(path));
            prop_assert_eq!(back.as_os_str().as_bytes(), &bytes[..]);
        }

        #[test]
        fn names_are_one_part_and_come_back(name in "[a./\\\\%2F\u{e9}]{0,8}") {
            let part = part_of_name(&name);
            let parts: Vec<_> = Path::new(&part).components().collect();
            prop_assert!(matches!(parts[..], [std::path::Component::Normal(_)]) && !part.starts_with('.'), "{}", part);
            prop_assert_eq!(name_of_part(&part), name);
        }

        #[test]
        fn any_folder_has_a_name_that_is_allowed(name in "\\PC{1,80}|[-. ]{1,4}") {
            let name = default_name(&Path::new("/no/such").join(name.replace('/', "_")));
            prop_assert!(check_name(&name).is_ok(), "{}", name);
        }
    }

    #[test]
    fn usual_paths_stay_as_they_are() {
        for path in ["a/b.jpg", "50%.png", "a\\b.png", "été/写真.png", "two\nlines.png"] {
            assert_eq!(text_of_path(Path::new(path)), path);
        }
        assert_eq!(text_of_path(Path::new("100%25.png")), "100%2525.png");
        let latin = [b"latin-\xe9.png", b"latin-\xe8.png"].map(|name| text_of_path(Path::new(OsStr::from_bytes(name))));
        assert_eq!(latin, ["latin-%E9.png", "latin-%E8.png"]);
    }

    #[test]
    fn folders_of_any_script_give_names_of_their_own() {
        let folders =
            ["写真", "動画", "été", "...", "with space", "current.json", "--", "ab", "e\u{301}", "หมา", "كلب"];
        let names: std::collections::BTreeSet<String> =
            folders.iter().map(|f| default_name(&Path::new("/no/such").join(f))).collect();
        assert_eq!(names.len(), folders.len() - 1, "`...` and `--` have none: {names:?}");
        assert!(names.contains("写真") && names.contains("with-space") && !names.contains("current.json"));
        assert_eq!(default_name(Path::new("/")), "images");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in
            ["", "..", ".", "...", "a/b", "/etc", "-rf", ".hidden", "two\nlines", "current.json", &"x".repeat(300)]
        {
            assert!(matches!(check_name(bad), Err(PipelineError::Usage(_))), "{bad:?}");
        }
        for good in ["a", "写真", "a..b", "with space", "v1.2_b-c"] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
    }
}
