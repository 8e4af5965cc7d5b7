//! What bytes are, by how they begin: the formats that are read, and the names of those that are not.

use super::Undecodable;
use image::ImageFormat;
use lapidary_schemas::RejectReason;

/// Formats that are not read, by the bytes that they have at an offset.
const NOT_READ: &[(usize, &[u8], &str)] = &[
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"8BPS", "PSD"),
    (0, b"gimp xcf", "XCF"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"\x00\x00\x02\x00", "CUR"),
    (0, b"icns", "ICNS"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (40, b" EMF", "EMF"),
    (128, b"DICM", "DICOM"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (0, b"IIRO", "camera raw (ORF)"),
    (0, b"IIRS", "camera raw (ORF)"),
    (0, b"IIU\0", "camera raw (RW2)"),
    (8, b"CR\x02", "camera raw (CR2)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM video"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"PAR1", "Parquet"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
];

/// What a file of the ISO base media format is, by its brands.
const BRANDS: &[(&[u8], &str)] = &[
    (b"avif", "AVIF"),
    (b"avis", "AVIF"),
    (b"heic", "HEIC"),
    (b"heix", "HEIC"),
    (b"heim", "HEIC"),
    (b"heis", "HEIC"),
    (b"hevc", "HEIC"),
    (b"hevx", "HEIC"),
    (b"mif1", "HEIF"),
    (b"msf1", "HEIF"),
    (b"crx ", "camera raw (CR3)"),
    (b"qt  ", "QuickTime video"),
];

/// The format of bytes that are read, other than JPEG, and its name.
///
/// # Errors
/// `unsupported`, with the format's name where it has one.
pub(super) fn format_of(bytes: &[u8]) -> Result<(ImageFormat, &'static str), Undecodable> {
    let begins = |start: &[u8]| bytes.starts_with(start);
    if let Some(name) = not_read(bytes) {
        return Err((RejectReason::Unsupported, format!("{name} is not read")));
    }
    Ok(if begins(b"\x89PNG\r\n\x1a\n") {
        (ImageFormat::Png, "png")
    } else if begins(b"GIF87a") || begins(b"GIF89a") {
        (ImageFormat::Gif, "gif")
    } else if begins(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        (ImageFormat::WebP, "webp")
    } else if begins(b"BM") {
        (ImageFormat::Bmp, "bmp")
    } else if [&b"II*\0"[..], b"MM\0*", b"II+\0", b"MM\0+"].into_iter().any(begins) {
        (ImageFormat::Tiff, "tiff")
    } else {
        return Err((RejectReason::Unsupported, format!("begins with {:02x?}", &bytes[..bytes.len().min(8)])));
    })
}

/// The name of a format that is not read.
fn not_read(bytes: &[u8]) -> Option<&'static str> {
    let has = |(offset, magic, _): &&(usize, &[u8], &str)| bytes.get(*offset..).is_some_and(|b| b.starts_with(magic));
    if let Some((_, _, name)) = NOT_READ.iter().find(has) {
        return Some(name);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        let box_bytes = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        // The major brand, a version, then the brands that it is compatible with.
        let brands: Vec<&[u8]> = bytes[8..bytes.len().min(box_bytes.clamp(8, 256))].chunks_exact(4).collect();
        let named = BRANDS.iter().find(|(brand, _)| brands.contains(brand));
        return Some(named.map_or("MP4 video", |(_, name)| name));
    }
    text_format(&bytes[..bytes.len().min(1024)])
}

/// The name of a format that is text.
fn text_format(start: &[u8]) -> Option<&'static str> {
    if let [b'P', kind @ (b'1'..=b'7' | b'F' | b'f'), b' ' | b'\n' | b'\r' | b'\t', ..] = start {
        return Some(if kind.is_ascii_digit() { "PNM" } else { "PFM" });
    }
    let start = String::from_utf8_lossy(start).to_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with("<svg") || start.starts_with("<?xml") && start.contains("<svg") {
        Some("SVG")
    } else if start.starts_with("<!doctype html") || start.starts_with("<html") {
        Some("HTML")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_called_by_its_name() {
        for (start, name) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0"[..], "HEIC"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIC"),
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
            (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "MP4 video"),
            (b"\0\0\0\x02ftyp", "MP4 video"),
            (b"\0\0\0\x0cJXL \r\n\x87\n\0\0", "JPEG XL"),
            (b"\xff\x0a\x12\x34", "JPEG XL"),
            (b"\0\0\0\x0cjP  \r\n\x87\n\0", "JPEG 2000"),
            (b"\xef\xbb\xbf <?xml version='1.0'?>\n<!-- x -->\n<SVG xmlns='y'>", "SVG"),
            (b"<svg width='3'>", "SVG"),
            (b"<!DOCTYPE HTML><title>404</title>", "HTML"),
            (b"8BPS\0\x01", "PSD"),
            (b"P6\n3 3 255\n", "PNM"),
            (b"II*\0\x10\0\0\0CR\x02\0", "camera raw (CR2)"),
        ] {
            let (reason, detail) = format_of(start).expect_err(name);
            assert_eq!((reason, detail), (RejectReason::Unsupported, format!("{name} is not read")));
        }
        let (_, detail) = format_of(b"hello, world").expect_err("text");
        assert!(detail.starts_with("begins with [68, 65"), "{detail}");
        assert_eq!(format_of(b"II+\0\x08\0\0\0").map(|(_, name)| name), Ok("tiff"));
    }
}
