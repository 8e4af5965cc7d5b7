//! Each operator of a Vision Transformer beside burn-flex's own chain of operations, forward and with its backward pass, at the
//! sizes of ViT-S/16 on 8 views of 224 px; and the libraries that matrix products could come from:
//! `cargo bench --workspace --bench vit_operators` (with `--features lapidary-tests/products` beside faer's and OpenBLAS's).
//! Best of several rounds on RAYON_NUM_THREADS threads, in milliseconds.

use burn::tensor::activation::{gelu, log_softmax, softmax};
use burn::tensor::{Distribution, Tensor};
use lapidary_train::backend::Cpu;
use lapidary_train::operators;
use std::time::Instant;

const ROUNDS: usize = 12;

/// The least milliseconds that a call takes.
fn millis(mut call: impl FnMut()) -> f64 {
    call();
    let round = |_| {
        let began = Instant::now();
        call();
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Cpu, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
}

/// Prints what an operator and burn's take.
fn compare<const D: usize, const E: usize>(
    name: &str,
    input: &Tensor<Cpu, D>,
    ours: impl Fn(Tensor<Cpu, D>) -> Tensor<Cpu, E>,
    theirs: impl Fn(Tensor<Cpu, D>) -> Tensor<Cpu, E>,
) {
    let forward = |f: &dyn Fn(Tensor<Cpu, D>) -> Tensor<Cpu, E>| millis(|| drop(f(input.clone())));
    let with_backward = |f: &dyn Fn(Tensor<Cpu, D>) -> Tensor<Cpu, E>| {
        millis(|| drop(f(input.clone().require_grad()).sum().backward()))
    };
    let (a, b) = (forward(&ours), forward(&theirs));
    let (c, d) = (with_backward(&ours), with_backward(&theirs));
    println!("{name:<44} forward {a:7.2} ms ({b:7.2} by burn-flex)   with backward {c:7.2} ms ({d:7.2})");
}

fn plain_attention(qkv: Tensor<Cpu, 3>, heads: usize) -> Tensor<Cpu, 3> {
    let [batch, tokens, all] = qkv.dims();
    let dim = all / 3;
    let part = |index: usize| {
        let part = qkv.clone().slice([0..batch, 0..tokens, index * dim..(index + 1) * dim]);
        part.reshape([batch, tokens, heads, dim / heads]).swap_dims(1, 2)
    };
    let queries = part(0) * ((dim / heads) as f64).powf(-0.5);
    let weights = softmax(queries.matmul(part(1).swap_dims(2, 3)), 3);
    weights.matmul(part(2)).swap_dims(1, 2).reshape([batch, tokens, dim])
}

fn plain_layer_norm(x: Tensor<Cpu, 3>, scale: Tensor<Cpu, 1>, shift: Tensor<Cpu, 1>) -> Tensor<Cpu, 3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    centred / (variance + 1e-6).sqrt() * scale.unsqueeze() + shift.unsqueeze()
}

fn all_operators() {
    let (scale, shift) = (random([384]).require_grad(), random([384]).require_grad());
    compare("GELU of 1576 x 1536", &random([1576, 1536]), operators::gelu, gelu);
    compare(
        "LayerNorm of 8 x 197 x 384",
        &random([8, 197, 384]),
        |x| operators::layer_norm(x, scale.clone(), shift.clone(), 1e-6),
        |x| plain_layer_norm(x, scale.clone(), shift.clone()),
    );
    for (batch, tokens) in [(8, 197), (24, 37)] {
        let qkv = random([batch, tokens, 3 * 384]);
        let name = format!("attention of {batch} x {tokens}, 6 heads of 64");
        compare(&name, &qkv, |x| operators::attention(x, 6), |x| plain_attention(x, 6));
    }
    for (inputs, outputs) in [(384, 1152), (384, 384), (384, 1536), (1536, 384)] {
        let (weight, bias) = (random([inputs, outputs]).require_grad(), random([outputs]).require_grad());
        compare(
            &format!("linear of 8 x 197 x {inputs} to {outputs}"),
            &random([8, 197, inputs]),
            |x| operators::linear(x, weight.clone(), Some(bias.clone())),
            |x| x.matmul(weight.clone().unsqueeze()) + bias.clone().unsqueeze(),
        );
    }
    let targets = softmax(random([4, 16_384]), 1);
    compare(
        "cross-entropy of 24 x 16384",
        &random([24, 16_384]),
        |x| operators::soft_cross_entropy(x, targets.clone(), 0.1),
        |x| {
            let log_shares = log_softmax(x / 0.1, 1).reshape([6, 4, 16_384]);
            (log_shares * targets.clone().unsqueeze()).sum_dim(2).neg().reshape([24])
        },
    );
}

