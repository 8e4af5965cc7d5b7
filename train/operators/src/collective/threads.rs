//! Ranks that are threads of this process, on processors, on GPUs of any kind, or several on one device: what they bring is added
//! in the order of the ranks, so that the same ranks give the same bits.
//!
//! Processors add tensors as they are. What lies on a GPU goes by way of the host, read and written by its own rank's thread: no two
//! threads hold one tensor, of which CubeCL 0.10 could write over one's in place while the other's is yet to be read.

use super::meeting::Meeting;
use super::{Collective, Ranks};
use crate::{Float, Operators};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, TensorData, TensorMetadata};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A rank that is a thread.
#[derive(Debug)]
struct Threads<B: Backend> {
    rank: usize,
    device: B::Device,
    meeting: Arc<Meeting<Brought<B>>>,
}

/// What ranks bring to a round, each the same kind.
#[derive(Debug, Clone)]
enum Brought<B: Backend> {
    Tensor(Float<B>),
    Values(Arc<Vec<f32>>),
    Names(BTreeSet<String>),
}

/// The ends of ranks on these devices.
pub(crate) fn threads<B: Operators>(devices: &[B::Device]) -> Vec<Ranks<B>> {
    let meeting = Arc::new(Meeting::new(devices.len()));
    let end = |(rank, device): (usize, &B::Device)| {
        Arc::new(Threads::<B> { rank, device: device.clone(), meeting: Arc::clone(&meeting) }) as Ranks<B>
    };
    devices.iter().enumerate().map(end).collect()
}

/// Of what two ranks brought, one after the other in the order of the ranks.
fn joined<B: Backend>(sum: Brought<B>, next: Brought<B>) -> Brought<B> {
    match (sum, next) {
        (Brought::Tensor(sum), Brought::Tensor(share)) => {
            assert_eq!(sum.shape(), share.shape(), "all ranks bring the same shape");
            Brought::Tensor(B::float_add(sum, share))
        }
        (Brought::Values(sum), Brought::Values(share)) => {
            assert_eq!(sum.len(), share.len(), "all ranks bring the same shape");
            let mut sum = Arc::unwrap_or_clone(sum);
            sum.iter_mut().zip(share.iter()).for_each(|(sum, value)| *sum += value);
            Brought::Values(Arc::new(sum))
        }
        (Brought::Names(mut names), Brought::Names(more)) => {
            names.extend(more);
            Brought::Names(names)
        }
        _ => unreachable!("all ranks are at the same operation"),
    }
}

impl<B: Operators> Threads<B> {
    fn exchange(&self, own: Brought<B>) -> Brought<B> {
        self.meeting.exchange(self.rank, own, |all| {
            all.into_iter().reduce(joined).unwrap_or_else(|| unreachable!("there are ranks"))
        })
    }

    /// The sum of tensors on GPUs.
    fn sum_by_the_host(&self, share: Float<B>) -> Float<B> {
        let (shape, dtype) = (share.shape(), share.dtype());
        // burn has no error here: a device that cannot be read is lost, which whoever runs a program on it catches.
        let own = burn::tensor::read_sync(B::float_into_data(share)).expect("the device can be read");
        let own = own.convert_dtype(DType::F32).to_vec::<f32>().expect("converted to f32");
        let Brought::Values(sum) = self.exchange(Brought::Values(Arc::new(own))) else {
            unreachable!("of values come values")
        };
        let sum = TensorData::new(Arc::unwrap_or_clone(sum), shape).convert_dtype(dtype);
        B::float_from_data(sum, &self.device)
    }
}

impl<B: Operators> Collective<B> for Threads<B> {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.meeting.ranks()
    }

    fn sum(&self, share: Float<B>) -> Float<B> {
        if !B::ON_HOST {
            return self.sum_by_the_host(share);
        }
        match self.exchange(Brought::Tensor(share)) {
            Brought::Tensor(sum) => sum,
            _ => unreachable!("of tensors comes a tensor"),
        }
    }

    fn union(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        match self.exchange(Brought::Names(names)) {
            Brought::Names(names) => names,
            _ => unreachable!("of names come names"),
        }
    }

    fn abandon(&self, why: &str) {
        self.meeting.abandon(why);
    }
}
