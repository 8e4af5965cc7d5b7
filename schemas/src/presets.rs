//! The presets and augmentation recipes that are compiled in, by name.

/// Name and TOML text of every preset of a whole chain.
pub const PRESETS: &[(&str, &str)] = &[
    ("demo", include_str!("../presets/demo.toml")),
    ("cifar-vitti4", include_str!("../presets/cifar-vitti4.toml")),
    ("coco-vits16", include_str!("../presets/coco-vits16.toml")),
    ("dinov2-vits14", include_str!("../presets/dinov2-vits14.toml")),
    ("dinov2-vits14-518", include_str!("../presets/dinov2-vits14-518.toml")),
    ("paper", include_str!("../presets/paper.toml")),
    ("small-data", include_str!("../presets/small-data.toml")),
    ("sscd", include_str!("../presets/sscd.toml")),
    ("tiny-imagenet-vitti8", include_str!("../presets/tiny-imagenet-vitti8.toml")),
];

/// Name and TOML text of every augmentation recipe: a list of `[[view]]`.
pub const AUGMENT_RECIPES: &[(&str, &str)] = &[
    ("dino-v1", include_str!("../presets/augment/dino-v1.toml")),
    ("barlow-twins", include_str!("../presets/augment/barlow-twins.toml")),
    ("dinotwins", include_str!("../presets/augment/dinotwins.toml")),
    ("dinotwins-shared", include_str!("../presets/augment/dinotwins-shared.toml")),
    ("dinov2-as-released", include_str!("../presets/augment/dinov2-as-released.toml")),
    ("dinov2-as-documented", include_str!("../presets/augment/dinov2-as-documented.toml")),
    ("dinov2-518", include_str!("../presets/augment/dinov2-518.toml")),
    ("cifar-small", include_str!("../presets/augment/cifar-small.toml")),
    ("sscd", include_str!("../presets/augment/sscd.toml")),
    ("tiny-imagenet", include_str!("../presets/augment/tiny-imagenet.toml")),
];

fn find(list: &'static [(&str, &str)], name: &str) -> Option<&'static str> {
    list.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The TOML text of a preset.
pub fn preset(name: &str) -> Option<&'static str> {
    find(PRESETS, name)
}

/// The TOML text of an augmentation recipe.
pub fn augment_recipe(name: &str) -> Option<&'static str> {
    find(AUGMENT_RECIPES, name)
}
