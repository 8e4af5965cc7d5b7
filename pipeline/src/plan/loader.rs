//! The loader: turns steps of a plan into batches ahead of the trainer, on threads of its own.
//!
//! An image is decoded once for all its views. Batches come in order through a bounded channel, so that at most
//! `prefetch + 2` of them are in memory: each is 12 bytes a pixel of a view.

use crate::decode::{DecodeRule, decode_reduced_into};
use crate::images::{Fetched, ImageStore};
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
    /// Their pixels.
    pub pixels: Pixels,
}

/// Pixels of a group, shape `[views, batch, 3, size_px, size_px]`.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// Rendered whole and normalised.
    Rendered(Vec<f32>),
    /// Cropped and mirrored alone, in levels of 0 to 255, with the rows of the plan, shape `[views, batch]`, that say what
    /// is left to do.
    Cropped(Vec<u8>, Vec<View>),
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
    /// Leave all that follows the flip to the device.
    pub crops_only: bool,
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
        let LoaderOptions { prefetch, threads, .. } = options;
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
                    .and_then(|views| pool.install(|| load(&store, step, views, &kinds, options)));
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
pub fn load(
    store: &ImageStore,
    step: usize,
    views: &[View],
    kinds: &[ViewKind],
    options: LoaderOptions,
) -> Result<Batch> {
    let views: Vec<View> = views.iter().filter(|view| kinds.contains(&view.kind)).copied().collect();
    let Some(slots) = views.chunk_by(|a, b| a.position == b.position).next().map(<[View]>::len) else {
        return Err(PipelineError::Usage("the plan has no views that the objective reads".to_owned()));
    };
    let images: Vec<&[View]> = views.chunks(slots).collect();
    let shapes = group_shapes(images[0]);
    let ids: Vec<ImageId> = images.iter().map(|views| views[0].image_id).collect();
    let fetched = store.fetch(&ids)?;
    let scaled_decode = options.scaled_decode;
    let work = Work { images: &images, fetched: &fetched, rule: store.rule(), shapes: &shapes, scaled_decode };
    let pixels: Vec<Pixels> = if options.crops_only {
        let levels = work.fill(|executor, image, view, place: &mut [u8]| executor.crop_into(image, view, place))?;
        let rows =
            |shape: &Shape| shape.slots.iter().flat_map(|slot| images.iter().map(|views| views[*slot])).collect();
        levels.into_iter().zip(&shapes).map(|(levels, shape)| Pixels::Cropped(levels, rows(shape))).collect()
    } else {
        let rendered =
            work.fill(|executor, image, view, place: &mut [f32]| executor.render_into(image, view, place))?;
        rendered.into_iter().map(Pixels::Rendered).collect()
    };
    let group = |(shape, pixels): (&Shape, Pixels)| ViewGroup {
        kind: shape.kind,
        size_px: shape.size_px,
        views: shape.slots.len(),
        pixels,
    };
    Ok(Batch { step, ids, groups: shapes.iter().zip(pixels).map(group).collect() })
}

/// A group before it has pixels: the views of an image that belong to it, by index.
struct Shape {
    kind: ViewKind,
    size_px: usize,
    slots: Vec<usize>,
}

impl Shape {
    /// Values of a view.
    fn plane(&self) -> usize {
        3 * self.size_px * self.size_px
    }
}

/// The groups of the views of an image.
fn group_shapes(views: &[View]) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    for (slot, view) in views.iter().enumerate() {
        let size_px = usize::from(view.size_px);
        match shapes.iter_mut().find(|shape| shape.kind == view.kind && shape.size_px == size_px) {
            Some(shape) => shape.slots.push(slot),
            None => shapes.push(Shape { kind: view.kind, size_px, slots: vec![slot] }),
        }
    }
    shapes
}

/// The images of a batch and what is wanted of them.
struct Work<'a> {
    images: &'a [&'a [View]],
    fetched: &'a Fetched,
    rule: DecodeRule,
    shapes: &'a [Shape],
    scaled_decode: bool,
}

impl Work<'_> {
    /// The values of each group, each view written where it belongs by `write`.
    fn fill<T: Copy + Default + Send>(
        &self,
        write: impl Fn(&mut Executor, &Raster, &View, &mut [T]) -> Result<()> + Sync,
    ) -> Result<Vec<Vec<T>>> {
        let batch = self.images.len();
        let slots = self.images[0].len();
        let mut groups: Vec<Vec<T>> =
            self.shapes.iter().map(|shape| vec![T::default(); shape.slots.len() * batch * shape.plane()]).collect();
        // Where each view's values belong, image by image.
        let mut places: Vec<Option<&mut [T]>> = (0..batch * slots).map(|_| None).collect();
        for (shape, values) in self.shapes.iter().zip(&mut groups) {
            let targets = shape.slots.iter().flat_map(|slot| (0..batch).map(move |image| image * slots + slot));
            values.chunks_exact_mut(shape.plane()).zip(targets).for_each(|(view, target)| places[target] = Some(view));
        }
        let work = self.images.par_iter().enumerate().zip(places.par_chunks_mut(slots)).with_max_len(1);
        work.try_for_each(|((i, views), places)| {
            WORKBENCH.with_borrow_mut(|bench| self.render_image(bench, self.fetched.get(i), views, places, &write))
        })?;
        Ok(groups)
    }

    /// Decodes an image and renders its views, each into its place.
    fn render_image<T>(
        &self,
        bench: &mut Workbench,
        bytes: &[u8],
        views: &[View],
        places: &mut [Option<&mut [T]>],
        write: impl Fn(&mut Executor, &Raster, &View, &mut [T]) -> Result<()>,
    ) -> Result<()> {
        let id = views[0].image_id;
        let reduction = if self.scaled_decode { reduction_for(views) } else { 1 };
        let whole =
            decode_reduced_into(bytes, self.rule, reduction, &mut bench.image).map_err(|(reason, detail)| {
                PipelineError::Usage(format!("image {id}: {} ({detail}); ingest again", reason.text()))
            })?;
        let decoded = (bench.image.width(), bench.image.height());
        for (view, place) in views.iter().zip(places) {
            let place = place.take().filter(|place| place.len() == 3 * usize::from(view.size_px).pow(2));
            let place = place.filter(|_| view.image_id == id).ok_or_else(|| {
                let text = format!("image {id}, view {}: not like the views of others; plan again", view.view);
                PipelineError::Usage(text)
            })?;
            let crop = if decoded == whole { view.crop } else { view.crop.reduced(whole, decoded) };
            write(&mut bench.executor, &bench.image, &View { crop, ..*view }, place)?;
        }
        Ok(())
    }
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
