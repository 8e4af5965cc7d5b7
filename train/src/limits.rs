//! What `pretrain` may be asked for: every key's range, and whether the plan has the views that the objective reads. All of
//! it is looked at before the first tensor is made and before anything is written.

use crate::{Result, probe};
use lapidary_pipeline::Ranges;
use lapidary_schemas::Config;
use lapidary_schemas::config::{
    ModelConfig, NAMED_MODELS, ObjectiveConfig, ObjectiveKind, Positions, PretrainConfig, ViewKind,
};
use std::collections::BTreeSet;

/// Values of a layer across at most, and of what has one a pixel.
const WIDTH_MAX: usize = 65_536;
const PROTOTYPES_MAX: usize = 1 << 24;
const DEPTH_MAX: usize = 1000;
const MLP_RATIO_MAX: usize = 64;
const BATCH_MAX: usize = 1 << 20;
/// Batches that are kept at most until their steps are read.
const METRICS_STEPS_MAX: usize = 1000;
const THREADS_MAX: usize = 1024;

/// A plan, as far as its configuration must fit it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned<'a> {
    pub(crate) name: &'a str,
    pub(crate) images: usize,
    pub(crate) epochs: usize,
}

/// Checks a configuration, whose views are those of the plan.
///
/// # Errors
/// [`lapidary_pipeline::PipelineError::Usage`] with each key that cannot be, and what it may be.
pub(crate) fn check(config: &Config, planned: Planned<'_>) -> Result<()> {
    let mut ranges = Ranges::default();
    model(&config.model, &mut ranges);
    objective(&config.objective, &mut ranges);
    pretrain(&config.pretrain, &mut ranges);
    if !config.pretrain.watch.is_empty() {
        probe::check(&config.eval, &mut ranges);
    }
    // What follows divides by some of these.
    ranges.check()?;
    together(config, planned, &mut ranges);
    views(config, planned.name, &mut ranges);
    Ok(ranges.check()?)
}

fn model(config: &ModelConfig, ranges: &mut Ranges) {
    let named = NAMED_MODELS.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    if config.dim * config.depth * config.heads == 0 && !named.contains(&config.name.as_str()) {
        let (name, known) = (&config.name, named.join(", "));
        ranges
            .refuse(format!("model.name = `{name}` is not known: {known}, or model.dim, model.depth and model.heads"));
        return;
    }
    ranges.within("model.drop_path", config.drop_path, 0.0..=0.99);
    ranges.at_least("model.layer_scale", config.layer_scale, 0.0);
    ranges.within("model.registers", config.registers, 0..=WIDTH_MAX);
    ranges.within("model.rope_rescale", config.rope_rescale, 1.0..=100.0);
    ranges.positive("model.norm_epsilon", config.norm_epsilon);
    ranges.within("model.image_px", config.image_px, 1..=usize::from(u16::MAX));
    ranges.within("model.patch_px", config.patch_px, 1..=usize::from(u16::MAX));
    ranges.within("model.dim", config.dim, 1..=WIDTH_MAX);
    ranges.within("model.depth", config.depth, 1..=DEPTH_MAX);
    ranges.within("model.heads", config.heads, 1..=config.dim.max(1));
    ranges.within("model.mlp_ratio", config.mlp_ratio, 1..=MLP_RATIO_MAX);
}

