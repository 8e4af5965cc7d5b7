//! The loader: turns steps of a plan into batches ahead of the trainer, on threads of its own.
//!
//! An image is decoded once for all its views. Batches come in order through a bounded channel, so that at most
//! `prefetch + 2` of them are in memory: each is 12 bytes a pixel of a view.

use crate::decode::decode;
use crate::images::ImageStore;
use crate::pixels::{normalise_into, render};
use crate::plan::{PlanReader, View};
use crate::{PipelineError, Result};
use crossbeam_channel::{Receiver, bounded};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::ViewKind;
use rayon::prelude::*;
use std::thread::JoinHandle;

/// Views of one kind and size.
#[derive(Debug, Clone)]
pub struct ViewGroup {
    /// Which loss reads them.
    pub kind: ViewKind,
    /// Their side.
    pub size_px: usize,
    /// Views an image.
    pub views: usize,
    /// Normalised pixels, shape `[views, batch, 3, size_px, size_px]`.
    pub pixels: Vec<f32>,
}

/// A step's input.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The step, from 0.
    pub step: usize,
    /// The images, in order.
    pub ids: Vec<ImageId>,
    /// Their views by kind and size, in the order of the plan.
    pub groups: Vec<ViewGroup>,
}

/// A loader at work.
#[derive(Debug)]
pub struct Loader {
    batches: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts loading the views of these kinds, for steps `first..end` of a plan.
    ///
    /// # Errors
    /// When threads cannot be made.
    pub fn start(
        store: ImageStore,
        mut plan: PlanReader,
        kinds: Vec<ViewKind>,
        steps: std::ops::Range<usize>,
        prefetch: usize,
        threads: usize,
    ) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("loader-{i}"))
            .build()
            .map_err(|e| PipelineError::Internal(e.to_string()))?;
        let (send, batches) = bounded(prefetch.max(1));
        let load_all = move || {
            for step in steps {
                let batch = plan.step(step).and_then(|views| pool.install(|| load(&store, step, views, &kinds)));
                let failed = batch.is_err();
                if send.send(batch).is_err() || failed {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(load_all)
            .map_err(|e| PipelineError::Internal(e.to_string()))?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// The next batch; none after the last step.
    ///
    /// # Errors
    /// When an image of the plan cannot be loaded.
    pub fn next_batch(&mut self) -> Result<Option<Batch>> {
        self.batches.as_ref().and_then(|batches| batches.recv().ok()).transpose()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing the channel ends the thread at its next batch.
        drop(self.batches.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the loader panicked");
        }
    }
}

/// Loads the batch of those views of a step that are of these kinds; views come image by image.
///
/// # Errors
/// When an image is gone or its views do not fit it.
pub fn load(store: &ImageStore, step: usize, views: &[View], kinds: &[ViewKind]) -> Result<Batch> {
    let views: Vec<View> = views.iter().filter(|view| kinds.contains(&view.kind)).copied().collect();
    if views.is_empty() {
        return Err(PipelineError::Usage("the plan has no views that the objective reads".to_owned()));
    }
    let images: Vec<&[View]> = views.chunk_by(|a, b| a.position == b.position).collect();
    let ids: Vec<ImageId> = images.iter().map(|views| views[0].image_id).collect();
    let bytes = store.fetch(&ids)?;
    let rendered: Vec<Vec<Vec<f32>>> = images
        .par_iter()
        .zip(&bytes)
        .with_max_len(1)
        .map(|(views, bytes)| {
            let decoded = decode(bytes, u64::MAX).map_err(|(reason, detail)| {
                PipelineError::Usage(format!("image {}: {} ({detail}); ingest again", views[0].image_id, reason.text()))
            })?;
            views.iter().map(|view| render_pixels(&decoded.rgb, view)).collect()
        })
        .collect::<Result<_>>()?;
    let mut groups: Vec<ViewGroup> = Vec::new();
    for (slot, view) in images[0].iter().enumerate() {
        let size_px = usize::from(view.size_px);
        let group = match groups.iter_mut().position(|g| g.kind == view.kind && g.size_px == size_px) {
            Some(index) => &mut groups[index],
            None => {
                groups.push(ViewGroup { kind: view.kind, size_px, views: 0, pixels: Vec::new() });
                groups.last_mut().expect("pushed above")
            }
        };
        group.views += 1;
        for views in &rendered {
            group.pixels.extend_from_slice(&views[slot]);
        }
    }
    Ok(Batch { step, ids, groups })
}

fn render_pixels(image: &image::RgbImage, view: &View) -> Result<Vec<f32>> {
    let rgb = render(image, view)?;
    let mut pixels = vec![0f32; rgb.as_raw().len()];
    normalise_into(&rgb, &mut pixels);
    Ok(pixels)
}
