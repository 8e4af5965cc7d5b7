//! What `lapidary plan` writes down: epochs, and the distribution of each view's augmentation.

use serde::{Deserialize, Serialize};

/// Epochs and views of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// A published recipe, by its name: one of `schemas/presets/augment`. It gives `views` where that is empty.
    pub recipe: String,
    /// Epochs to plan.
    pub epochs: u32,
    /// Write the rows down; otherwise the trainer draws the same ones as it goes.
    pub store: bool,
    /// The views of an image, in order; empty means the recipe's.
    #[serde(rename = "view")]
    pub views: Vec<ViewSpec>,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self { recipe: "dinotwins".to_owned(), epochs: 100, store: true, views: Vec::new() }
    }
}

/// Which loss reads a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewKind {
    /// Seen by DINO's teacher and student; and by Barlow Twins where no view is its own.
    Global,
    /// Seen by DINO's student alone.
    Local,
    /// Seen by Barlow Twins alone.
    Barlow,
}

impl ViewKind {
    /// The name stored in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Local => "local",
            Self::Barlow => "barlow",
        }
    }

    /// The kind stored as `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Global, Self::Local, Self::Barlow].into_iter().find(|kind| kind.name() == name)
    }
}

/// The filter that a crop is resized with; both are antialiased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Pillow's BICUBIC (a = -0.5).
    Bicubic,
    /// Pillow's BILINEAR.
    Bilinear,
}

impl Interpolation {
    /// The name stored in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bicubic => "bicubic",
            Self::Bilinear => "bilinear",
        }
    }

    /// The one stored as `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Bicubic, Self::Bilinear].into_iter().find(|known| known.name() == name)
    }
}

/// Whose Gaussian blur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlurKind {
    /// Pillow's: three box filters that have the Gaussian's variance.
    Pillow,
    /// torchvision's: the Gaussian itself, cut at 4 pixels (a kernel of 9).
    Torchvision,
}

impl BlurKind {
    /// The name stored in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pillow => "pillow",
            Self::Torchvision => "torchvision",
        }
    }

    /// The one stored as `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pillow, Self::Torchvision].into_iter().find(|known| known.name() == name)
    }
}

/// The distribution that one or more views of each image are drawn from. Probabilities are 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewSpec {
    /// Which loss reads the view.
    pub kind: ViewKind,
    /// How many views are drawn from this distribution.
    pub count: u8,
    /// Side of the square view in pixels.
    pub size_px: u16,
    /// The filter that the crop is resized with.
    pub interpolation: Interpolation,
    /// Least and greatest share of the image's area that the crop covers.
    pub area: [f32; 2],
    /// Least and greatest width / height of the crop, drawn log-uniformly.
    pub aspect: [f32; 2],
    /// Probability of a horizontal flip.
    pub flip_p: f32,
    /// Probability of colour jitter.
    pub jitter_p: f32,
    /// Greatest relative change of brightness: the factor lies in 1 - b to 1 + b.
    pub brightness: f32,
    /// Greatest relative change of contrast.
    pub contrast: f32,
    /// Greatest relative change of saturation.
    pub saturation: f32,
    /// Greatest turn of the hue, in turns (0 to 0.5).
    pub hue: f32,
    /// Probability of grayscale.
    pub grayscale_p: f32,
    /// Probability of a Gaussian blur.
    pub blur_p: f32,
    /// Whose blur.
    pub blur: BlurKind,
    /// Least and greatest standard deviation of the blur in pixels.
    pub blur_radius_px: [f32; 2],
    /// Probability of solarisation (values from 128 up are inverted).
    pub solarize_p: f32,
}

impl Default for ViewSpec {
    fn default() -> Self {
        Self {
            kind: ViewKind::Global,
            count: 1,
            size_px: 224,
            interpolation: Interpolation::Bicubic,
            area: [0.4, 1.0],
            aspect: [3.0 / 4.0, 4.0 / 3.0],
            flip_p: 0.5,
            jitter_p: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.2,
            hue: 0.1,
            grayscale_p: 0.2,
            blur_p: 0.0,
            blur: BlurKind::Pillow,
            blur_radius_px: [0.1, 2.0],
            solarize_p: 0.0,
        }
    }
}