fn objective(config: &ObjectiveConfig, ranges: &mut Ranges) {
    if config.kind == ObjectiveKind::Dino {
        ranges.positive("objective.dino_weight", config.dino_weight);
    } else {
        ranges.at_least("objective.dino_weight", config.dino_weight, 0.0);
    }
    ranges.at_least("objective.barlow_scale", config.barlow_scale, 0.0);
    ranges.positive("objective.barlow_gradient_ratio", config.barlow_gradient_ratio);
    ranges.at_least("objective.barlow_off_diagonal", config.barlow_off_diagonal, 0.0);
    // Of one dimension there is no redundancy, and over one prototype every distribution is the same.
    ranges.within("objective.barlow_dim", config.barlow_dim, 2..=WIDTH_MAX);
    ranges.within("objective.prototypes", config.prototypes, 2..=PROTOTYPES_MAX);
    ranges.within("objective.head_hidden", config.head_hidden, 1..=WIDTH_MAX);
    ranges.within("objective.head_bottleneck", config.head_bottleneck, 1..=WIDTH_MAX);
    ranges.positive("objective.student_temperature", config.student_temperature);
    ranges.positive("objective.teacher_temperature", config.teacher_temperature);
    ranges.positive("objective.teacher_temperature_start", config.teacher_temperature_start);
    ranges.within("objective.center_momentum", config.center_momentum, 0.0..=1.0);
    ranges.at_least("objective.koleo_weight", config.koleo_weight, 0.0);
    ranges.at_least("objective.ibot_weight", config.ibot_weight, 0.0);
    ranges.within("objective.mask_share", config.mask_share, 0.0..=1.0);
    let [least, greatest] = config.mask_ratio;
    for ratio in config.mask_ratio {
        ranges.within("objective.mask_ratio", ratio, 0.0..=1.0);
    }
    if least > greatest {
        ranges.refuse(format!("objective.mask_ratio = [{least}, {greatest}]: the first is the least share"));
    }
    ranges.positive("objective.simclr_temperature", config.simclr_temperature);
    ranges.within("objective.simclr_dim", config.simclr_dim, 1..=WIDTH_MAX);
    ranges.positive("objective.sscd_temperature", config.sscd_temperature);
    ranges.at_least("objective.sscd_entropy_weight", config.sscd_entropy_weight, 0.0);
    ranges.within("objective.sscd_dim", config.sscd_dim, 1..=WIDTH_MAX);
    for weight in config.vicreg_weights {
        ranges.at_least("objective.vicreg_weights", weight, 0.0);
    }
    distillation(config, ranges);
    ranges.at_least("objective.gram_weight", config.gram_weight, 0.0);
    if config.ibot_weight > 0.0 && !config.kind.has_prototypes() {
        let kind = config.kind.name();
        ranges.refuse(format!(
            "objective.ibot_weight needs DINO's teacher and head, which objective.kind = {kind} lacks"
        ));
    }
}

fn distillation(config: &ObjectiveConfig, ranges: &mut Ranges) {
    ranges.within("objective.distill_dim", config.distill_dim, 0..=WIDTH_MAX);
    ranges.positive("objective.distill_temperature", config.distill_temperature);
    ranges.at_least("objective.distill_patch_weight", config.distill_patch_weight, 0.0);
    match (config.kind, config.distill_from.as_str()) {
        (ObjectiveKind::Distillation, "") => ranges.refuse(
            "objective.kind = distillation needs a teacher in objective.distill_from\n\
             hint: a file or folder of weights, or the name of a finished run of the source"
                .to_owned(),
        ),
        (ObjectiveKind::Distillation, _) | (_, "") => {}
        (kind, from) => ranges.refuse(format!(
            "objective.distill_from = `{from}` is not read with objective.kind = {}\n\
             hint: --set objective.kind=distillation",
            kind.name()
        )),
    }
}

fn pretrain(config: &PretrainConfig, ranges: &mut Ranges) {
    ranges.within("pretrain.batch", config.batch, 1..=BATCH_MAX);
    ranges.within("pretrain.pieces", config.pieces, 1..=THREADS_MAX);
    ranges.within("pretrain.accumulate", config.accumulate, 1..=BATCH_MAX);
    ranges.count_at_least("pretrain.keep_last", config.keep_last, 1);
    ranges.at_least("pretrain.base_learning_rate", config.base_learning_rate, 0.0);
    ranges.at_least("pretrain.final_learning_rate", config.final_learning_rate, 0.0);
    ranges.at_least("pretrain.weight_decay", config.weight_decay, 0.0);
    ranges.at_least("pretrain.final_weight_decay", config.final_weight_decay, 0.0);
    ranges.at_least("pretrain.warmup_epochs", config.warmup_epochs, 0.0);
    ranges.at_least("pretrain.freeze_last_layer_epochs", config.freeze_last_layer_epochs, 0.0);
    ranges.within("pretrain.layer_decay", config.layer_decay, f64::MIN_POSITIVE..=1.0);
    ranges.positive("pretrain.patch_embed_rate", config.patch_embed_rate);
    ranges.positive("pretrain.lars_trust", config.lars_trust);
    ranges.at_least("pretrain.lars_bias_rate", config.lars_bias_rate, 0.0);
    ranges.within("pretrain.momentum", config.momentum, 0.0..=1.0);
    ranges.at_least("pretrain.clip_norm", config.clip_norm, 0.0);
    ranges.within("pretrain.metrics_steps", config.metrics_steps, 0..=METRICS_STEPS_MAX);
    ranges.count_at_least("pretrain.checkpoint_steps", config.checkpoint_steps, 1);
    ranges.within("pretrain.prefetch_batches", config.prefetch_batches, 0..=THREADS_MAX);
    ranges.within("pretrain.loader_threads", config.loader_threads, 0..=THREADS_MAX);
}

