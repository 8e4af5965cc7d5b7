//! The teacher: an exponential moving average of the student, parameter by parameter.

use crate::model::{Seen, map_named, named_tensors};
use crate::operators::{Operators, moving_average};
use burn::module::Module;

/// The teacher after a step: `momentum * teacher + (1 - momentum) * student`, for every parameter the teacher has.
pub fn ema_update<B: Operators, M: Module<B>>(teacher: M, student: &M, momentum: f64) -> M {
    let student = named_tensors(student);
    map_named(teacher, |(name, _, old): Seen<'_, B>| match student.get(name) {
        Some(new) => moving_average(old, new.clone(), momentum),
        None => old,
    })
}
