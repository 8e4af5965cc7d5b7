//! A look at a step: the tensors that its losses gave, on the host, measured.

use super::{Rows, Seen, measure};
use crate::objective::outputs;
use crate::operators::Operators;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use std::collections::BTreeMap;

/// Measures what a step's losses gave, by the names of [`outputs`].
pub(crate) fn look<B: Operators>(
    given: &BTreeMap<&'static str, Tensor<B, 2>>,
    batch: usize,
    student_temperature: f64,
    loss_dino: Option<f64>,
) -> BTreeMap<&'static str, f64> {
    let rows_of = |name: &str| given.get(name).cloned().map(on_host);
    let teacher = rows_of(outputs::TEACHER);
    // Of the student's views the global ones alone are compared: the rest stays on the device.
    let globals = given.get(outputs::TEACHER).map_or(0, |teacher| teacher.dims()[0]);
    let student = given.get(outputs::STUDENT).filter(|student| globals > 0 && student.dims()[0] >= globals);
    let student = student.map(|student| {
        let width = student.dims()[1];
        on_host(log_softmax(student.clone().slice([0..globals, 0..width]) / student_temperature, 1))
    });
    measure(&Seen {
        batch,
        teacher,
        student,
        center: rows_of(outputs::CENTER),
        features: rows_of(outputs::FEATURES),
        embeddings: rows_of(outputs::EMBEDDINGS),
        loss_dino,
    })
}

fn on_host<B: Operators>(rows: Tensor<B, 2>) -> Rows {
    let width = rows.dims()[1];
    Rows::new(width, rows.into_data().convert::<f32>().to_vec().expect("converted to f32 just before"))
}