/// What two keys, or a key and the plan, must agree in.
fn together(config: &Config, planned: Planned<'_>, ranges: &mut Ranges) {
    let Config { model, objective, pretrain, .. } = config;
    if !model.dim.is_multiple_of(model.heads) {
        ranges.refuse(format!("model.dim = {} is no multiple of model.heads = {}", model.dim, model.heads));
    }
    if model.positions == Positions::Rope && !(model.dim / model.heads).is_multiple_of(4) {
        let width = model.dim / model.heads;
        ranges.refuse(format!(
            "model.positions = rope needs heads of a multiple of 4; model.dim / model.heads = {width}"
        ));
    }
    let sides: BTreeSet<usize> =
        config.plan.views.iter().map(|view| usize::from(view.size_px)).chain([model.image_px]).collect();
    for side in sides {
        if side == 0 || !side.is_multiple_of(model.patch_px) {
            let patch = model.patch_px;
            ranges.refuse(format!(
                "a view of {side} px is no multiple of model.patch_px = {patch} (plan.view, model.image_px)"
            ));
        }
    }
    if pretrain.batch == 1 && objective.kind.compares_two_views() {
        ranges.refuse(format!(
            "pretrain.batch = 1: objective.kind = {} compares the images of a batch, and needs at least 2",
            objective.kind.name()
        ));
    } else if pretrain.batch == 1 && objective.koleo_weight > 0.0 {
        ranges.refuse("pretrain.batch = 1: objective.koleo_weight needs another image as a neighbour".to_owned());
    }
    if planned.images < pretrain.batch {
        let Planned { name, images, .. } = planned;
        ranges.refuse(format!("plan `{name}` has {images} images, fewer than pretrain.batch = {}", pretrain.batch));
        return;
    }
    if objective.kind == ObjectiveKind::Distillation && objective.distill_queue >= planned.images {
        let (queue, Planned { name, images, .. }) = (objective.distill_queue, planned);
        ranges.refuse(format!(
            "objective.distill_queue = {queue} must be smaller than plan `{name}`, which has {images} images: an image would \
             be compared with itself\nhint: at most half of the images; 0 chooses by their number"
        ));
    }
    let steps = planned.images / pretrain.batch * planned.epochs;
    let trained = if pretrain.steps > 0 { pretrain.steps } else { steps };
    if objective.gram_weight > 0.0 && objective.gram_from_step >= trained {
        let from = objective.gram_from_step;
        ranges.refuse(format!("objective.gram_from_step = {from}, but the run ends after {trained} steps"));
    }
    if pretrain.steps > steps {
        let asked = pretrain.steps;
        ranges
            .refuse(format!("pretrain.steps = {asked}, but the plan holds {steps}\nhint: plan more with plan.epochs"));
    }
    if steps == 0 {
        ranges.refuse(format!("plan `{}` holds no step\nhint: plan more with plan.epochs", planned.name));
    }
}