/// Products of `[rows, inner]` and `[inner, columns]`: forward, by the weight, by the input, heads' thin ones.
const PRODUCTS: [(&str, usize, usize, usize); 7] = [
    ("tokens to a hidden layer", 1576, 384, 1536),
    ("and back", 1576, 1536, 384),
    ("a weight's gradient", 384, 1576, 1536),
    ("scores of a head", 197, 64, 197),
    ("values of a head", 197, 197, 64),
    ("a projector, 8 rows", 8, 8192, 8192),
    ("its weight's gradient", 8192, 8, 8192),
];

fn products() {
    for (name, rows, inner, columns) in PRODUCTS {
        let work = 2.0 * (rows * inner * columns) as f64;
        let rate = |millis: f64| format!("{:6.1}", work / millis / 1e6);
        let (a, b) = (vec![0.5f32; rows * inner], vec![0.25f32; inner * columns]);
        let mut c = vec![0f32; rows * columns];
        print!("{name:<26} {rows:>5} x {inner:>4} x {columns:>5}, Gflop/s: gemm");
        #[allow(unsafe_code, reason = "gemm takes pointers; the matrices have these sizes")]
        let of_gemm = millis(|| unsafe {
            gemm::gemm(
                rows,
                columns,
                inner,
                c.as_mut_ptr(),
                1,
                columns as isize,
                false,
                a.as_ptr(),
                1,
                inner as isize,
                b.as_ptr(),
                1,
                columns as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        });
        print!(" {}", rate(of_gemm));
        #[cfg(feature = "products")]
        others::print(&a, &b, &mut c, [rows, inner, columns], rate);
        println!();
    }
}

/// faer, and OpenBLAS as Debian has it.
#[cfg(feature = "products")]
mod others {
    use super::millis;

    type Sgemm =
        unsafe extern "C" fn(i32, i32, i32, i32, i32, i32, f32, *const f32, i32, *const f32, i32, f32, *mut f32, i32);

    pub(super) fn print(a: &[f32], b: &[f32], c: &mut [f32], sizes: [usize; 3], rate: impl Fn(f64) -> String) {
        let [rows, inner, columns] = sizes;
        let of_faer = millis(|| {
            let a = faer::MatRef::from_row_major_slice(a, rows, inner);
            let b = faer::MatRef::from_row_major_slice(b, inner, columns);
            let c = faer::MatMut::from_row_major_slice_mut(c, rows, columns);
            faer::linalg::matmul::matmul(c, faer::Accum::Replace, a, b, 1.0, faer::Par::rayon(0));
        });
        print!("   faer {}", rate(of_faer));
        #[allow(unsafe_code, reason = "a C library; the matrices have these sizes")]
        unsafe {
            let Ok(library) = libloading::Library::new("libopenblas.so.0") else { return };
            let threads: libloading::Symbol<'_, unsafe extern "C" fn(i32)> =
                library.get(b"openblas_set_num_threads").expect("OpenBLAS has it");
            threads(rayon::current_num_threads() as i32);
            let sgemm: libloading::Symbol<'_, Sgemm> = library.get(b"cblas_sgemm").expect("OpenBLAS has it");
            let int = |value: usize| value as i32;
            let of_openblas = millis(|| {
                let (m, n, k) = (int(rows), int(columns), int(inner));
                sgemm(101, 111, 111, m, n, k, 1.0, a.as_ptr(), k, b.as_ptr(), n, 0.0, c.as_mut_ptr(), n);
            });
            print!("   OpenBLAS {}", rate(of_openblas));
        }
    }
}

fn main() {
    lapidary_pipeline::keep_pages();
    all_operators();
    products();
}
