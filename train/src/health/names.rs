//! The names in `metrics.jsonl` that tell a run's health, each with what it is. Here and nowhere else; the rest of a step's
//! metrics (`loss_*`, schedules, times) are written by the trainer.

/// Entropy of the teacher's distributions, mean over images, nats.
pub const TEACHER_ENTROPY: &str = "teacher_entropy";
/// The same over ln K.
pub const TEACHER_ENTROPY_SHARE: &str = "teacher_entropy_share";
/// KL(teacher || student of the same image's other global view), nats.
pub const KL_TEACHER_STUDENT: &str = "kl_teacher_student";
/// DINO's loss over ln K.
pub const LOSS_OVER_LN_K: &str = "loss_over_ln_k";
/// Share of prototypes that are the teacher's first choice of an image.
pub const PROTOTYPES_IN_USE: &str = "prototypes_in_use";
/// exp of the entropy of the teacher's mean distribution.
pub const PROTOTYPES_PERPLEXITY: &str = "prototypes_perplexity";
/// Share of images whose first prototype is the same to teacher and student.
pub const AGREEMENT: &str = "teacher_student_agreement";
/// Norm of the teacher's centre.
pub const CENTER_NORM: &str = "center_norm";
/// Standard deviation of L2-normalised features, times the square root of their width.
pub const FEATURE_STD: &str = "feature_std";
/// Effective rank of the features.
pub const RANKME: &str = "rankme";
/// Effective rank of what tells images from their views.
pub const LIDAR: &str = "lidar";
/// Effective rank of the embeddings, their mean taken off.
pub const EMBEDDING_RANK: &str = "embedding_rank";
/// Mean of the diagonal of the cross-correlation.
pub const BARLOW_DIAGONAL_MEAN: &str = "barlow_diagonal_mean";
/// RMS of the rest of it.
pub const BARLOW_OFF_DIAGONAL_RMS: &str = "barlow_off_diagonal_rms";
/// Most memory that the process has held so far, MiB.
pub const PEAK_MEMORY_MIB: &str = "peak_memory_mib";
/// Top-1 of the teacher, else of the student, by k-NN on `pretrain.watch`.
pub const KNN_TOP1: &str = "knn_top1";

/// Every metric of a run's health, what it is and what is healthy. Those of `pretrain.health_steps` stand in the lines of the
/// steps that were looked at, the others as said.
pub const METRICS: &[(&str, &str)] = &[
    (TEACHER_ENTROPY, "entropy of the teacher's distributions, nats, every step: between 0 and ln K"),
    (TEACHER_ENTROPY_SHARE, "the same over ln K: near 1 when it is uniform, near 0 when it is of one prototype"),
    (
        KL_TEACHER_STUDENT,
        "KL(teacher || student) of an image's other global view, nats: 0 when there is nothing to learn",
    ),
    (LOSS_OVER_LN_K, "DINO's loss over ln K: 1 is what a uniform student has"),
    (PROTOTYPES_IN_USE, "prototypes that are the teacher's first choice of a view over K: at most views over K"),
    (
        PROTOTYPES_PERPLEXITY,
        "exp of the entropy of the teacher's mean distribution: 1 when all is one prototype, at most K",
    ),
    (AGREEMENT, "share of views whose first prototype is the same to the teacher and to the student: rises"),
    (CENTER_NORM, "L2 norm of the teacher's centre, every step"),
    (FEATURE_STD, "std of L2-normalised class features x sqrt(width): 1 healthy, 0 collapsed to a point"),
    (RANKME, "RankMe of class features (Garrido et al. 2023): between 1 and min(rows, width)"),
    (LIDAR, "LiDAR of class features, images as classes (Thilak et al. 2024): between 1 and min(images, width)"),
    (EMBEDDING_RANK, "exp of the entropy of the singular values of Barlow Twins' centred embeddings"),
    (BARLOW_DIAGONAL_MEAN, "mean diagonal of Barlow Twins' cross-correlation: 1 when views agree"),
    (BARLOW_OFF_DIAGONAL_RMS, "RMS of the rest of it: 1 / sqrt(batch) by chance, 1 when all dimensions are one"),
    (PEAK_MEMORY_MIB, "peak resident memory of the process, MiB"),
    (KNN_TOP1, "top-1 of the teacher by k-NN (eval.knn_neighbours) on `pretrain.watch`, every `pretrain.watch_epochs`"),
];