/// Whether the plan has the views that the objective reads, none of which may be lost.
fn views(config: &Config, plan: &str, ranges: &mut Ranges) {
    let count = |kind: ViewKind| -> usize {
        config.plan.views.iter().filter(|view| view.kind == kind).map(|view| usize::from(view.count)).sum()
    };
    let (globals, locals, barlows) = (count(ViewKind::Global), count(ViewKind::Local), count(ViewKind::Barlow));
    let kind = config.objective.kind;
    let name = kind.name();
    let mut lacks = |what: String| {
        ranges.refuse(format!(
            "objective.kind = {name} {what} (plan `{plan}`: {globals} global, {locals} local, {barlows} barlow)\n\
             hint: plan again with another plan.recipe or plan.view, or choose another objective.kind"
        ));
    };
    if kind.has_prototypes() {
        if globals == 0 {
            lacks("needs global views for its teacher".to_owned());
        } else if globals + locals < 2 {
            lacks("compares a teacher's view with another of the student, and needs at least two".to_owned());
        }
    }
    if kind.compares_two_views() {
        // SSCD reads patches, which only global views give.
        let own = if barlows > 0 && kind != ObjectiveKind::Sscd { ViewKind::Barlow } else { ViewKind::Global };
        let (found, what) = if own == ViewKind::Barlow { (barlows, "barlow views") } else { (globals, "global views") };
        // A third global view is not lost where DINO reads it too.
        let spare = own == ViewKind::Global && kind == ObjectiveKind::Hybrid;
        if found < 2 || (found > 2 && !spare) {
            lacks(format!("compares two {what}, and needs exactly two"));
        }
    }
    if kind == ObjectiveKind::Distillation && globals == 0 {
        lacks("needs global views, which student and teacher both see".to_owned());
    }
    let added = [("koleo", config.objective.koleo_weight), ("gram", config.objective.gram_weight)];
    for (part, _) in added.into_iter().filter(|(_, weight)| *weight > 0.0 && globals == 0) {
        lacks(format!("with objective.{part}_weight needs global views"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::cli::resolve;
    use lapidary_schemas::config::ViewSpec;

    const PLANNED: Planned<'_> = Planned { name: "p", images: 100, epochs: 10 };

    /// The default configuration with some keys changed, as a user changes them.
    fn configured(changes: &[&str]) -> Config {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        let config = resolve(None, None, &changes).expect("resolves");
        Config { model: config.model.resolved(), ..config }
    }

    fn refusal(changes: &[&str]) -> String {
        let error = check(&configured(changes), PLANNED).expect_err("it cannot be");
        let failure = lapidary_pipeline::cli::Failure::from(error);
        assert_eq!(failure.exit_code, 2);
        failure.error.to_string()
    }

    #[test]
    fn the_default_and_every_preset_can_be() {
        check(&configured(&[]), PLANNED).expect("the default");
        for (name, _) in lapidary_schemas::PRESETS {
            let config = resolve(Some(name), None, &[]).expect("resolves");
            check(
                &Config { model: config.model.resolved(), ..config },
                Planned { images: 10_000, epochs: 10, ..PLANNED },
            )
            .expect(name);
        }
    }

    #[test]
    fn every_key_is_refused_by_its_name_when_it_is_out_of_range() {
        for change in [
            "model.image_px=0",
            "model.patch_px=0",
            "model.dim=1000000000000",
            "model.mlp_ratio=0",
            "model.name=vit-x",
            "model.drop_path=1.0",
            "model.layer_scale=-1.0",
            "model.rope_rescale=0.5",
            "model.norm_epsilon=0.0",
            "pretrain.accumulate=0",
            "pretrain.keep_last=0",
            "objective.barlow_gradient_ratio=0.0",
            "objective.dino_weight=-0.1",
            "objective.dino_weight=nan",
            "objective.barlow_scale=-1.0",
            "objective.barlow_off_diagonal=-1.0",
            "objective.barlow_dim=0",
            "objective.prototypes=1",
            "objective.head_hidden=0",
            "objective.head_bottleneck=0",
            "objective.student_temperature=0.0",
            "objective.teacher_temperature=-0.04",
            "objective.teacher_temperature_start=0.0",
            "objective.center_momentum=1.1",
            "objective.koleo_weight=-0.1",
            "objective.ibot_weight=nan",
            "objective.mask_share=1.5",
            "objective.mask_ratio=[-0.1,0.5]",
            "objective.mask_ratio=[0.5,0.1]",
            "objective.simclr_temperature=0.0",
            "objective.simclr_dim=0",
            "objective.sscd_temperature=0.0",
            "objective.sscd_entropy_weight=-1.0",
            "objective.sscd_dim=0",
            "objective.vicreg_weights=[25.0,-25.0,1.0]",
            "objective.distill_temperature=0.0",
            "objective.distill_patch_weight=-1.0",
            "objective.distill_dim=100000",
            "objective.distill_from=teacher.pth",
            "objective.gram_weight=-2.0",
            "objective.gram_weight=nan",
            "pretrain.batch=0",
            "pretrain.pieces=0",
            "pretrain.base_learning_rate=inf",
            "pretrain.final_learning_rate=-1.0",
            "pretrain.weight_decay=-1.0",
            "pretrain.final_weight_decay=nan",
            "pretrain.warmup_epochs=-1.0",
            "pretrain.freeze_last_layer_epochs=nan",
            "pretrain.layer_decay=0.0",
            "pretrain.layer_decay=1.1",
            "pretrain.patch_embed_rate=-0.2",
            "pretrain.lars_trust=0.0",
            "pretrain.lars_bias_rate=-1.0",
            "pretrain.momentum=1.5",
            "pretrain.clip_norm=-3.0",
            "pretrain.checkpoint_steps=0",
            "pretrain.loader_threads=100000",
            "pretrain.prefetch_batches=100000",
            "pretrain.steps=11",
            "pretrain.batch=101",
            "pretrain.batch=1",
        ] {
            let (key, _) = change.split_once('=').expect("a change");
            let told = refusal(&[change]);
            assert!(told.contains(key), "{change}: {told}");
        }
        assert!(refusal(&["objective.ibot_weight=1.0", "objective.kind=simclr"]).contains("objective.ibot_weight"));
        for (kind, weight) in [("simclr", "0.0"), ("vicreg", "0.0"), ("dino", "0.1")] {
            let kind = format!("objective.kind={kind}");
            let weight = format!("objective.koleo_weight={weight}");
            assert!(refusal(&[&kind, &weight, "pretrain.batch=1"]).contains("pretrain.batch = 1"), "{kind}");
        }
        let distillation = "objective.kind=distillation";
        assert!(refusal(&[distillation]).contains("objective.distill_from"));
        let queue = refusal(&[distillation, "objective.distill_from=run", "objective.distill_queue=100"]);
        assert!(queue.contains("objective.distill_queue = 100") && queue.contains("100 images"), "{queue}");
        let late = refusal(&["objective.gram_weight=2.0", "objective.gram_from_step=10"]);
        assert!(late.contains("objective.gram_from_step = 10"), "{late}");
        assert!(refusal(&["model.heads=5"]).contains("model.dim = 384 is no multiple of model.heads = 5"));
        assert!(refusal(&["model.positions=rope", "model.dim=36", "model.heads=6"]).contains("a multiple of 4"));
        assert!(refusal(&["model.patch_px=15"]).contains("no multiple of model.patch_px = 15"));
        assert!(refusal(&["objective.kind=dino", "objective.dino_weight=0.0"]).contains("objective.dino_weight"));
    }

    fn with_views(kind: &str, views: &[(ViewKind, u8, u16)]) -> Result<()> {
        let mut config = configured(&[&format!("objective.kind={kind}")]);
        let spec = |(kind, count, size_px): &(ViewKind, u8, u16)| ViewSpec {
            kind: *kind,
            count: *count,
            size_px: *size_px,
            ..ViewSpec::default()
        };
        config.plan.views = views.iter().map(spec).collect();
        check(&config, PLANNED)
    }

    #[test]
    fn a_plan_must_have_the_views_that_the_objective_reads_and_lose_none() {
        use ViewKind::{Barlow, Global, Local};
        for (kind, views) in [
            ("dino", &[(Global, 2, 224), (Local, 6, 96)][..]),
            ("dino", &[(Global, 1, 224), (Local, 1, 96)]),
            ("dino", &[(Global, 2, 224), (Barlow, 2, 96)]),
            ("dino", &[(Global, 2, 224), (Barlow, 1, 96), (Barlow, 1, 48)]),
            ("barlow-twins", &[(Barlow, 2, 224)]),
            ("barlow-twins", &[(Global, 2, 224), (Local, 6, 96)]),
            ("simclr", &[(Global, 2, 224), (Local, 6, 96)]),
            ("vicreg", &[(Barlow, 2, 224)]),
            ("sscd", &[(Global, 2, 224)]),
            ("hybrid", &[(Global, 3, 224), (Local, 6, 96)]),
            ("hybrid", &[(Global, 1, 224), (Local, 1, 96), (Barlow, 2, 224)]),
            // Of two sizes too.
            ("dino", &[(Global, 1, 224), (Global, 1, 96)]),
            ("hybrid", &[(Global, 2, 224), (Local, 3, 96), (Local, 3, 48)]),
            ("barlow-twins", &[(Barlow, 1, 224), (Barlow, 1, 96)]),
        ] {
            with_views(kind, views).unwrap_or_else(|error| panic!("{kind} on {views:?}: {error}"));
        }
        for (kind, views, why) in [
            ("hybrid", &[(Barlow, 2, 224)][..], "needs global views"),
            ("dino", &[(Barlow, 2, 224)], "needs global views"),
            ("dino", &[(Local, 2, 96)], "needs global views"),
            ("dino", &[(Global, 1, 224)], "at least two"),
            ("dino", &[(Global, 1, 224), (Local, 0, 96)], "at least two"),
            ("barlow-twins", &[(Global, 1, 224)], "exactly two"),
            ("barlow-twins", &[(Barlow, 3, 224)], "exactly two"),
            ("barlow-twins", &[(Global, 3, 224)], "exactly two"),
            ("barlow-twins", &[(Local, 2, 96)], "exactly two"),
            ("simclr", &[(Global, 3, 224)], "exactly two"),
            ("sscd", &[(Barlow, 2, 224)], "exactly two"),
            ("vicreg", &[(Local, 2, 96)], "exactly two"),
            ("hybrid", &[(Global, 1, 224), (Local, 6, 96)], "exactly two"),
            ("hybrid", &[(Global, 2, 224), (Barlow, 1, 224)], "exactly two"),
            ("dino", &[(Global, 2, 224), (Local, 6, 98)], "no multiple of model.patch_px"),
        ] {
            let error = with_views(kind, views).expect_err(why).to_string();
            assert!(error.contains(why), "{kind} on {views:?}: {error}");
        }
    }
}
