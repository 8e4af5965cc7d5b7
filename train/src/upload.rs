//! Batches on their way to a GPU. A piece's views are uploaded once for all networks that see them, as bytes where they are levels,
//! from pinned memory where the driver has it, and finished there (see `train/src/augment.rs`); in a run by a thread of its own,
//! while the step before is computed. On the CPU nothing is uploaded: pieces read a batch where it is.

use crate::augment::finish;
use crate::operators::{Operators, Stream, packed_bytes, unpack_bytes};
use crate::pieces::ranges;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use lapidary_pipeline::loader::{Batch, Loader, Pixels, ViewGroup};
use lapidary_pipeline::plan::View;
use lapidary_schemas::config::ViewKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// A batch as a trainer takes it: in memory, and on the devices as far as it was uploaded.
#[derive(Debug, Clone)]
pub struct Loaded<B: Backend> {
    batch: Arc<Batch>,
    pieces: Vec<OnDevice<B>>,
}

/// The views of some images of a batch on a device.
#[derive(Debug, Clone)]
struct OnDevice<B: Backend> {
    images: Range<usize>,
    device: B::Device,
    /// By the group's place in the batch's list; none where it is not read. Shape `[views * images, 3, size_px, size_px]`.
    groups: Vec<Option<Tensor<B, 4>>>,
}

impl<B: Backend> From<Batch> for Loaded<B> {
    fn from(batch: Batch) -> Self {
        Self { batch: Arc::new(batch), pieces: Vec::new() }
    }
}

impl<B: Operators> Loaded<B> {
    /// The batch in memory.
    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The same batch with nothing on a device.
    pub(crate) fn in_memory(&self) -> Self {
        Self { batch: Arc::clone(&self.batch), pieces: Vec::new() }
    }

    /// The views of some images of a group, shape `[views * images, 3, size_px, size_px]`.
    pub(crate) fn views(&self, place: usize, images: &Range<usize>, device: &B::Device) -> Tensor<B, 4> {
        let uploaded = self.pieces.iter().find(|piece| piece.images == *images && piece.device == *device);
        let uploaded = uploaded.and_then(|piece| piece.groups.get(place)?.clone());
        uploaded.unwrap_or_else(|| views_of(&self.batch.groups[place], images, device))
    }
}

/// What uploads batches.
#[derive(Debug, Clone)]
pub(crate) struct Uploader<B: Backend> {
    /// Parts of a rank's share, one after another.
    pub(crate) parts: usize,
    /// Pieces of a part, side by side.
    pub(crate) pieces: usize,
    /// The ranks' devices.
    pub(crate) devices: Vec<B::Device>,
    /// Views that are read.
    pub(crate) kinds: Vec<ViewKind>,
}

impl<B: Operators> Uploader<B> {
    /// How a rank's share of a batch of so many images is cut: parts that go one after another, of pieces that go side by side.
    /// Every rank has as many parts.
    pub(crate) fn cut(&self, images: usize, rank: usize) -> Vec<Vec<Range<usize>>> {
        let share = ranges(images, self.devices.len()).swap_remove(rank);
        let within = |range: &Range<usize>, count: usize| -> Vec<Range<usize>> {
            let ranges = ranges(range.len(), count).into_iter();
            ranges.map(|part| range.start + part.start..range.start + part.end).collect()
        };
        let parts = within(&share, self.parts.min(images / self.devices.len()));
        parts.iter().map(|part| within(part, self.pieces)).collect()
    }

    /// Uploads some ranks' shares of a batch, unless it is uploaded or devices read the memory that it lies in.
    pub(crate) fn upload(&self, batch: impl Into<Loaded<B>>, ranks: Range<usize>) -> Loaded<B> {
        let mut batch = batch.into();
        if B::ON_HOST || !batch.pieces.is_empty() {
            return batch;
        }
        let on_device = |(rank, images): (usize, Range<usize>)| {
            let device = &self.devices[rank];
            let of_group =
                |group: &ViewGroup| self.kinds.contains(&group.kind).then(|| views_of(group, &images, device));
            let groups = batch.batch.groups.iter().map(of_group).collect();
            OnDevice { images, device: device.clone(), groups }
        };
        let images = batch.batch.ids.len();
        let of_rank = |rank: usize| self.cut(images, rank).into_iter().flatten().map(move |piece| (rank, piece));
        batch.pieces = ranks.flat_map(of_rank).map(on_device).collect();
        batch
    }
}

