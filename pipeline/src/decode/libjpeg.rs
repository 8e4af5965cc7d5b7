//! libjpeg-turbo through its C interface. The crate's own decoder refuses whatever the library warns of; people's files
//! are full of that, and Pillow and browsers show them.

use std::ffi::{CStr, c_int};
use turbojpeg::{PixelFormat, ScalingFactor, raw};

/// Progressive scans that are read; more are an attack.
const MAX_SCANS: c_int = 500;

/// How the messages of libjpeg's warnings begin (jerror.h, JWRN_*). A failure after a warning has the warning's code, but
/// its own message.
const WARNINGS: &[&str] = &[
    "Unknown Adobe color transform code",
    "Inconsistent progression sequence for component",
    "Corrupt JPEG data:",
    "Warning: unknown JFIF revision number",
    "Premature end of JPEG file",
    "Invalid SOS parameters for sequential JPEG",
    "Application transferred too many scanlines",
];

/// A JPEG whose header has been read.
pub(super) struct Jpeg<'a> {
    handle: Handle,
    bytes: &'a [u8],
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) colours: Colours,
    pub(super) bits: c_int,
    pub(super) is_lossless: bool,
}

/// What its components stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Gray,
    Rgb,
    /// CMYK or YCCK.
    Inks,
    Other,
}

struct Handle(raw::tjhandle);

impl Drop for Handle {
    #[expect(unsafe_code, reason = "a handle of the C library")]
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { raw::tj3Destroy(self.0) };
    }
}

impl Handle {
    /// What a call's return value means: a warning is no failure.
    #[expect(unsafe_code, reason = "the message lies in the C library")]
    fn judge(&self, returned: c_int) -> Result<(), String> {
        if returned == 0 {
            return Ok(());
        }
        // SAFETY: the handle is valid, and the message is a C string that is copied at once.
        let message = unsafe { CStr::from_ptr(raw::tj3GetErrorStr(self.0)) }.to_string_lossy().into_owned();
        // SAFETY: the handle is valid.
        let warned = unsafe { raw::tj3GetErrorCode(self.0) } == raw::TJERR_TJERR_WARNING as c_int;
        if warned && WARNINGS.iter().any(|start| message.starts_with(start)) { Ok(()) } else { Err(message) }
    }

    #[expect(unsafe_code, reason = "a parameter lies in the C library")]
    fn get(&self, parameter: raw::TJPARAM) -> c_int {
        // SAFETY: the handle is valid.
        unsafe { raw::tj3Get(self.0, parameter as c_int) }
    }

    #[expect(unsafe_code, reason = "a parameter lies in the C library")]
    fn set(&self, parameter: raw::TJPARAM, value: c_int) -> Result<(), String> {
        // SAFETY: the handle is valid.
        self.judge(unsafe { raw::tj3Set(self.0, parameter as c_int, value) })
    }
}

impl<'a> Jpeg<'a> {
    /// Reads a JPEG's header.
    #[expect(unsafe_code, reason = "the C library reads the bytes")]
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        // One handle an image: what a decompressor keeps from the image before can change the next one's pixels.
        // SAFETY: makes a handle, or null when memory is short.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as c_int) };
        if handle.is_null() {
            return Err("libjpeg-turbo has no memory".to_owned());
        }
        let handle = Handle(handle);
        handle.set(raw::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS)?;
        // Profiles are read elsewhere.
        handle.set(raw::TJPARAM_TJPARAM_SAVEMARKERS, 0)?;
        // SAFETY: the library reads at most the length that is given.
        handle.judge(unsafe { raw::tj3DecompressHeader(handle.0, bytes.as_ptr(), bytes.len() as _) })?;
        let side = |parameter| usize::try_from(handle.get(parameter)).unwrap_or(0);
        let colours = match u32::try_from(handle.get(raw::TJPARAM_TJPARAM_COLORSPACE)) {
            Ok(raw::TJCS_TJCS_GRAY) => Colours::Gray,
            Ok(raw::TJCS_TJCS_RGB | raw::TJCS_TJCS_YCbCr) => Colours::Rgb,
            Ok(raw::TJCS_TJCS_CMYK | raw::TJCS_TJCS_YCCK) => Colours::Inks,
            _ => Colours::Other,
        };
        let (width, height) = (side(raw::TJPARAM_TJPARAM_JPEGWIDTH), side(raw::TJPARAM_TJPARAM_JPEGHEIGHT));
        let bits = handle.get(raw::TJPARAM_TJPARAM_PRECISION);
        let is_lossless = handle.get(raw::TJPARAM_TJPARAM_LOSSLESS) != 0;
        Ok(Self { handle, bytes, width, height, colours, bits, is_lossless })
    }

    /// The scale that the image will have when this one is asked for: a lossless JPEG has no other than 1.
    pub(super) fn possible(&self, scale: ScalingFactor) -> ScalingFactor {
        if self.is_lossless { ScalingFactor::ONE } else { scale }
    }

    /// Decodes at a scale that is [`possible`](Self::possible), into `pixels` of this format, row after row.
    ///
    /// At full scale pixels are Pillow's to the bit: both use the accurate transform and smooth upsampling of chroma.
    #[expect(unsafe_code, reason = "the C library reads the bytes and writes the pixels")]
    pub(super) fn decompress(
        &mut self,
        scale: ScalingFactor,
        format: PixelFormat,
        pixels: &mut [u8],
    ) -> Result<(), String> {
        let (width, height) = (scale.scale(self.width), scale.scale(self.height));
        let pitch = width * format.size();
        if pixels.len() < pitch * height || self.possible(scale) != scale {
            return Err(format!("{} bytes do not hold {width} x {height} pixels", pixels.len()));
        }
        let pitch = c_int::try_from(pitch).map_err(|e| e.to_string())?;
        let factor = raw::tjscalingfactor { num: scale.num() as c_int, denom: scale.denom() as c_int };
        // SAFETY: the handle is valid.
        self.handle.judge(unsafe { raw::tj3SetScalingFactor(self.handle.0, factor) })?;
        // SAFETY: these are the bytes whose header gave width and height; there is room for as many pixels at this scale,
        // checked above.
        let returned = unsafe {
            let (bytes, len) = (self.bytes.as_ptr(), self.bytes.len() as _);
            raw::tj3Decompress8(self.handle.0, bytes, len, pixels.as_mut_ptr(), pitch, format as c_int)
        };
        self.handle.judge(returned)
    }
}
