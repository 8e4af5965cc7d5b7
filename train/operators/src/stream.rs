//! The stream of a GPU's work that a thread's operations go to. CubeCL 0.10 has one for each thread and lets a tensor of one be read
//! on another, but the memory of a tensor that is gone is written again on the stream that made it, which does not wait for
//! those that may still read it. So threads that hand each other tensors share a stream: what one does comes after what was
//! asked for before.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn_cubecl::cubecl::stream_id::StreamId;

/// A stream, on every GPU.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    id: StreamId,
}

impl Stream {
    /// The one that this thread's operations go to.
    pub fn current() -> Self {
        Self {
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            id: StreamId::current(),
        }
    }

    /// Has what this thread does in `body` go to it.
    pub fn executes<T>(self, body: impl FnOnce() -> T) -> T {
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        return self.id.executes(body);
        #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
        body()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_works_on_another_s_stream_as_long_as_it_is_told_to() {
        let name = |stream: Stream| format!("{stream:?}");
        let (here, own) = (Stream::current(), name(Stream::current()));
        let (before, within, after) = std::thread::spawn(move || {
            let before = name(Stream::current());
            (before, here.executes(|| name(Stream::current())), name(Stream::current()))
        })
        .join()
        .expect("ends");
        assert_eq!((within, &before), (own.clone(), &after));
        assert_eq!(before != own, cfg!(any(feature = "cuda", feature = "wgpu")));
    }
}
