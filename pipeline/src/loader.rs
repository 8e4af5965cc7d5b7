//! The loader: turns steps of a plan into batches ahead of the trainer, on threads of its own.
//!
//! An image is decoded once for all its views. Batches come in order through a bounded channel, so that at most
//! `prefetch + 2` of them are in memory: each is 12 bytes a pixel of a view.

use crate::decode::decode_reduced_into;
use crate::image_store::ImageStore;
use crate::pixels::{Executor, Raster};
use crate::plan::{PlanReader, View};
use crate::{PipelineError, Result};
use crossbeam_channel::{Receiver, bounded};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::ViewKind;
use rayon::prelude::*;
use std::cell::RefCell;
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

/// How a loader works.
#[derive(Debug, Clone, Copy)]
pub struct LoaderOptions {
    /// Batches made ahead.
    pub prefetch: usize,
    /// Threads that decode and augment; 0 means all cores.
    pub threads: usize,
    /// Decode a JPEG at the smallest scale at which no view is enlarged. Faster where crops are large, and not the same
    /// pixels.
    pub scaled_decode: bool,
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
        options: LoaderOptions,
    ) -> Result<Self> {
        let LoaderOptions { prefetch, threads, scaled_decode } = options;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("loader-{i}"))
            .build()
            .map_err(|e| PipelineError::Internal(e.to_string()))?;
        let (send, batches) = bounded(prefetch.max(1));
        let load_all = move || {
            for step in steps {
                let batch = plan
                    .step(step, &store)
                    .and_then(|views| pool.install(|| load(&store, step, views, &kinds, scaled_decode)));
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

/// What a thread renders with, kept from image to image.
#[derive(Default)]
struct Workbench {
    image: Raster,
    executor: Executor,
}

thread_local! {
    static WORKBENCH: RefCell<Workbench> = RefCell::default();
}

/// Loads the batch of those views of a step that are of these kinds; views come image by image, of each the same kinds and
/// sizes in the same order. Pixels are written into the batch where they belong.
///
/// # Errors
/// When an image is gone or its views do not fit it.
pub fn load(store: &ImageStore, step: usize, views: &[View], kinds: &[ViewKind], scaled_decode: bool) -> Result<Batch> {
    let views: Vec<View> = views.iter().filter(|view| kinds.contains(&view.kind)).copied().collect();
    let Some(slots) = views.chunk_by(|a, b| a.position == b.position).next().map(<[View]>::len) else {
        return Err(PipelineError::Usage("the plan has no views that the objective reads".to_owned()));
    };
    let images: Vec<&[View]> = views.chunks(slots).collect();
    let ids: Vec<ImageId> = images.iter().map(|views| views[0].image_id).collect();
    let fetched = store.fetch(&ids)?;
    let (mut groups, group_of_slot) = empty_groups(images[0], images.len());
    // Where each view's pixels belong, image by image.
    let mut places: Vec<Option<&mut [f32]>> = (0..views.len()).map(|_| None).collect();
    for (index, group) in groups.iter_mut().enumerate() {
        let slots_of_group = (0..slots).filter(|slot| group_of_slot[*slot] == index);
        let planes = group.pixels.chunks_exact_mut(3 * group.size_px * group.size_px);
        let targets = slots_of_group.flat_map(|slot| (0..images.len()).map(move |image| image * slots + slot));
        planes.zip(targets).for_each(|(plane, target)| places[target] = Some(plane));
    }
    let work = images.par_iter().enumerate().zip(places.par_chunks_mut(slots)).with_max_len(1);
    work.try_for_each(|((i, views), places)| {
        WORKBENCH.with_borrow_mut(|bench| render_views(bench, fetched.get(i), views, places, scaled_decode))
    })?;
    Ok(Batch { step, ids, groups })
}

/// Decodes an image and renders its views, each into its place.
fn render_views(
    bench: &mut Workbench,
    bytes: &[u8],
    views: &[View],
    places: &mut [Option<&mut [f32]>],
    scaled_decode: bool,
) -> Result<()> {
    let id = views[0].image_id;
    let reduction = if scaled_decode { reduction_for(views) } else { 1 };
    let whole = decode_reduced_into(bytes, u64::MAX, reduction, &mut bench.image).map_err(|(reason, detail)| {
        PipelineError::Usage(format!("image {id}: {} ({detail}); ingest again", reason.text()))
    })?;
    let decoded = (bench.image.width(), bench.image.height());
    for (view, place) in views.iter().zip(places) {
        let place = place.take().filter(|place| place.len() == 3 * usize::from(view.size_px).pow(2));
        let place = place.filter(|_| view.image_id == id).ok_or_else(|| {
            PipelineError::Usage(format!("image {id}, view {}: not like the views of others; plan again", view.view))
        })?;
        let crop = if decoded == whole { view.crop } else { view.crop.reduced(whole, decoded) };
        bench.executor.render_into(&bench.image, &View { crop, ..*view }, place)?;
    }
    Ok(())
}

/// The greatest reduction of a JPEG at which every crop still has as many pixels as its view.
fn reduction_for(views: &[View]) -> u32 {
    let suits = |reduction: &u32| {
        views.iter().all(|view| {
            let short_side = u32::from(view.crop.width_px.min(view.crop.height_px));
            short_side >= reduction * u32::from(view.size_px)
        })
    };
    [8, 4, 2].into_iter().find(suits).unwrap_or(1)
}

/// Groups for the views of an image and `batch - 1` like it, their pixels to be written, and the group of each view.
fn empty_groups(views: &[View], batch: usize) -> (Vec<ViewGroup>, Vec<usize>) {
    let mut groups: Vec<ViewGroup> = Vec::new();
    let mut group_of_slot = Vec::with_capacity(views.len());
    for view in views {
        let size_px = usize::from(view.size_px);
        let found = groups.iter().position(|g| g.kind == view.kind && g.size_px == size_px);
        let index = found.unwrap_or_else(|| {
            groups.push(ViewGroup { kind: view.kind, size_px, views: 0, pixels: Vec::new() });
            groups.len() - 1
        });
        groups[index].views += 1;
        group_of_slot.push(index);
    }
    for group in &mut groups {
        group.pixels = vec![0.0; group.views * batch * 3 * group.size_px * group.size_px];
    }
    (groups, group_of_slot)
}