/// The batches of a run, in order.
pub(crate) enum Batches<B: Backend> {
    /// As the loader makes them.
    InMemory(Loader),
    /// Uploaded by a thread, one ahead.
    Uploaded {
        /// None when it is closed.
        batches: Option<Receiver<lapidary_pipeline::Result<Loaded<B>>>>,
        /// None when it was waited for.
        thread: Option<JoinHandle<()>>,
    },
}

impl<B: Operators> Batches<B> {
    /// Those of a loader.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(crate) fn start(mut loader: Loader, uploader: Uploader<B>) -> lapidary_pipeline::Result<Self> {
        if B::ON_HOST {
            return Ok(Self::InMemory(loader));
        }
        let (send, batches) = sync_channel(1);
        let ranks = uploader.devices.len();
        let upload_all = move || {
            while let Some(batch) = loader.next_batch().transpose() {
                let batch = batch.map(|batch| uploader.upload(batch, 0..ranks));
                let failed = batch.is_err();
                if send.send(batch).is_err() || failed {
                    break;
                }
            }
        };
        // On the stream of the steps that read it: see `Stream`.
        let stream = Stream::current();
        let thread = std::thread::Builder::new()
            .name("upload".to_owned())
            .spawn(move || stream.executes(upload_all))
            .map_err(|e| lapidary_pipeline::PipelineError::Internal(e.to_string()))?;
        Ok(Self::Uploaded { batches: Some(batches), thread: Some(thread) })
    }

    /// The next batch; none after the last step.
    ///
    /// # Errors
    /// When an image of the plan cannot be loaded.
    ///
    /// # Panics
    /// With the device's own words when it is lost while a batch is uploaded: whoever runs a program on a GPU catches them.
    pub(crate) fn next(&mut self) -> lapidary_pipeline::Result<Option<Loaded<B>>> {
        match self {
            Self::InMemory(loader) => Ok(loader.next_batch()?.map(Loaded::from)),
            Self::Uploaded { batches, thread } => {
                let next = batches.as_ref().and_then(|batches| batches.recv().ok()).transpose();
                if let (Ok(None), Some(thread)) = (&next, thread.take()) {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                }
                next
            }
        }
    }
}

impl<B: Backend> Drop for Batches<B> {
    fn drop(&mut self) {
        if let Self::Uploaded { batches, thread } = self {
            // Closing the channel ends the thread at its next batch.
            drop(batches.take());
            if thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("uploading panicked");
            }
        }
    }
}

/// The views of some images of a group, shape `[views * images, 3, size_px, size_px]`.
pub(crate) fn views_of<B: Operators>(group: &ViewGroup, images: &Range<usize>, device: &B::Device) -> Tensor<B, 4> {
    let plane = 3 * group.size_px * group.size_px;
    let shape = [group.views * images.len(), 3, group.size_px, group.size_px];
    match &group.pixels {
        Pixels::Rendered(values) => {
            let values = of_images(values, group.views, plane, images).collect();
            Tensor::from_data(pinned::<B>(TensorData::new::<f32, _>(values, shape), device), device)
        }
        Pixels::Cropped(levels, rows) => {
            let levels = of_images(levels, group.views, plane, images);
            let rows: Vec<View> = of_images(rows, group.views, 1, images).collect();
            let levels = if B::ON_HOST {
                Tensor::from_data(TensorData::new::<f32, _>(levels.map(f32::from).collect(), shape), device)
            } else {
                let words = packed_bytes(levels);
                let words = TensorData::new(words, [shape.iter().product::<usize>().div_ceil(4)]);
                let words = Tensor::<B, 1, Int>::from_data(pinned::<B>(words, device), device);
                unpack_bytes(words).narrow(0, 0, shape.iter().product()).reshape(shape)
            };
            finish(levels, &rows)
        }
    }
}

/// Data in memory that the device's driver reads without a copy, where it has such.
fn pinned<B: Operators>(mut data: TensorData, device: &B::Device) -> TensorData {
    B::staging(std::iter::once(&mut data), device);
    data
}

/// What belongs to some images, of values of shape `[views, batch, width]`.
fn of_images<'a, T: Copy>(
    values: &'a [T],
    views: usize,
    width: usize,
    images: &Range<usize>,
) -> impl Iterator<Item = T> + use<'a, T> {
    let range = images.start * width..images.end * width;
    values.chunks_exact(values.len() / views).flat_map(move |view| &view[range.clone()]).copied()
}
